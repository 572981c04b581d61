"""What does an answer to a publish prove? Only what stands in this table is a definite failure; all else is doubt.

*Definite*: this publish was not stored and never will be. An answer that is not listed says nothing about whether the
message is stored: "duplicate message id is in process" (10158) waits for another copy's fate, "raft: not leader" can
come after the message was proposed, and so can "insufficient resources" (10023) of a server older than 2.12.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from harness.operation import Outcome

NO_RESPONDERS = "503"


@dataclass(frozen=True, slots=True, kw_only=True)
class Definite:
    """One answer that proves that nothing was stored. `says`: how its description begins ("": whatever it says).
    `since`: the first version of the server of which that is so; (): of every one."""

    code: str
    reason: str
    proof: str
    says: str = ""
    since: tuple[int, ...] = ()


DEFINITE: tuple[Definite, ...] = (
    Definite(
        code=NO_RESPONDERS,
        reason="no responders: no stream listens on the subject, or it has no leader",
        proof="the server answers so only when it has handed the message to nobody, on no node",
    ),
    Definite(
        code="10054",
        reason="message size exceeds the stream's maximum",
        proof="compared with the stream's limit before anything is stored or proposed",
    ),
    Definite(
        code="10060",
        reason="expected stream does not match",
        proof="the header Nats-Expected-Stream is compared before anything is stored or proposed",
    ),
    Definite(
        code="10070",
        reason="wrong last message id",
        proof="the header Nats-Expected-Last-Msg-Id is compared before anything is stored or proposed",
    ),
    Definite(
        code="10071",
        reason="wrong last sequence",
        proof="the header Nats-Expected-Last-Sequence is compared before anything is stored or proposed",
    ),
    Definite(
        code="10164",
        reason="wrong last sequence",
        proof="the same comparison, in the form that names no sequence",
    ),
    Definite(
        code="10167",
        reason="too many requests",
        proof="the stream's inbound queue was full: the message was refused before it entered it",
    ),
    Definite(
        code="10023",
        reason="insufficient resources: the server stores more than its limit of memory or of files",
        proof="compared before anything is stored or proposed; until 2.11 a leader also said so of what was committed",
        since=(2, 12),
    ),
    Definite(
        code="10077",
        says="maximum messages exceeded",
        reason="discard-new: the stream is full by its number of messages",
        proof="the store refuses the message before it takes a sequence; every other text of 10077 proves nothing",
    ),
    Definite(
        code="10077",
        says="maximum bytes exceeded",
        reason="discard-new: the stream is full by its size",
        proof="the store refuses the message before it takes a sequence",
    ),
    Definite(
        code="10077",
        says="maximum messages per subject exceeded",
        reason="discard-new: the subject is full",
        proof="the store refuses the message before it takes a sequence",
    ),
)


class Answer(NamedTuple):
    """What the answer to a publish says. `sequence`: in the stream, 0 for none; `error`: "" for OK, else a code."""

    outcome: Outcome
    sequence: int
    duplicate: bool
    error: str


def read_answer(body: bytes, headers: Mapping[str, str] | None, version: tuple[int, ...] = ()) -> Answer:
    """Read the answer to a publish, of a server of that version, () where it is not known. What cannot be read proves
    nothing: INFO. Never raises.

    >>> read_answer(b'{"stream": "orders", "seq": 7, "duplicate": true}', None)
    Answer(outcome=<Outcome.OK: 1>, sequence=7, duplicate=True, error='')
    >>> read_answer(b"", {"Status": "503"}).outcome.name
    'FAIL'
    """
    if not body:
        status = (headers or {}).get("Status", "empty-answer")
        return Answer(outcome_of(status, "", version), 0, False, status)
    try:
        said = json.loads(body)
        error = said.get("error")
        if error is None:
            return Answer(Outcome.OK, int(said["seq"]), bool(said.get("duplicate", False)), "")
        if error.get("err_code"):
            code = str(error["err_code"])
            return Answer(outcome_of(code, str(error.get("description", "")), version), 0, False, code)
        # "503" is definite only of an answer without a body: nobody took the message.
        return Answer(Outcome.INFO, 0, False, str(error.get("code") or "unknown-error"))
    except (ValueError, TypeError, KeyError, AttributeError):
        return Answer(Outcome.INFO, 0, False, "unreadable-answer")


def outcome_of(code: str, description: str, version: tuple[int, ...] = ()) -> Outcome:
    """FAIL for a definite error of a server of that version, else INFO."""
    for definite in DEFINITE:
        if definite.code == code and version >= definite.since and description.startswith(definite.says):
            return Outcome.FAIL
    return Outcome.INFO
