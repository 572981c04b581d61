"""How fast do the clients work now, and what is under way? Read from their live counters, while they work."""

from __future__ import annotations

from dataclasses import dataclass

from harness.operation import AckKind, Role
from harness.runner.crew import Crew
from harness.system.system import Client


@dataclass(slots=True)
class Load:
    """How fast the clients work now, from their live counters."""

    crew: Crew
    confirms: bool
    astray: int = 0
    """Messages handed over that will not be received any more, as far as the last quiet phase shows."""

    def totals(self) -> tuple[int, int]:
        """(good publications, deliveries) of all clients so far: confirmed ones where the broker confirms."""
        good = received = 0
        for client in self.crew.all():
            good += self.good_of(client)
            received += client.counters().received
        return good, received

    def good_of(self, client: Client) -> int:
        """Good publications of one client so far."""
        counters = client.counters()
        return counters.acked if self.confirms else counters.handed

    def unreceived(self) -> int:
        """Messages handed over less deliveries, of all clients so far."""
        return sum(client.counters().handed - client.counters().received for client in self.crew.all())

    def at_risk(self, touches: str, ack: AckKind) -> int:
        """Operations under way now, as far as a fault that touches that role can endanger them."""
        unanswered = unsettled = handed = received = 0
        for client in self.crew.all():
            counters = client.counters()
            handed += counters.handed
            received += counters.received
            if client.alive():
                if client.role is Role.PRODUCER and self.confirms:
                    unanswered += max(counters.handed - counters.answered, 0)
                if client.role is Role.CONSUMER and ack is not AckKind.AUTOMATIC:
                    unsettled += counters.holding
        if not self.confirms or ack is AckKind.AUTOMATIC:
            unsettled += max(handed - received - self.astray, 0)
        if touches == "producer":
            return unanswered
        if touches == "consumer":
            return unsettled
        return unanswered + unsettled if touches == "both" else 0
