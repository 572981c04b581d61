"""What is HELD, VIOLATED or UNKNOWN? In plain Python from the definitions, sharing no code with the checkers."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

from harness.history.history import History
from tests import reference
from tests.reference_trial import CONFIRMED, OK, Fairness, Past, Reason, Trial, fairness, past

STRANGE = ("phantom", "corrupt", "foreign")
LOSS = ("lost", "lost_unconfirmed", "dropped_acked", "stranded")
REPEAT = ("duplicate_delivery", "duplicate_publish")
UNDONE = ("unprocessed", "never_processed", "stranded")
BREAKS = {
    "at_least_once": LOSS,
    "at_most_once": REPEAT,
    "exactly_once": LOSS + REPEAT,
    "at_least_once_processed": UNDONE,
    "at_most_once_processed": ("duplicate_effect",),
    "exactly_once_processed": (*UNDONE, "duplicate_effect"),
    "publish_once": ("duplicate_publish",),
    "never_again": ("again_after_confirmed_ack",),
    "ordered": ("reordered",),
    "genuine": ("visible_failure",),
}
OF_DELIVERY = {
    *LOSS, *REPEAT, *STRANGE, "swallowed", "visible_failure", "again_after_confirmed_ack", "again_after_late_ack",
    "unflagged_redelivery", "reordered",
}  # fmt: skip
OF_PROCESSING = {"unprocessed", "never_processed", "duplicate_effect"}
NEED_THE_READ = {"lost", "lost_unconfirmed", "dropped_acked", "swallowed", "unprocessed", "never_processed"}
COUNTED = (
    "attempted", "acked", "sent", "indeterminate", "failed", "delivered", "discharged", "recovered",
    "dropped_by_policy", "dead_lettered", "owed", "left_unpromised", "ack_wait_exceeded",
)  # fmt: skip
WITNESSES_MAX = 5

Named = tuple[str, int | None]
"""A witness: which anomaly, of which message."""


@dataclass
class Verdict:
    """`reasons`: why UNKNOWN. `bound`: of the probability that one trial violates it; None where none can be given."""

    status: str
    reasons: set[Reason]
    counts: dict[str, int]
    witnesses: list[Named]
    exposure: int
    trials: int
    violating: int
    bound: float | None
    claimed: bool


@dataclass
class Judged:
    """What a history shows."""

    verdicts: dict[str, Verdict]
    counts: dict[str, int]
    dropped: dict[str, int]
    fairness: Fairness
    observed: str
    claim_kept: bool | None


def judge(history: History) -> Judged:
    return _Judge(past(history)).judge()


class _Judge:
    def __init__(self, past: Past) -> None:
        self.past, self.terms, self.sets = past, past.terms, past.sets
        self.processed = bool(past.terms.mechanism) and past.terms.effects_audited
        self.names = OF_DELIVERY | (OF_PROCESSING if self.processed else set())
        self.strange = reference.strange(past.history)
        self.compared, self.exempt = reference.order(past.history)
        self.fairness = fairness(past)

    def judge(self) -> Judged:
        verdicts = {name: self.verdict(name) for name in self.applicable()}
        claims = [claim.guarantee for claim in self.terms.claims]
        for name in claims:
            verdicts.setdefault(name, self.unheard_of(name, ("claimed, not shown",)))
        if self.terms.mechanism and not self.terms.effects_audited:
            for name in ("at_least_once_processed", "at_most_once_processed", "exactly_once_processed"):
                verdicts[name] = self.unheard_of(name, ("sink not read",))
        claimed = {verdicts[name].status for name in claims}
        kept = None
        if claimed:
            kept = False if "VIOLATED" in claimed else None if "UNKNOWN" in claimed else True
        return Judged(verdicts, self.counts(), self.dropped(), self.fairness, self.observed(verdicts), kept)

    def applicable(self) -> list[str]:
        terms = self.terms
        names = ["at_least_once", "at_most_once", "exactly_once", "publish_once", "genuine"]
        if self.processed:
            names += ["at_least_once_processed", "at_most_once_processed", "exactly_once_processed"]
        if terms.pulled and terms.ack == CONFIRMED:
            names.append("never_again")
        if terms.ordered:
            names.append("ordered")
        return names

    def unheard_of(self, name: str, reason: Reason) -> Verdict:
        claimed = any(claim.guarantee == name for claim in self.terms.claims)
        return Verdict("UNKNOWN", {reason}, {}, [], 0, 0, 0, None, claimed)

    def size(self, anomaly: str) -> int:
        return self.strange[anomaly] if anomaly in STRANGE else len(self.sets[anomaly])

    def doubts(self, anomaly: str) -> set[Reason]:
        """Why an anomaly proves nothing although it was found."""
        doubts = {reason for reason, covered in self.fairness.books if anomaly in covered}
        if anomaly in NEED_THE_READ:
            doubts |= self.fairness.unread
        if anomaly == "stranded":
            doubts |= self.fairness.not_idle
        if anomaly in ("phantom", "visible_failure") and self.terms.truncated_journals:
            doubts.add(("journals cut off", ", ".join(self.terms.truncated_journals)))
        return doubts

    def verdict(self, name: str) -> Verdict:
        found = [anomaly for anomaly in (*BREAKS[name], *STRANGE) if self.size(anomaly)]
        proven = [anomaly for anomaly in found if not self.doubts(anomaly)]
        exposure, reasons = self.exposure(name), set()
        if not proven:
            reasons = self.fairness.reasons.union(*(self.doubts(anomaly) for anomaly in found))
            if name == "never_again" and (late := self.sets["again_after_late_ack"]):
                reasons.add(("again after a late acknowledgement", str(len(late))))
            if exposure == 0:
                reasons.add(("nothing at stake",))
        status = "VIOLATED" if proven else "UNKNOWN" if reasons else "HELD"
        violating = [trial for trial in self.fairness.trials if self.hits(trial, proven)]
        trials = [trial for trial in self.fairness.trials if not trial.reasons or trial in violating]
        bound = None
        if (status == "HELD" and trials) or (status == "VIOLATED" and violating):
            bound = _bound(len(violating), len(trials))
        return Verdict(
            status,
            reasons,
            {anomaly: self.size(anomaly) for anomaly in proven},
            [witness for anomaly in proven for witness in self.witnesses(anomaly)][:WITNESSES_MAX],
            exposure,
            len(trials),
            len(violating),
            bound,
            any(claim.guarantee == name for claim in self.terms.claims),
        )

    def exposure(self, name: str) -> int:
        sets = self.sets
        believed = sets["acked"] | sets["sent"]
        return {
            "at_least_once": len(believed),
            "exactly_once": len(believed),
            "at_most_once": len(sets["delivered"]),
            "at_least_once_processed": len(believed | sets["delivered"]),
            "exactly_once_processed": len(believed | sets["delivered"]),
            "at_most_once_processed": len(sets["effects"]),
            "publish_once": len(sets["attempted"] - sets["failed"]),
            "never_again": sum(row["settlement"] == OK for row in self.past.deliveries),
            "ordered": self.compared,
            "genuine": len(self.past.deliveries),
        }[name]

    # ---- what can be pointed at --------------------------------------------------------------------------------------

    def strange_rows(self, anomaly: str) -> list[dict[str, object]]:
        rows = self.past.deliveries
        if anomaly == "corrupt":
            return [row for row in rows if row["corrupt"]]
        if anomaly == "foreign":
            return [row for row in rows if row["foreign"] and not row["corrupt"]]
        known = [id(row) for row in self.past.received]
        return [row for row in rows if not row["corrupt"] and not row["foreign"] and id(row) not in known]

    def witnesses(self, anomaly: str) -> list[Named]:
        """The smallest ids first; of what is no message of ours, the first rows, and then what the auditor read."""
        if anomaly not in STRANGE:
            return [(anomaly, message) for message in sorted(self.sets[anomaly])[:WITNESSES_MAX]]
        rows = self.strange_rows(anomaly)
        named: list[Named] = [(anomaly, None if anomaly == "corrupt" else row["message"]) for row in rows]  # type: ignore[misc]
        if self.strange[anomaly] > len(rows):
            named.append((anomaly, None))
        return named[:WITNESSES_MAX]

    def hits(self, trial: Trial, proven: list[str]) -> bool:
        """Whether a violation overlaps it: from its message's first publish to the last thing that happened to it, and
        for as long as the broker may redeliver."""
        horizon_ns = int(self.terms.redelivery_horizon_s * 1e9)
        return any(
            first_ns <= trial.window[1] and last_ns + horizon_ns >= trial.window[0]
            for anomaly in proven
            for first_ns, last_ns in self.spans(anomaly)
        )

    def spans(self, anomaly: str) -> list[tuple[int, int]]:
        if anomaly in STRANGE:
            return [(row["received_ns"], row["received_ns"]) for row in self.strange_rows(anomaly)]  # type: ignore[misc]
        spans = []
        for message in self.sets[anomaly]:
            invoked = [row["invoked_ns"] for row in self.past.publications if row["message"] == message]
            times = invoked + [row["completed_ns"] for row in self.past.publications if row["message"] == message]
            for row in self.past.received:
                if row["message"] == message:
                    times += [row[at] for at in ("received_ns", "handled_ns", "ack_invoked_ns", "settled_ns")]
            spans.append((min(invoked), max(time for time in times if time is not None)))
        return spans

    # ---- the whole ---------------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        sets = self.sets
        lost = sets["lost"] | sets["lost_unconfirmed"]
        counts = {name: len(sets[name]) for name in COUNTED}
        counts |= {
            "deliveries": len(self.past.deliveries),
            "attempts": len(self.past.publications),
            "order_compared": self.compared,
            "not_ordered_by_contract": self.exempt,
        }
        if self.processed:
            counts["effects"] = len(sets["effects"])
        believable = not self.doubts("lost")
        for name, members in (
            ("lost_never_delivered", lost - sets["delivered"]),
            ("lost_after_delivery", lost & sets["delivered"]),
            *((name, sets[name]) for name in ("lost_prefix", "lost_middle", "lost_suffix")),
        ):
            counts[name] = len(members) if believable else 0
        for name in self.names:
            doubted = bool(self.doubts(name))
            counts[name] = 0 if doubted else self.size(name)
            if doubted and self.size(name):
                counts[f"{name}_so_far"] = self.size(name)
        return counts

    def dropped(self) -> dict[str, int]:
        policies = {row["policy"] for row in self.past.dropped}
        by_policy = {
            policy: {row["message"] for row in self.past.dropped if row["policy"] == policy} for policy in policies
        }
        counts = {policy: len(messages & self.sets["dropped_by_policy"]) for policy, messages in by_policy.items()}
        return {policy: count for policy, count in counts.items() if count}

    def observed(self, verdicts: dict[str, Verdict]) -> str:
        of = "_processed" if self.terms.mechanism else ""
        least, most = (verdicts[f"at_{word}_once{of}"].status for word in ("least", "most"))
        if "UNKNOWN" in (least, most):
            return "unknown"
        if least == most:
            return "exactly once" if least == "HELD" else "neither"
        return "at least once" if least == "HELD" else "at most once"


def _bound(violating: int, trials: int) -> float:
    """The probability at which so few violations, or fewer, have a chance of 5 %."""
    if violating == trials:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        p = (low + high) / 2
        chance = sum(comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(violating + 1))
        low, high = (p, high) if chance > 0.05 else (low, p)
    return low
