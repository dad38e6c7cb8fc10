"""What one tensor held over all calibration images: extrema, and counts in bins that can be merged exactly.

Bins are a power of two wide and aligned at zero, so two neighbouring bins are one bin of the next width. The width
follows from the extrema alone. Counts taken image by image, in any order and with any grouping, are therefore the
counts that a second pass with known extrema would have taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 4096
"""At most so many bins, and more than half as many unless values differ in their last digits only."""
_FINEST = -126
_DIGITS = 22
"""Bin numbers stay below 2**23, so float32 holds them exactly."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """Values of one tensor over all images."""

    low: float
    high: float
    """The smallest and the largest value, exactly."""
    counts: np.ndarray
    """int64 [B]: values by bin; the first bin holds `low`, the last one `high`."""
    first: int
    exponent: int
    """Bin k holds values from (first + k) * 2**exponent up to, but without, (first + k + 1) * 2**exponent."""
    averaged: tuple[float, float]
    """Exponential moving average of each image's smallest and of its largest value, in the order of the images."""
    channel_lows: np.ndarray
    channel_highs: np.ndarray
    """float32 [C]: extrema of every channel."""
    images: int
    values: int
    """How many values there were; every one of them, or every k-th, is in `counts`."""

    @property
    def samples(self) -> int:
        return int(self.counts.sum())

    @property
    def dead_channels(self) -> int:
        """Channels that held one and the same value in all images and places; 0 where each holds one value."""
        if self.values <= len(self.channel_lows):
            return 0
        return int((self.channel_lows == self.channel_highs).sum())

    @property
    def edges(self) -> np.ndarray:
        """float64 [B + 1]: where bins begin and the last one ends, cut to what was seen."""
        return np.clip(np.ldexp(self.first + np.arange(len(self.counts) + 1.0), self.exponent), self.low, self.high)

    @property
    def centers(self) -> np.ndarray:
        """float64 [B]: middle of what each bin covers between `low` and `high`."""
        edges = self.edges
        return (edges[:-1] + edges[1:]) / 2


def bin_exponent(low: float, high: float) -> int:
    """The smallest exponent with which bins over [low, high] are no more than BINS, and are numbered exactly."""
    largest = max(abs(low), abs(high))
    exponent = _FINEST if largest == 0.0 else max(_FINEST, math.frexp(largest)[1] - _DIGITS)
    while bin_number(high, exponent) - bin_number(low, exponent) >= BINS:
        exponent += 1
    return exponent


def bin_number(value: float, exponent: int) -> int:
    return math.floor(math.ldexp(value, -exponent))


def rebinned(counts: np.ndarray, first: int, exponent: int, to: tuple[float, float]) -> tuple[np.ndarray, int, int]:
    """(counts, first, exponent) over the wider range `to`: bins merged into the width that it asks for."""
    low, high = to
    coarse = bin_exponent(low, high)
    begin = bin_number(low, coarse)
    wide = np.zeros(bin_number(high, coarse) - begin + 1, np.int64)
    np.add.at(wide, ((first + np.arange(len(counts))) >> (coarse - exponent)) - begin, counts)
    return wide, begin, coarse


def merged(histograms: Sequence[Histogram]) -> Histogram:
    """One histogram of tensors that share their codes, as if they were one tensor; channels are put side by side.

    `averaged` becomes the widest of theirs.
    """
    low, high = min(one.low for one in histograms), max(one.high for one in histograms)
    parts = [rebinned(one.counts, one.first, one.exponent, (low, high)) for one in histograms]
    return Histogram(
        low,
        high,
        np.sum([counts for counts, _, _ in parts], axis=0),
        *parts[0][1:],
        (min(one.averaged[0] for one in histograms), max(one.averaged[1] for one in histograms)),
        np.concatenate([one.channel_lows for one in histograms]),
        np.concatenate([one.channel_highs for one in histograms]),
        max(one.images for one in histograms),
        sum(one.values for one in histograms),
    )
