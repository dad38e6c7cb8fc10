"""From a histogram to the range that uint8 codes are spread over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from .calibrate import Histogram

Method = Literal["minmax", "percentile", "mse"]
Range = tuple[float, float]

LEVELS = 256
PERCENTILE = 99.999


def minmax(histogram: Histogram) -> Range:
    """Everything seen is representable."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram, share: float = PERCENTILE) -> Range:
    """The narrowest range of whole bins that leaves at most (100 - share) / 2 percent of values outside each end."""
    cumulated = np.cumsum(histogram.counts)
    tail = cumulated[-1] * (100.0 - share) / 200.0
    edges = np.linspace(histogram.low, histogram.high, len(cumulated) + 1)
    first = int(np.searchsorted(cumulated, tail, side="right"))
    last = int(np.searchsorted(cumulated, cumulated[-1] - tail, side="left"))
    return float(edges[first]), float(edges[last + 1])


def mse(histogram: Histogram, steps: int = 64) -> Range:
    """The range with the least mean squared rounding and clipping error over the histogram.

    Each end is shrunk towards zero in `steps` steps, one end after the other, twice.
    """
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    shares = np.linspace(1.0, 1.0 / steps, steps)
    for _ in range(2):
        if high > 0:
            high = high * float(shares[np.argmin([_error(histogram, low, high * share) for share in shares])])
        if low < 0:
            low = low * float(shares[np.argmin([_error(histogram, low * share, high) for share in shares])])
    return low, high


def _error(histogram: Histogram, low: float, high: float) -> float:
    """Sum over bins of count times squared difference between a bin's middle and its uint8 value."""
    scale, zero_point = affine(low, high)
    centers = histogram.centers
    codes = np.clip(np.round(centers / scale) + zero_point, 0, LEVELS - 1)
    return float(histogram.counts @ ((codes - zero_point) * scale - centers) ** 2)


def affine(low: float, high: float) -> tuple[float, int]:
    """(scale, zero point) of uint8 codes over [low, high] widened to hold 0 exactly (Jacob et al. 2018)."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / (LEVELS - 1)))
    if scale < np.finfo(np.float32).tiny:
        return 1.0, 0
    return scale, int(np.clip(round(-low / scale), 0, LEVELS - 1))


METHODS: dict[Method, Callable[[Histogram], Range]] = {"minmax": minmax, "percentile": percentile, "mse": mse}
