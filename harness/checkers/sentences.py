"""How is a verdict said? As one sentence with its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.checkers import fifo, linearizability
from harness.checkers.anomaly import Anomaly
from harness.checkers.availability import Availability
from harness.checkers.latency import LATE_NS, Latency, Quantile
from harness.checkers.load import Window
from harness.guarantee import Guarantee, Status

_STAKES = {
    "at_least_once": "acknowledged messages",
    "at_most_once": "delivered messages",
    "exactly_once": "acknowledged messages",
    "at_least_once_processed": "messages acknowledged or received",
    "at_most_once_processed": "messages with an effect",
    "exactly_once_processed": "messages acknowledged or received",
    "publish_once": "messages published",
    "never_again": "deliveries whose acknowledgement was confirmed",
    "ordered": "deliveries whose order is contracted",
    "genuine": "deliveries",
    "linearizable_fifo": "dequeues answered",
    "log_consistent": "numbers of the log",
}

_SAYINGS = {
    "lost": "{n} of {acked} acked messages lost",
    "lost_unconfirmed": "{n} of {sent} messages sent without confirms lost",
    "dropped_acked": "{n} messages dropped by a policy after their publish was OK",
    "stranded": "{n} messages stranded in the broker, never delivered to idle consumers",
    "duplicate_delivery": "{n} of {delivered} messages delivered more than once to one group",
    "duplicate_publish": "{n} of {attempted} messages stored more than once",
    "again_after_confirmed_ack": "{n} messages delivered again after their acknowledgement was confirmed",
    "reordered": "{n} messages received out of published order, among {order_compared} compared",
    "visible_failure": "{n} messages delivered whose publish was refused for certain",
    "phantom": "{n} deliveries of what nobody published",
    "corrupt": "{n} corrupt deliveries",
    "foreign": "{n} deliveries of another run",
    "unprocessed": "{n} of {delivered} received messages left no effect",
    "never_processed": "{n} acknowledged messages were never received and left no effect",
    "duplicate_effect": "{n} messages left their effect more than once",
    **{name: fifo.PATTERNS[name] for name in linearizability.PATTERNS},
    "gap": "{n} messages of the log passed over by its readers",
    "inconsistent_offset": "{n} messages whose number in the log is not theirs alone, or not their only one",
    "divergence": "{n} messages under a number of the log at which two readers saw different ones",
    "non_monotonic_read": "{n} messages read after a higher number of the log",
}

_BESIDES = {
    "swallowed": "{n} messages answered as a duplicate of which no copy was ever stored",
    "again_after_late_ack": "{n} messages delivered again after a confirmed acknowledgement later than ack_wait",
    "unflagged_redelivery": "{n} messages delivered more than once and never flagged as redelivered",
}
"""Anomalies that break nothing by themselves, and are counted."""

ANOMALIES: Mapping[str, str] = {**_SAYINGS, **_BESIDES}
"""Every anomaly in words, with `{n}` and other counts in braces."""

_UNPROVEN = {
    "lost": "{n} of {acked} acked messages not found so far",
    "lost_unconfirmed": "{n} of {sent} messages sent without confirms not found so far",
    "unprocessed": "{n} of {delivered} received messages without an effect so far",
    "never_processed": "{n} acknowledged messages not processed so far",
    "stranded": "{n} messages in the broker not delivered so far",
    "gap": "{n} messages of the log not seen so far",
}


def stake(guarantee: Guarantee, count: int) -> str:
    """What a guarantee speaks of, counted: "392 acknowledged messages"."""
    return f"{count} {_STAKES[guarantee.name]}"


def sentence(
    guarantee: Guarantee,
    status: Status,
    counts: Mapping[str, int],
    proven: Sequence[Anomaly],
    doubted: Sequence[Anomaly],
    reasons: Sequence[str],
    exposure: int,
    trials: int,
    upper_bound: float | None,
) -> str:
    """The verdict in one sentence."""
    said = f"{guarantee.name} {status}: "
    if status is Status.VIOLATED:
        found = "; ".join(_say(anomaly, counts, _SAYINGS) for anomaly in proven)
        return said + found
    if status is Status.HELD:
        return f"{said}no violation in {_trials(trials)}, {stake(guarantee, exposure)}{_bounded(upper_bound)}"
    found = "; ".join(_say(anomaly, counts, _UNPROVEN) for anomaly in doubted)
    more = f" (and {len(reasons) - 1} more reasons)" if len(reasons) > 2 else ""
    more = " (and 1 more reason)" if len(reasons) == 2 else more
    return f"{said}{found + '; ' if found else ''}{reasons[0]}{more}"


def available(measured: Availability) -> str:
    """What was measured of availability, in one line: "longest outage: publishing 0.802 s, delivering 0.803 s; ..."."""
    said = f"longest outage: publishing {_length(measured.publishing)}, delivering {_length(measured.delivering)}"
    for one in measured.recoveries:
        again = ", ".join(
            f"{what} {'not again' if ns is None else f'after {ns / 1e9:.3f} s'}"
            for what, ns in (("publishing", one.publishing_ns), ("delivering", one.delivering_ns))
        )
        said += f"; {one.fault} #{one.number + 1} mended: {again}"
    return said


def answered(measured: Latency) -> str:
    """How long answers took, in one line: "answered within, from when due: p50 1.2 ms (95 %: 1.1 to 1.3); ..."."""
    if not measured.response:
        return "no publish was answered"
    told = ", ".join(_quantile(one) for one in measured.response)
    return (
        f"answered within, from when due: {told}; {measured.late} of {measured.called} were called more than "
        f"{LATE_NS / 1e6:.0f} ms late, which service times would leave out"
    )


def _quantile(one: Quantile) -> str:
    lower, upper = ("?" if ns is None else f"{ns / 1e6:.1f}" for ns in (one.lower_ns, one.upper_ns))
    return f"p{one.quantile * 100:g} {one.value_ns / 1e6:.1f} ms (95 %: {lower} to {upper})"


def _length(outage: Window | None) -> str:
    return "none" if outage is None else f"{outage.seconds:.3f} s"


def _say(anomaly: Anomaly, counts: Mapping[str, int], sayings: Mapping[str, str]) -> str:
    saying = sayings.get(anomaly.name, _SAYINGS[anomaly.name])
    said = saying.format(n=anomaly.count, **counts)
    if anomaly.name in ("lost", "lost_unconfirmed") and sayings is _SAYINGS:
        return f"{said} ({_kinds(counts)})"
    return said


def _kinds(counts: Mapping[str, int]) -> str:
    return f"{counts['lost_never_delivered']} never delivered, {counts['lost_after_delivery']} vanished after delivery"


def _trials(count: int) -> str:
    return "1 trial" if count == 1 else f"{count} trials"


def _bounded(upper_bound: float | None) -> str:
    if upper_bound is None:
        return ""
    return f" (95 %: at most {upper_bound:.1%} of such trials would show one)"
