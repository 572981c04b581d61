"""What did one finished run show? Its directory, opened and judged when it is asked; and what a test demands of it.

Works from files alone: no broker, engine or driver is needed to judge a run again.
"""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import Refused, Undecided, Violated
from harness.guarantee import GUARANTEES, Guarantee, Status, Verdict
from harness.plain import did_you_mean

if TYPE_CHECKING:
    from harness.checkers.judge import Judgement
    from harness.history.history import History

SESSION_FILE = "session.json"
_WITNESSES_SHOWN = 3


class Run:
    """A run directory, `reports/<session>/runs/<cell>`.

    Nothing is read before it is asked for. `seed` is the session's, for the command that reproduces the run; without
    it the session's file beside the runs is asked. Raises Refused (when asked) where the directory is no run.
    """

    def __init__(self, path: Path | str, *, seed: int | None = None) -> None:
        self.path = Path(path)
        self._seed = seed

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @functools.cached_property
    def history(self) -> History:
        """What was recorded. A run whose harness was killed is frozen now, as interrupted.

        Raises Refused for what is damaged, or cannot have happened.
        """
        from harness.history import plausible, proceedings, store
        from harness.history.freeze import freeze_abandoned
        from harness.history.tables import FREEZE_AGAIN

        if store.is_run(self.path) and not store.is_frozen(self.path):
            return plausible.check(freeze_abandoned(self.path), self.path, cure=proceedings.CURE)
        return plausible.check(store.read_history(self.path), self.path, cure=FREEZE_AGAIN)

    @functools.cached_property
    def judgement(self) -> Judgement:
        """What the history shows of every guarantee."""
        from harness.checkers.judge import judge

        return judge(self.history)

    @functools.cached_property
    def scenario(self) -> Mapping[str, Any]:
        """What was run, as plain data."""
        from harness.history.store import read_scenario

        return read_scenario(self.path)

    @functools.cached_property
    def plan(self) -> Mapping[str, Any]:
        """The plan that was carried out, as plain data."""
        from harness.history.store import read_plan

        return read_plan(self.path)

    @property
    def claims(self) -> tuple[Guarantee, ...]:
        """The guarantees that documentation claims of this configuration in the presence of this fault."""
        return tuple(dict.fromkeys(_guarantee(claim.guarantee) for claim in self.history.terms.claims))

    def verdict(self, guarantee: Guarantee | str) -> Verdict:
        """What the history shows of one guarantee: UNKNOWN where it does not speak of it at all (of processing, where
        nothing was processed). Raises Refused for a name that is none."""
        name = _guarantee(guarantee).name
        silent = "the history does not speak of it"
        return self.judgement.verdicts.get(name) or Verdict(name, Status.UNKNOWN, silent, reasons=(silent,))

    def must_keep(self, *guarantees: Guarantee | str) -> None:
        """Demand that these guarantees (none named: the claims in scope) are HELD.

        Raises Violated if one is violated; else Undecided if one is UNKNOWN, or if the run did not come to its end.
        """
        verdicts = [self.verdict(guarantee) for guarantee in guarantees or self.claims]
        if violated := [verdict for verdict in verdicts if verdict.status is Status.VIOLATED]:
            raise Violated(self._say(violated, self._violation))
        if unknown := [verdict for verdict in verdicts if verdict.status is not Status.HELD]:
            raise Undecided(self._say(unknown, self._doubt))
        if interrupted := self.history.terms.interrupted:
            raise Undecided(f"nothing can be said: the run did not come to its end: {interrupted}\n{self._where()}")

    def must_violate(self, *guarantees: Guarantee | str) -> None:
        """Demand that these guarantees are VIOLATED: the run must show the anomaly that a textbook predicts.

        Raises Violated if one is HELD; else Undecided if one is UNKNOWN; Refused if none is named.
        """
        if not guarantees:
            raise Refused("must_violate needs the guarantee that is expected to break", cure="name at least one")
        verdicts = [self.verdict(guarantee) for guarantee in guarantees]
        if held := [verdict for verdict in verdicts if verdict.status is Status.HELD]:
            raise Violated(self._say(held, self._unseen))
        if unknown := [verdict for verdict in verdicts if verdict.status is not Status.VIOLATED]:
            raise Undecided(self._say(unknown, self._doubt))

    @property
    def command(self) -> str:
        """The command that runs this cell again with the same seed; of a history that was recorded elsewhere, the one
        that judges it again."""
        seed = self._seed if self._seed is not None else self._session_seed()
        terms = self.history.terms
        if terms.recorded_by:
            return f"assay recheck {shlex.quote(str(self.path))}"
        if seed is None:
            return f"assay replay {shlex.quote(str(self.path))}"
        return reproduce(terms.configuration, "+".join(terms.faults), seed)

    # ---- words -----------------------------------------------------------------------------------------------------

    def _say(self, verdicts: list[Verdict], story: Callable[[Verdict], list[str]]) -> str:
        lines = [line for verdict in verdicts for line in story(verdict)]
        return "\n".join([*lines, self._where()])

    def _violation(self, verdict: Verdict) -> list[str]:
        name = _spoken(verdict.guarantee)
        lines = [f"{name} violated: {found(verdict)}", f"  promised: {GUARANTEES[verdict.guarantee].promise}"]
        if verdict.claimed and verdict.page:
            lines.append(f"  claimed by: {verdict.page}")
        lines += [f"  witness: {witness.story}" for witness in verdict.witnesses[:_WITNESSES_SHOWN]]
        if (more := len(verdict.witnesses) - _WITNESSES_SHOWN) > 0:
            lines.append(f"  and {more} more")
        return lines

    def _doubt(self, verdict: Verdict) -> list[str]:
        lines = [f"{_spoken(verdict.guarantee)} unknown: {found(verdict)}"]
        return lines + [f"  because: {reason}" for reason in verdict.reasons]

    def _unseen(self, verdict: Verdict) -> list[str]:
        return [
            f"{_spoken(verdict.guarantee)} was expected to break, and held: {found(verdict)}",
            f"  promised: {GUARANTEES[verdict.guarantee].promise}",
        ]

    def _where(self) -> str:
        return f"  seed {self.history.terms.seed}; {self.path}\n  again: {self.command}"

    def _session_seed(self) -> int | None:
        try:
            seed = json.loads((self.path.parent.parent / SESSION_FILE).read_text())["seed"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return seed if isinstance(seed, int) else None


def reproduce(configuration: str, fault: str, seed: int) -> str:
    """The command that runs the cells of a configuration and a fault with a session's seed."""
    return (
        f"assay verify --configuration {shlex.quote(configuration)} --fault {shlex.quote(fault)} --assay-seed {seed:d}"
    )


def found(verdict: Verdict) -> str:
    """A verdict's sentence without the guarantee and the status that it begins with."""
    return verdict.sentence.removeprefix(f"{verdict.guarantee} {verdict.status}: ")


def _guarantee(guarantee: Guarantee | str) -> Guarantee:
    name = guarantee if isinstance(guarantee, str) else guarantee.name
    try:
        return GUARANTEES[name]
    except KeyError:
        raise Refused(
            f'unknown guarantee "{name}"{did_you_mean(name, GUARANTEES)}', cure=f"one of {', '.join(GUARANTEES)}"
        ) from None


def _spoken(name: str) -> str:
    """at_least_once -> at-least-once, as a sentence has it."""
    return name.replace("_", "-")
