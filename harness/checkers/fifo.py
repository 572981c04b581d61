"""Is there an order of all operations in which this was one first-in-first-out queue? Linearizability, without search.

*value*: one copy in the queue, each enqueued at most once. *a before b*: a was answered before b was invoked; intervals
are closed, so operations that touch are concurrent. *kept*: enqueue answered OK, never dequeued. *pending*: never
answered. Failed operations have not happened. This applies to pulled dequeues alone: a push has no invocation.

**Answered operations.** With distinct values a history is linearizable iff it shows no bad pattern: a value dequeued
before its enqueue, twice, or never enqueued; values a, b with `enq a` before `enq b` and `deq b` before `deq a` (never,
if a is kept); an answer "empty" over an interval that values cover (harness/checkers/emptiness.py). Source: T. A.
Henzinger, A. Sezgin, V. Vafeiadis, "Aspect-oriented linearizability proofs", CONCUR 2013, LNCS 8052, 242-256; also
A. Bouajjani, M. Emmi, C. Enea, J. Hamza, "On reducing linearizability to state reachability", ICALP 2015, LNCS 9135,
95-107. For all values at once: in order of the enqueues' invocations, a running minimum from the end gives for each a

    overtaken(a) = the first answer to a dequeue of any b with `enq a` before `enq b`,

and a is overtaken iff overtaken(a) < invocation of deq a.

**Pending enqueues.** If its value was dequeued, an enqueue ended no later than that dequeue, which makes it precede
nothing that matters: it counts as ended at FOREVER. If not, leaving it out explains no less: it is dropped.

**Pending dequeues** (here the published result ends, and what follows is ours). A pending dequeue invoked at q that
took the kept value x is a dequeue over [q, FOREVER]. It never precedes anything, so it can only help: x must be
taken

- by q <= overtaken(x), where that is finite: x was *passed over*;
- by q <= t, where an answer "empty" is to be explained at the moment t and x was stored before t.

So a value has a deadline, and pending dequeues suffice iff they can be handed out by deadlines: the first i deadlines
need i pending dequeues that were invoked by the i-th. Both kinds of deadline, and the order among kept values, agree
with the order in which kept values were stored: overtaken(x) ascends with it, overtaken(x) is later than the end of
`enq x`, and whatever precedes a value that must be taken must be taken too. The values due by a moment T are thus the
first so many of those stored: as many as are passed over by T, or as were stored before the last chosen t <= T,
whichever is more. Hence the two conditions part: the passed over values alone meet their deadlines, and each "empty"
finds a moment t at which no more kept values were stored before t than pending dequeues were invoked by t. The moments
need not be chosen together, and nothing is left undecided.

**Values that came back** (ours, too). A queue that delivers at least once hands a value out again if whoever took it
did not settle it: out of order by contract. If the first *answered* dequeue of a value may have brought it back
(`may_return`), then it was its first dequeue all the same, or a pending one, invoked at q, had taken the value before:
over [q, d], where d is that answer. So a returned value that is overtaken needs a pending dequeue just as one that is
passed over does, by the same deadline, from the same stock. Once it has one, it counts for the answers "empty" as kept
with its taker: a pair that the counting above makes nothing of as soon as it is out. For answers that are false then,
the returned values that lay about them are given takers, too, if there are enough. If some stay false, nothing is
decided of those that would be true if each could hand out all takers anew (`undecided`). So what is HELD has an
explanation, and what is VIOLATED has none.

The cost is O(n log n), for sorting what is not sorted yet; it is linear where little was concurrent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from harness.checkers.anomaly import Anomaly
from harness.checkers.emptiness import Inside, false_empties
from harness.checkers.queue_operations import FOREVER, Dequeues, Enqueues, Matched, match
from harness.checkers.queue_witnesses import Rows, Teller
from harness.guarantee import LINEARIZABLE_FIFO, Status
from harness.history.history import Array
from harness.operation import Outcome

PATTERNS: Mapping[str, str] = {
    "phantom": "{n} dequeues of a value that nobody enqueued",
    "visible_failure": "{n} dequeues of a value whose enqueue was refused for certain",
    "dequeued_twice": "{n} values dequeued more than once",
    "dequeued_early": "{n} values dequeued before they were enqueued",
    "overtaken": "{n} values dequeued after one that was enqueued later",
    "passed_over": "{n} values never dequeued, though one that was enqueued later was",
    "false_empty": "{n} answers 'empty' while the queue cannot have been empty",
}
"""Every bad pattern, in the words of a verdict. A value is set aside once a pattern has told of it, so that one wrong
is reported once: what was passed over is not held against the answers "empty" that come after it."""

UNDECIDED = "{n} answers 'empty' are true only if a value had been taken before by a dequeue that was never answered"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFindings:
    """What the history of one queue shows.

    `anomalies`: every bad pattern of PATTERNS by its name, also what was not found. `rows`: the operations that each
    of an anomaly's witnesses points at. `enqueued`, `dequeued`, `empties`: operations answered OK. `pending`: never
    answered. `undecided`: answers "empty" that are true only if some value had been taken before, and came back.
    """

    anomalies: Mapping[str, Anomaly]
    rows: Mapping[str, tuple[Rows, ...]]
    enqueued: int
    dequeued: int
    empties: int
    pending: int
    undecided: int = 0

    @property
    def violated(self) -> bool:
        """Whether no order of the operations explains the history."""
        return any(self.anomalies.values())

    @property
    def linearizable(self) -> bool:
        """Whether some order of the operations does."""
        return not self.violated and not self.undecided

    @property
    def status(self) -> Status:
        """VIOLATED by any bad pattern; HELD without, if nothing is undecided and a dequeue was answered: else nothing
        was at stake."""
        if self.violated:
            return Status.VIOLATED
        return Status.HELD if self.dequeued + self.empties and not self.undecided else Status.UNKNOWN

    @property
    def patterns(self) -> str:
        """The bad patterns that were found, in words."""
        return "; ".join(PATTERNS[name].format(n=one.count) for name, one in self.anomalies.items() if one)

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        said = f"{LINEARIZABLE_FIFO} {self.status}: "
        if self.status is Status.VIOLATED:
            return said + self.patterns
        if self.undecided:
            return said + UNDECIDED.format(n=self.undecided)
        if self.status is Status.UNKNOWN:
            return said + "no dequeue was answered, so nothing was at stake"
        return (
            f"{said}one order explains {self.enqueued} enqueues, {self.dequeued} dequeues and {self.empties} answers "
            f"'empty', with {self.pending} operations never answered"
        )


def check(enqueues: Enqueues, dequeues: Dequeues, *, may_return: Array | None = None) -> QueueFindings:
    """Decide whether the operations of one queue are linearizable, and point at what shows that they are not.

    `may_return`: bool, one a row of `dequeues`: whether what it brought may have been taken before and come back; None:
    nothing comes back. Raises ValueError if two enqueues that may both have taken effect have one value.
    """
    matched = match(enqueues, dequeues)
    early = matched.dequeue_completed_ns < matched.enqueue_invoked_ns
    kept = (matched.dequeue_completed_ns == FOREVER) & (matched.enqueue_completed_ns != FOREVER)
    if early.any():
        matched = _set_aside(matched, early)
    takers_ns = np.sort(dequeues.invoked_ns[dequeues.outcome == Outcome.INFO])
    returned = np.zeros(len(kept), np.bool_)
    if may_return is not None and len(takers_ns):
        returned[matched.at[may_return[matched.dequeue_rows]]] = True
        returned &= ~early
    overtaken, excusable, overtaken_ns = _overtaken(matched, kept | returned)
    accused = _not_excused(excusable, overtaken_ns, takers_ns)
    passed_over = accused[kept[accused]]
    overtaken = np.union1d(overtaken, accused[returned[accused]])
    kept[passed_over] = False
    excused = ~np.isin(excusable, accused)
    taken_before = np.zeros(len(kept), np.bool_)
    taken_before[excusable[excused]] = returned[excusable[excused]]

    empty = np.flatnonzero(dequeues.empty & (dequeues.outcome == Outcome.OK))
    inside, false, undecided = None, empty, 0
    if len(empty):
        answers = _Empties(
            matched=matched,
            kept=kept,
            returned=returned,
            takers_ns=takers_ns,
            due_ns=overtaken_ns[excused],
            invoked_ns=dequeues.invoked_ns[empty],
            completed_ns=dequeues.completed_ns[empty],
        )
        inside, wrong, undecided = answers.decide(taken_before)
        false = empty[wrong]
    tell = Teller(enqueues, dequeues, matched)
    strange = matched.strange
    refused = np.zeros(len(strange), np.bool_)
    if len(strange):
        refused = np.isin(dequeues.value[strange], enqueues.value[enqueues.outcome == Outcome.FAIL])
    found = {
        "phantom": tell.of_strangers("phantom", strange[~refused], "which nobody enqueued"),
        "visible_failure": tell.of_strangers("visible_failure", strange[refused], "whose enqueue had failed"),
        "dequeued_twice": tell.of_values("dequeued_twice", matched.repeated, tell.repeated),
        "dequeued_early": tell.of_values("dequeued_early", np.flatnonzero(early), tell.early),
        "overtaken": tell.of_values("overtaken", overtaken, tell.overtaken),
        "passed_over": tell.of_values("passed_over", passed_over, tell.overtaken),
        "false_empty": tell.of_empties("false_empty", false, inside),
    }
    return QueueFindings(
        anomalies={name: anomaly for name, (anomaly, _) in found.items()},
        rows={name: rows for name, (_, rows) in found.items()},
        enqueued=int(np.count_nonzero(enqueues.outcome == Outcome.OK)),
        dequeued=len(matched.at) + len(strange),
        empties=len(empty),
        pending=int(np.count_nonzero(enqueues.outcome == Outcome.INFO)) + len(takers_ns),
        undecided=undecided,
    )


def _set_aside(matched: Matched, values: Array) -> Matched:
    """The same, with these values (a boolean array) in nobody's way: stored at FOREVER, and never dequeued."""
    return replace(
        matched,
        enqueue_completed_ns=np.where(values, FOREVER, matched.enqueue_completed_ns),
        dequeue_invoked_ns=np.where(values, FOREVER, matched.dequeue_invoked_ns),
        dequeue_completed_ns=np.where(values, FOREVER, matched.dequeue_completed_ns),
    )


def _overtaken(matched: Matched, kept: Array) -> tuple[Array, Array, Array]:
    """Positions of values dequeued too late; then of kept values that were overtaken, with overtaken(x) of each."""
    first_answer = np.full(len(matched.value) + 1, FOREVER)  # to a dequeue of this value or one enqueued after it
    np.minimum.accumulate(matched.dequeue_completed_ns[::-1], out=first_answer[-2::-1])
    # A value's successors include all that are enqueued wholly after it: most need no look at when that begins.
    suspects = np.flatnonzero(first_answer[1:] < matched.dequeue_invoked_ns)
    after = np.searchsorted(matched.enqueue_invoked_ns, matched.enqueue_completed_ns[suspects], side="right")
    overtaken_ns = first_answer[after]
    found = overtaken_ns < matched.dequeue_invoked_ns[suspects]
    suspects, overtaken_ns = suspects[found], overtaken_ns[found]
    never = kept[suspects]
    return suspects[~never], suspects[never], overtaken_ns[never]


def _not_excused(positions: Array, overtaken_ns: Array, takers_ns: Array) -> Array:
    """Positions of the overtaken kept values for which no pending dequeue is left, handed out by deadline.

    With D(i) pending dequeues invoked by the i-th deadline, taken(i) = min(taken(i - 1) + 1, D(i)), and so
    taken(i) - i is the running minimum of D(i) - i and 0.
    """
    if len(takers_ns) == 0:
        return positions
    order = np.argsort(overtaken_ns, kind="stable")
    place = np.arange(1, len(order) + 1)
    due = np.searchsorted(takers_ns, overtaken_ns[order], side="right")
    short = np.maximum.accumulate(np.maximum(place - due, 0))
    return np.sort(positions[order[np.diff(short, prepend=0) > 0]])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Empties:
    """The answers "empty", and all that may have been inside meanwhile. `due_ns`: by when each pending dequeue is
    needed that excuses a value from having been overtaken, or passed over."""

    matched: Matched
    kept: Array
    returned: Array
    takers_ns: Array
    due_ns: Array
    invoked_ns: Array
    completed_ns: Array

    def decide(self, taken_before: Array) -> tuple[Inside, Array, int]:
        """What was inside, which answers are false, and of how many nothing is decided. `taken_before`: the returned
        values of which pending dequeues are known to have taken them."""
        inside, false = self._false(taken_before)
        if not false.any() or not self.returned.any():
            return inside, false, 0
        more = self.returned & ~taken_before & self._about(false)
        if self._can_spare(more):
            inside, left = self._false(taken_before | more)
            if not left.any():
                return inside, left, 0
        inside, certain = self._false(np.zeros_like(taken_before), lent=self.returned)
        return inside, certain, int(np.count_nonzero(false & ~certain))

    def _false(self, taken_before: Array, lent: Array | None = None) -> tuple[Inside, Array]:
        """What was inside, and which answers are false, where these values had been taken before, each by a pending
        dequeue; or where each of these needs one only at the moment of the answer."""
        matched = self.matched
        if lent is None:
            lent = np.zeros_like(taken_before)
        dequeued = (matched.dequeue_invoked_ns != FOREVER) & ~taken_before & ~lent
        kept = self.kept | taken_before
        inside = Inside(
            stored_ns=matched.enqueue_completed_ns[dequeued],
            taken_ns=matched.dequeue_invoked_ns[dequeued],
            kept_ns=matched.enqueue_completed_ns[kept],
            takers_ns=self.takers_ns,
            dequeued=np.flatnonzero(dequeued),
            kept=np.flatnonzero(kept),
            lent_ns=matched.enqueue_completed_ns[lent],
            back_ns=matched.dequeue_invoked_ns[lent],
            lent=np.flatnonzero(lent),
        )
        return inside, false_empties(inside, self.invoked_ns, self.completed_ns)

    def _can_spare(self, values: Array) -> bool:
        """Whether there are pending dequeues for these values, too, each by the time of its return."""
        due_ns = np.concatenate([self.due_ns, self.matched.dequeue_invoked_ns[values]])
        return len(_not_excused(np.arange(len(due_ns)), due_ns, self.takers_ns)) == 0

    def _about(self, false: Array) -> Array:
        """Values that were inside at some moment of one of these answers."""
        begins, ends = np.sort(self.invoked_ns[false]), np.sort(self.completed_ns[false])
        stored_ns, taken_ns = self.matched.enqueue_completed_ns, self.matched.dequeue_invoked_ns
        begun = np.searchsorted(begins, taken_ns, side="left")
        ended = np.searchsorted(ends, stored_ns, side="right")
        return np.asarray((stored_ns < taken_ns) & (begun > ended))
