"""How is it known that a fault bit? The facts that were measured, as sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.history.terms import InjectionTerms

_SIGNALS = {"exited 137": "exited 137: killed outright, SIGKILL", "exited 143": "exited 143: told to end, SIGTERM"}


def told(injection: InjectionTerms) -> tuple[str, ...]:
    """The evidence of an injection in sentences, none left out. Facts that no sentence is known for are named."""
    facts = dict(injection.facts)
    lines = [injection.why_not] if injection.why_not else []
    if injection.bit_ns is not None:
        lines.append(_spans(injection))
    for names, sentence in _SENTENCES:
        if all(name in facts for name in names):
            try:
                lines.append(sentence(*(facts[name] for name in names)))
            except (TypeError, ValueError, AttributeError):  # of another shape: named below, as it is
                continue
            for name in names:
                del facts[name]
    return tuple(lines + [f"{name.replace('_', ' ')}: {value}" for name, value in _flat(facts)])


def _spans(injection: InjectionTerms) -> str:
    bit = injection.bit_ns or 0
    parts = [f"it bit {_span(bit - injection.asked_ns)} after it was asked"]
    if injection.mended_ns is not None:
        parts.append(f"lasted {_span(injection.mended_ns - bit)}")
        if injection.recovered_ns is not None:
            parts.append(f"and all was whole again {_span(injection.recovered_ns - injection.mended_ns)} after mending")
        else:
            parts.append("and the system never recovered within the limit")
    else:
        parts.append("and was never mended")
    return ", ".join(parts)


def _span(length_ns: int) -> str:
    return f"{length_ns / 1e6:,.0f} ms" if length_ns < 1e9 else f"{length_ns / 1e9:,.2f} s"


def _crash(point: str, stage: str, pid: int, alive: bool) -> str:
    said = f"client process {pid} {'is still alive' if alive else 'is gone'}"
    if point:
        said += f"; its journal's last record is the crash point {point}"
        said += f", with what it sent {stage}" if stage else ""
    return said


def _unheard(silence_ms: float | None, held_ms: float, published: int) -> str:
    said = f"{published:,} messages were published in the {held_ms:,} ms that it held"
    if silence_ms is None:
        return f"{said}; who is hit hears nothing anyway"
    return f"{said}, and in the last {silence_ms:,} ms nothing was heard from the broker"


def _power(answered: Mapping[str, str], errors: Mapping[str, str], recovery: Mapping[str, bool]) -> str:
    each = [
        f"{node}: to the shutdown of its file system the kernel answered {answer!r}; a write afterwards "
        + (f"failed with {errors[node]!r}" if errors[node] else "did not fail")
        + f", and what is on its disk {'needs' if recovery[node] else 'does not need'} recovery"
        for node, answer in answered.items()
    ]
    return "; ".join(each)


def _bytes(what: str) -> Callable[[Mapping[str, int]], str]:
    def sentence(links: Mapping[str, int]) -> str:
        each = ", ".join(f"{count:,} on {link}" for link, count in links.items())
        return f"{sum(links.values()):,} bytes {what}: {each}" if links else f"no bytes {what}"

    return sentence


def _connections(names: list[str]) -> str:
    return f"{len(names)} {'connection' if len(names) == 1 else 'connections'} ended: {', '.join(names)}"


def _settings_read_back(links: Mapping[str, Mapping[str, Any]]) -> str:
    said = []
    for link, toxics in links.items():
        parts = ["cut"] if toxics.get("enabled") is False else []
        for name, toxic in toxics.items():
            if isinstance(toxic, dict):
                values = ", ".join(f"{key} {value}" for key, value in toxic["attributes"].items() if value)
                parts.append(f"{toxic['type']} {toxic['stream']}" + (f" ({values})" if values else ""))
            elif name != "enabled":
                parts.append(f"{name} {toxic}")
        said.append(f"{link}: {', '.join(parts) or 'nothing set'}")
    return f"read back from the proxy: {'; '.join(said)}"


_SENTENCES: tuple[tuple[tuple[str, ...], Callable[..., str]], ...] = (
    (
        ("pid_before", "state_after"),
        lambda pid, state: f"process {pid} was there before; the node's state after: {_SIGNALS.get(state, state)}",
    ),
    (
        ("pid_before", "state_held"),
        lambda pid, state: f"process {pid} was there before; its state while the fault held: {state}",
    ),
    (("crash_point", "stage", "pid", "alive"), _crash),
    (("shutdown_answered", "write_afterwards", "needs_recovery"), _power),
    (
        ("pid_before", "client_state_before", "client_state_held"),
        lambda pid, before, held: (
            f"client process {pid} was in the state {before} before, and in {held} while the fault held; T is stopped"
        ),
    ),
    (
        ("broker_gave_it_up", "broker_said"),
        lambda gone, said: (
            "nobody says whether the broker gave it up"
            if gone is None
            else f"the broker gave it up: {said or 'it said not why'}"
            if gone
            else "the broker still lists it"
        ),
    ),
    (
        ("held_unsettled", "prefetch", "settled"),
        lambda held, limit, settled: (
            f"it held {held} of the {limit} deliveries that it may hold, and settled {settled}"
        ),
    ),
    (
        ("worked_hz", "asked_pace_hz", "usual_hz", "published_hz", "backlog_grew_by"),
        lambda worked, asked, usual, published, grew: (
            f"consumers worked off {worked:,}/s, told to do {asked:,}/s, where {usual:,}/s were usual; {published:,}/s "
            f"were published, so {grew:,} more waited"
        ),
    ),
    (("connections_ended",), _connections),
    (("bytes_withheld",), _bytes("withheld")),
    (("bytes_inside_at_most",), _bytes("at most inside the links when they were cut")),
    (
        ("silence_ms", "asked_ms", "usual_silence_ms"),
        lambda silence, asked, usual: (
            f"each client heard nothing for {silence:,} ms, of {asked:,} ms asked; {usual:,} ms were usual before"
        ),
    ),
    (("silence_ms", "held_ms", "published_meanwhile"), _unheard),
    (("read_back",), _settings_read_back),
    (("started_before",), lambda started: f"the process had been started at {started}"),
)


def _flat(facts: Mapping[str, object], above: str = "") -> list[tuple[str, object]]:
    lines: list[tuple[str, object]] = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines += _flat(value, f"{above}{name} ")
        else:
            said = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            lines.append((f"{above}{name}", said))
    return lines
