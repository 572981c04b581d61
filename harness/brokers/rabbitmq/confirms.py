"""Which publishes has the broker answered? Its answers, single or "all up to here", as ranges that are told once.

*Delivery tags* count the publishes of one channel from 1, as the broker counts them; the client's own tags are as the
caller counts them. basic.return names no tag: it comes before the ack of the message it returns, and is joined to it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from harness.brokers.rabbitmq.errors import NACK, outcome_of
from harness.operation import Outcome

Answer = tuple[int, int, Outcome, str]
"""First and last of a closed range of the client's tags, what became of them, and "" or the error's code."""


class Confirms:
    """The unanswered publishes of one channel."""

    def __init__(self, *, refuses: bool) -> None:
        self._refuses = refuses
        self._tags = array("Q")  # the client's tag of each delivery tag, less one
        self._answered_up_to = 0
        self._answered: set[int] = set()  # beyond that
        self._returned: dict[int, str] = {}  # the client's tag -> reply code

    def handed(self, tag: int) -> None:
        """The next publish of the channel is the client's `tag`; they rise."""
        self._tags.append(tag)

    def returned(self, tag: int, code: str) -> None:
        """The broker returned that publish; its ack is still to come."""
        self._returned[tag] = code

    def answer(self, delivery_tag: int, *, multiple: bool, ack: bool) -> Iterator[Answer]:
        """The broker answered: what is new in that."""
        # 0 stands for everything so far; no tag of ours is beyond what was handed over.
        last = min(delivery_tag, len(self._tags)) if delivery_tag else len(self._tags)
        first = self._answered_up_to + 1 if multiple or not delivery_tag else last
        for start, end in self._news(first, last):
            yield from self._tell(start, end, ack=ack)

    def _news(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Ranges of delivery tags in [first, last] that had no answer yet, and have one now."""
        if last <= self._answered_up_to:
            return
        known = sorted(tag for tag in self._answered if first <= tag <= last) if self._answered else []
        start = first
        for tag in [*known, last + 1]:
            if start < tag:
                yield start, tag - 1
            start = tag + 1
        if first == self._answered_up_to + 1:
            self._answered_up_to = last
            self._answered.difference_update(known)
            while self._answered_up_to + 1 in self._answered:
                self._answered_up_to += 1
                self._answered.discard(self._answered_up_to)
        else:
            self._answered.update(range(first, last + 1))

    def _tell(self, start: int, end: int, *, ack: bool) -> Iterator[Answer]:
        good = (Outcome.OK, "") if ack else (outcome_of(NACK, refuses=self._refuses), NACK)
        first, last = self._tags[start - 1], self._tags[end - 1]
        if last - first == end - start and not self._returned:  # they rise, so none is missing between
            yield first, last, *good
            return
        for tag in self._tags[start - 1 : end]:
            code = self._returned.pop(tag, None)
            if code is None:
                yield tag, tag, *good
            else:
                yield tag, tag, outcome_of(code, refuses=self._refuses), code
