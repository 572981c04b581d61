"""Is a right queue ever accused? Two hundred runs under faults, simulated from seeds, and the truth beside each.

The simulation knows what its queue did, so every count that faults make legal is compared with it, and everything else
must be nought. With a bug to order the same runs must find it: a search that finds nothing has proved nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from harness.brokers.memory.queue import Bugs
from harness.checkers.judge import judge
from harness.guarantee import Status
from harness.history.history import History
from tests.simulation import Simulation

RUNS = 200
LEGAL = {"duplicate_delivery"}
"""What faults bring about with a right queue: what a consumer held when it was cut off comes again."""

ANOMALIES = {
    "lost", "lost_unconfirmed", "dropped_acked", "swallowed", "stranded", "visible_failure", "duplicate_publish",
    "duplicate_delivery", "again_after_confirmed_ack", "again_after_late_ack", "unflagged_redelivery", "phantom",
    "corrupt", "foreign", "reordered", "gap", "inconsistent_offset", "divergence", "non_monotonic_read",
}  # fmt: skip


def repeated(past: History) -> int:
    """Messages that were delivered more than once."""
    return sum(times > 1 for times in Counter(past.deliveries.message.tolist()).values())


def test_two_hundred_runs_of_a_right_queue_raise_no_violation(prove: Callable[[str, int], None]) -> None:
    faults: Counter[str] = Counter()
    messages = repeats = 0
    for seed in range(RUNS):
        simulation = Simulation(seed)
        past = simulation.history()
        judgement = judge(past)
        found = {name for name in ANOMALIES if judgement.counts.get(name) or judgement.counts.get(f"{name}_so_far")}
        violated = {name for name, verdict in judgement.verdicts.items() if verdict.status is Status.VIOLATED}
        again = repeated(past)
        assert found == (LEGAL if again else set()), f"seed {seed}"
        assert violated == ({"at_most_once", "exactly_once"} if again else set()), f"seed {seed}"
        assert judgement.counts["duplicate_delivery"] == again, f"seed {seed}"
        assert "log_consistent" in judgement.verdicts, f"seed {seed}"
        faults += Counter(simulation.faults)
        messages, repeats = messages + judgement.counts["acked"], repeats + again
    prove("clean runs of a right queue under faults, without a false alarm", RUNS)
    prove("    messages acked in them", messages)
    prove("    messages repeated in them, by right", repeats)
    assert min(faults.values()) >= RUNS // 4
    assert repeats > RUNS


# what is planted: (bugs, the anomaly by which it must be found, in how many of 10 runs at least)
PLANTED: dict[str, tuple[Bugs, str, int]] = {
    "lost": (Bugs(lose_every=40), "lost", 10),
    "stored, and passed over": (Bugs(skip_every=40), "gap", 10),
    "two under one number": (Bugs(number_twice_every=40), "inconsistent_offset", 1),
    "two under one number, to two readers": (Bugs(number_twice_every=40), "divergence", 1),
    "sent backwards": (Bugs(backwards_every=20), "non_monotonic_read", 3),
    "overtaken": (Bugs(reorder_every=20), "reordered", 3),
    "stranded": (Bugs(strand_every=40), "stranded", 10),
    "refused and delivered": (Bugs(deliver_refused_every=40), "visible_failure", 10),
    "forgotten on restart": (Bugs(forget_on_restart=True), "lost", 3),
    "damaged": (Bugs(corrupt_every=40), "corrupt", 10),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_the_same_runs_find_what_is_planted(planted: str) -> None:
    bugs, anomaly, at_least = PLANTED[planted]
    found = [judge(Simulation(seed, bugs).history()).counts[anomaly] > 0 for seed in range(10)]
    assert sum(found) >= at_least
