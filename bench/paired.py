"""Differences between two accuracies with their 95 % intervals.

Two classifiers judged on the same n images differ only through the images that exactly one of them gets right:
`gained` (only the first) and `lost` (only the second). The difference is (gained - lost) / n; its interval is the
score interval of Tango (1998, "Equivalence test and confidence interval for the difference in proportions for
the paired-sample design"), which stays honest where there is no disagreement at all. Where the pairing is unknown
the hybrid score interval of Newcombe (1998) for independent proportions is used; for classifiers that err on the
same images it is wider than need be, never too narrow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .records import Accuracy, Candidate

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Change:
    """A difference of two accuracies in percentage points, with its 95 % interval."""

    points: float
    low: float
    high: float
    total: int
    paired: bool

    @property
    def resolution(self) -> float:
        """Half the interval's width: differences below it cannot be told apart with this many images."""
        return (self.high - self.low) / 2


def paired_interval(gained: int, lost: int, total: int) -> tuple[float, float]:
    """Tango's 95 % score interval of (gained - lost) / total, as fractions in [-1, 1]."""
    if total <= 0 or min(gained, lost) < 0 or gained + lost > total:
        raise ValueError(f"gained {gained} and lost {lost} do not fit {total} images")

    def score(difference: float) -> float:
        a = 2 * total
        b = -gained - lost + (2 * total - gained + lost) * difference
        c = -lost * difference * (1 - difference)
        share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        variance = total * (2 * share + difference * (1 - difference))
        numerator = gained - lost - total * difference
        return numerator / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, numerator)

    def crossing(level: float, low: float, high: float) -> float:
        for _ in range(60):
            middle = (low + high) / 2
            if score(middle) > level:
                low = middle
            else:
                high = middle
        return (low + high) / 2

    estimate = (gained - lost) / total
    return crossing(Z95, -1.0, estimate), crossing(-Z95, estimate, 1.0)


def independent_interval(a: Accuracy, b: Accuracy) -> tuple[float, float]:
    """Newcombe's 95 % hybrid score interval of a.top1 - b.top1, as fractions."""
    difference = a.top1 - b.top1
    below = math.hypot(a.top1 - a.low, b.high - b.top1)
    above = math.hypot(a.high - a.top1, b.top1 - b.low)
    return max(-1.0, difference - below), min(1.0, difference + above)


def accuracy_change(candidate: Candidate, reference: Candidate, same_run: bool = True) -> Change | None:
    """Top-1 of `candidate` minus that of `reference`; None where either was not measured.

    The pairing recorded in `candidate` is used when `same_run` (it refers to the report's own reference).
    Otherwise equal prediction hashes prove that no image is classified differently, and anything else is taken
    as unpaired.
    """
    a, b = candidate.accuracy, reference.accuracy
    if a is None or b is None:
        return None
    gained, lost = candidate.disagreement_gained, candidate.disagreement_lost
    same_predictions = a.predictions_sha256 is not None and a.predictions_sha256 == b.predictions_sha256
    if same_predictions or (same_run and candidate.name == reference.name):
        gained, lost = 0, 0
    elif not same_run:
        gained, lost = None, None
    if a.total != b.total or gained is None or lost is None:
        low, high = independent_interval(a, b)
        points = (a.correct * b.total - b.correct * a.total) * 100 / (a.total * b.total)
        return Change(points, 100 * low, 100 * high, min(a.total, b.total), paired=False)
    low, high = paired_interval(gained, lost, a.total)
    return Change((a.correct - b.correct) * 100 / a.total, 100 * low, 100 * high, a.total, paired=True)
