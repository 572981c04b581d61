"""What do k violations in n trials say about the probability of one? Exact bounds, and how many trials exclude what.

A trial is one injection; messages of one injection are not independent and are never counted as trials. Sources:

- bounds of a probability: C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in the
  case of the binomial", Biometrika 26 (1934) 404-413. With k = 0 the upper bound has the closed form 1 - alpha^(1/n)
  (about 3/n: the "rule of three"), and solved for n it is how many clean trials exclude a probability;
- two rates compared: R. A. Fisher, "The logic of inductive inference", Journal of the Royal Statistical Society 98
  (1935) 39-82: with the margins of the table given, its counts are hypergeometric;
- ranks that enclose a quantile: W. R. Thompson, "On confidence ranges for the median and other expectation
  distributions for populations of unknown distribution form", Annals of Mathematical Statistics 7 (1936) 122-128:
  how many of n values lie below a quantile q is binomial(n, q), whatever the values' distribution.

Tail sums are computed term by term, each from its neighbour, so no special function is needed.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable

CONFIDENCE = 0.95
_HALVINGS = 60
_NEGLIGIBLE = 1e-17


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


def excluded(cells: int) -> str:
    """What so many cells without a violation exclude, as a sentence. Of a defect that only some of them can meet it
    says nothing.

    >>> excluded(58)
    'clean cells: 58; excludes, at 95 %, a defect that shows in each with a chance of 5.0 % or more (1 %: 299 cells)'
    """
    return (
        f"clean cells: {cells}; excludes, at {100 * CONFIDENCE:g} %, a defect that shows in each with a chance of "
        f"{100 * upper_bound(0, cells):.1f} % or more (1 %: {trials_to_exclude(0.01)} cells)"
    )


def same_rate(violating: int, trials: int, others_violating: int, others_trials: int) -> float:
    """How likely tables at least as uneven as this one are if both rates are the same: Fisher's exact test, two-sided
    (all tables with the same margins that are no more likely than the one that was seen).

    Raises ValueError unless both are counts. Independent trials, each of one cell, are what may be compared.

    >>> round(same_rate(8, 10, 1, 6), 4)
    0.035
    """
    for count, of in ((violating, trials), (others_violating, others_trials)):
        _check(count, of, CONFIDENCE)
    both = violating + others_violating
    tables = math.comb(trials + others_trials, both)
    ways = [
        math.comb(trials, count) * math.comb(others_trials, both - count)
        for count in range(max(0, both - others_trials), min(trials, both) + 1)
    ]
    seen = math.comb(trials, violating) * math.comb(others_trials, others_violating)
    return sum(way for way in ways if way <= seen) / tables


def quantile_ranks(count: int, quantile: float, confidence: float = CONFIDENCE) -> tuple[int | None, int | None]:
    """(lower, upper) ranks, from 1, of the order statistics of `count` values that enclose a quantile. None: with so
    few values, there is no such rank on that side.

    Raises ValueError unless count > 0 and 0 < quantile < 1.

    >>> quantile_ranks(100, 0.5)
    (40, 61)
    >>> quantile_ranks(100, 0.99)
    (97, None)
    """
    _check(0, count, confidence)
    if not 0 < quantile < 1:
        raise ValueError(f"quantile={quantile!r} (between 0 and 1)")
    beyond = (1 - confidence) / 2
    # The lower rank is the highest with P(fewer below the quantile than it) within the tail; the upper one mirrors it.
    lower = bisect_right(range(count), beyond, key=lambda rank: _at_most(rank, count, quantile))
    mirrored = bisect_right(range(count), beyond, key=lambda rank: _at_most(rank, count, 1 - quantile))
    return lower or None, count + 1 - mirrored if mirrored else None


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
    if violating >= trials:
        return 1.0
    if violating > trials * p:
        return 1.0 - _at_most(trials - violating - 1, trials, 1 - p)
    # From the largest term down, each from the one before.
    term = math.exp(
        math.lgamma(trials + 1)
        - math.lgamma(violating + 1)
        - math.lgamma(trials - violating + 1)
        + violating * math.log(p)
        + (trials - violating) * math.log1p(-p)
    )
    total = 0.0
    for k in range(violating, -1, -1):
        total += term
        if term <= total * _NEGLIGIBLE:
            break
        term *= k / (trials - k + 1) * (1 - p) / p
    return total


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
