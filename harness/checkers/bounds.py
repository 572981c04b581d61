"""What do k violations in n trials say about the probability of one? Exact bounds, and how many trials exclude what.

A trial is one injection; messages of one injection are not independent and are never counted as trials. Source of the
bounds: C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the
binomial", Biometrika 26 (1934) 404-413. They invert the binomial distribution, whose tail sums are computed here term
by term in logarithms, so no special function is needed. With k = 0 the upper bound has the closed form 1 - alpha^(1/n)
(about 3/n: the "rule of three").
"""

from __future__ import annotations

import math
from collections.abc import Callable

CONFIDENCE = 0.95
_HALVINGS = 60


def upper_bound(violating: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """One-sided upper bound of the probability that a trial violates, given `violating` of `trials`.

    Raises ValueError unless 0 <= violating <= trials and trials > 0.

    >>> round(upper_bound(0, 24), 3)
    0.117
    """
    _check(violating, trials, confidence)
    alpha = 1 - confidence
    if violating == trials:
        return 1.0
    if violating == 0:
        return float(1 - alpha ** (1 / trials))
    return _bisect(lambda p: _at_most(violating, trials, p) > alpha)


def lower_bound(violating: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """One-sided lower bound of the same probability."""
    _check(violating, trials, confidence)
    return 1 - upper_bound(trials - violating, trials, confidence)


def interval(violating: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Two-sided Clopper-Pearson interval.

    >>> tuple(round(bound, 4) for bound in interval(2, 10))
    (0.0252, 0.5561)
    """
    sided = 1 - (1 - confidence) / 2
    return lower_bound(violating, trials, sided), upper_bound(violating, trials, sided)


def trials_to_exclude(probability: float, confidence: float = CONFIDENCE) -> int:
    """How many clean trials exclude a bug that shows with this probability in each: ceil(ln alpha / ln(1 - p)).

    >>> trials_to_exclude(0.1)
    29
    """
    if not 0 < probability <= 1:
        raise ValueError(f"probability={probability!r} (above 0, at most 1)")
    if probability == 1:
        return 1
    return math.ceil(math.log(1 - confidence) / math.log1p(-probability))


def _check(violating: int, trials: int, confidence: float) -> None:
    if not (trials > 0 and 0 <= violating <= trials):
        raise ValueError(f"{violating} of {trials} trials is no count")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence!r} (between 0 and 1)")


def _at_most(violating: int, trials: int, p: float) -> float:
    """P(X <= violating) for X binomial(trials, p)."""
    if p <= 0:
        return 1.0
    if p >= 1:
        return 1.0 if violating >= trials else 0.0
    log_p, log_q, log_n = math.log(p), math.log1p(-p), math.lgamma(trials + 1)
    return math.fsum(
        math.exp(log_n - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * log_p + (trials - k) * log_q)
        for k in range(violating + 1)
    )


def _bisect(below: Callable[[float], bool]) -> float:
    """The probability up to which `below` is true."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if below(middle):
            low = middle
        else:
            high = middle
    return high
