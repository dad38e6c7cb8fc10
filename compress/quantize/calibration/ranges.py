"""From a histogram to the range that uint8 codes are spread over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from .affine import LEVELS, affine
from .divergence import entropy
from .histogram import Histogram
from .squared_error import mse

__all__ = ["LEVELS", "METHODS", "Method", "Range", "affine", "entropy", "minmax", "moving_average", "mse", "percentile"]

Method = Literal["minmax", "moving-average", "percentile", "entropy", "mse"]
Range = tuple[float, float]

PERCENTILE = 99.999


def minmax(histogram: Histogram) -> Range:
    """Everything seen is representable."""
    return histogram.low, histogram.high


def moving_average(histogram: Histogram) -> Range:
    """Exponential moving averages of each image's extrema, in the order of the images (Jacob et al. 2018)."""
    return histogram.averaged


def percentile(histogram: Histogram, share: float = PERCENTILE) -> Range:
    """The narrowest range of whole bins that leaves at most (100 - share) / 2 percent of values outside each end."""
    cumulated = np.cumsum(histogram.counts)
    tail = cumulated[-1] * (100.0 - share) / 200.0
    first = int(np.searchsorted(cumulated, tail, side="right"))
    last = int(np.searchsorted(cumulated, cumulated[-1] - tail, side="left"))
    edges = histogram.edges
    return float(edges[first]), float(edges[last + 1])


METHODS: dict[Method, Callable[[Histogram], Range]] = {
    "minmax": minmax,
    "moving-average": moving_average,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}
