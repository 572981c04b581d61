"""Which field of somebody's rows says what? The meanings that Assay knows, and a user's own names for them.

publication.message=msg_id     the field `msg_id` of a publication says which message it was of
kind=type                      the field `type` says whether a row is a publication or a delivery
kind.publication=sent          ... and its word for a publication is `sent`
outcome.OK=acked               the outcome `acked` stands for OK
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.errors import Refused
from harness.operation import Outcome
from harness.plain import did_you_mean

PUBLICATION, DELIVERY = "publication", "delivery"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a field says. `form`: name, message, time, outcome, by, count, flag or word. `needed`: in every row."""

    form: str
    says: str
    needed: bool = False


MEANINGS: Mapping[str, Mapping[str, Meaning]] = {
    PUBLICATION: {
        "client": Meaning("name", "who published: one that does one call after the other", needed=True),
        "message": Meaning("message", "which message: a text or whole number that retries keep", needed=True),
        "invoked": Meaning("time", "when the library was called", needed=True),
        "completed": Meaning("time", "when the answer came, or the call returned; needed with OK and FAIL"),
        "outcome": Meaning(
            "outcome", "OK: it happened; FAIL: it did not and never will, for certain; INFO, or none: nobody knows"
        ),
        "attempt": Meaning("count", "1, 2, 3... of the message; else the order of its calls"),
        "epoch": Meaning("count", "1, 2, 3...: which connection of the client; else 1"),
        "route": Meaning("word", "exchange and key, or subject"),
        "acknowledged_by": Meaning("by", "broker (else), or nobody: OK means that the call returned"),
        "broker_sequence": Meaning("count", "what the broker's answer called it"),
        "duplicate": Meaning("flag", "whether the broker's answer called it a duplicate"),
        "error": Meaning("word", "code of the error"),
    },
    DELIVERY: {
        "client": Meaning("name", "who received", needed=True),
        "message": Meaning("message", "which message, as the publication says it; needed unless corrupt", needed=True),
        "received": Meaning("time", "when it was received", needed=True),
        "redelivered": Meaning("flag", "the broker's flag; order is only judged where it, or the count, is known"),
        "delivery_count": Meaning("count", "how often the broker says it delivered it, this time included"),
        "acknowledged": Meaning(
            "time", "when its acknowledgement was handed to the library; if no row has it: settled as it is sent"
        ),
        "settled": Meaning("time", "when the broker confirmed the acknowledgement"),
        "fetched": Meaning("time", "when the fetch that brought it was invoked; none for push"),
        "group": Meaning("word", "queue or durable consumer whose members share the messages; else one for all"),
        "attempt": Meaning("count", "of the message, as the payload says"),
        "number": Meaning("count", "1, 2, 3... within the client; else the order of receipt"),
        "epoch": Meaning("count", "1, 2, 3...: which connection of the client; else 1"),
        "broker_sequence": Meaning("count", "stream sequence or offset"),
        "corrupt": Meaning("flag", "whether the payload was not as it was published"),
    },
}
_CURE = "write --map publication.message=FIELD; `assay import --help` and docs/run-format.md list the meanings"


@dataclass(frozen=True, slots=True)
class FieldMap:
    """A user's names. `fields`: of each kind, the field of each meaning. `kind`: the field that says which kind a row
    is of; `kinds`, `outcomes`: what their words stand for, in small letters."""

    fields: Mapping[str, Mapping[str, str]]
    kind: str = "kind"
    kinds: Mapping[str, str] = field(default_factory=lambda: {PUBLICATION: PUBLICATION, DELIVERY: DELIVERY})
    outcomes: Mapping[str, Outcome] = field(default_factory=lambda: {one.name.lower(): one for one in Outcome})


def read_map(given: Sequence[str]) -> FieldMap:
    """The map that these words (`publication.message=msg_id`) give; what is not mapped keeps its own name.

    Raises Refused for words of another form, unknown meanings, and two meanings for one field.
    """
    fields = {kind: {meaning: meaning for meaning in meanings} for kind, meanings in MEANINGS.items()}
    plain = FieldMap(fields)
    named, kinds, outcomes = plain.kind, dict(plain.kinds), dict(plain.outcomes)
    for word in given:
        meaning, equals, own = word.partition("=")
        if not (meaning and equals and own):
            raise Refused(f"--map {word!r} is not of the form MEANING=FIELD", cure=_CURE)
        of, _, what = meaning.partition(".")
        if meaning == "kind":
            named = own
        elif of == "kind" and what in fields:
            kinds = {known: kind for known, kind in kinds.items() if known != what} | {own.lower(): what}
        elif of == "outcome" and what in Outcome.__members__:
            outcomes[own.lower()] = Outcome[what]
        elif of in fields and what in fields[of]:
            fields[of][what] = own
        else:
            hint = did_you_mean(meaning, _meanings())
            raise Refused(f"--map {word!r}: there is no meaning {meaning!r}{hint}", cure=_CURE)
    for kind, names in fields.items():
        owners: dict[str, str] = {}
        for meaning, own in names.items():
            if (other := owners.setdefault(own, meaning)) != meaning:
                raise Refused(
                    f"--map: the field {own!r} of a {kind} would say both {other} and {meaning}",
                    cure="map each meaning to a field of its own",
                )
    return FieldMap(fields, named, kinds, outcomes)


def describe_meanings() -> str:
    """Every meaning, as Markdown: the part of docs/run-format.md that is made from the code."""
    lines = ["| meaning | form | needed | says |", "| --- | --- | --- | --- |"]
    for kind, meanings in MEANINGS.items():
        for name, one in meanings.items():
            lines.append(f"| `{kind}.{name}` | {one.form} | {'yes' if one.needed else ''} | {one.says} |")
    return "\n".join(lines)


def _meanings() -> Iterator[str]:
    yield "kind"
    for kind, meanings in MEANINGS.items():
        yield f"kind.{kind}"
        yield from (f"{kind}.{meaning}" for meaning in meanings)
    yield from (f"outcome.{outcome.name}" for outcome in Outcome)
