"""The range with the least mean squared rounding and clipping error (as in Banner et al. 2019, by search).

With prefix sums over the bins of counts, counts times middles and counts times squared middles, the error of a range
is a sum over its 256 levels: each bin goes to the level nearest to its middle.
"""

from __future__ import annotations

import numpy as np

from .affine import levels
from .histogram import Histogram


def mse(histogram: Histogram, steps: int = 64) -> tuple[float, float]:
    """Each end is shrunk towards zero in `steps` steps, one end after the other, twice."""
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    shares = np.linspace(1.0, 1.0 / steps, steps)
    moments = _Moments(histogram)
    for _ in range(2):
        if high > 0:
            high *= float(shares[np.argmin(moments.errors(np.full(steps, low), high * shares))])
        if low < 0:
            low *= float(shares[np.argmin(moments.errors(low * shares, np.full(steps, high)))])
    return low, high


def squared_error(histogram: Histogram, low: float, high: float) -> float:
    """Sum over all counted values of the squared difference between them and what their codes stand for."""
    return float(_Moments(histogram).errors(np.array([low]), np.array([high]))[0])


class _Moments:
    def __init__(self, histogram: Histogram) -> None:
        centers, counts = histogram.centers, histogram.counts
        self._first, self._width = histogram.first, float(np.ldexp(1.0, histogram.exponent))
        self._sums = [np.concatenate([[0.0], np.cumsum(counts * centers**power)]) for power in range(3)]

    def errors(self, lows: np.ndarray, highs: np.ndarray) -> np.ndarray:
        """float64 [K]: the summed squared error of each range."""
        values = levels(lows, highs)
        between = (values[:, 1:] + values[:, :-1]) / 2
        begins = np.clip(np.ceil(between / self._width - self._first - 0.5), 0, len(self._sums[0]) - 1).astype(np.intp)
        ends = np.pad(begins, ((0, 0), (1, 1)), constant_values=((0, 0), (0, len(self._sums[0]) - 1)))
        counts, firsts = (np.diff(sums[ends], axis=1) for sums in self._sums[:2])
        return self._sums[2][-1] - (values * (2 * firsts - values * counts)).sum(1)
