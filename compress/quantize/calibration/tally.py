"""A histogram while it grows, chunk of images by chunk of images."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .histogram import Histogram, bin_exponent, bin_number, rebinned

DECAY = 0.99
"""Of the moving average, per image."""
_PIECE = 2**16
"""Values counted at a time: few enough for the scratch arrays to stay in a core's cache."""
_LANES = 2
"""Neighbouring values are counted apart, because the zeros after a Relu would all wait for one counter."""
_SHORT = 256
"""numpy reduces rows shorter than this slowly."""


class Tally:
    """Statistics of one tensor so far.

    `axis` is the one that counts channels: 1, or -1 for the last. Extrema are those of all values; of each image's
    values in memory order, every `step`-th is counted in the histogram.
    """

    def __init__(self, axis: int, step: int) -> None:
        self._axis, self._step = axis, step
        self._counts, self._first, self._exponent = np.zeros(1, np.int64), 0, 0
        self._low = self._high = 0.0
        self._average_low = self._average_high = 0.0
        self._channels: tuple[np.ndarray, np.ndarray] | None = None
        self._images = self._averaged = self._values = 0

    def add(self, values: np.ndarray, images: int) -> int | None:
        """Count float32 [N, ...] of so many images; or count nothing and return the first that is not finite."""
        values = values.reshape(-1, 1) if values.ndim < 2 else values
        rows = values.reshape(images if len(values) % images == 0 else 1, -1)
        (lows, channel_lows), (highs, channel_highs) = (
            extrema(values, len(rows), self._axis, op) for op in (np.min, np.max)
        )
        finite = np.isfinite(lows) & np.isfinite(highs)
        if not finite.all():
            return int(np.argmin(finite))
        for low, high in zip(lows.tolist(), highs.tolist(), strict=True):
            self._average_low += (1.0 - DECAY) * (low - self._average_low)
            self._average_high += (1.0 - DECAY) * (high - self._average_high)
            self._averaged += 1
        self._images += images
        self._values += values.size
        self._widen(channel_lows, channel_highs)
        _count(rows[:, :: self._step].reshape(-1), self._counts, self._first, self._exponent)
        return None

    def result(self) -> Histogram:
        assert self._channels is not None
        weight = 1.0 - DECAY**self._averaged  # the averages began at 0 (Kingma and Ba 2015, section 3)
        averaged = np.clip(np.array([self._average_low, self._average_high]) / weight, self._low, self._high)
        return Histogram(
            self._low,
            self._high,
            self._counts,
            self._first,
            self._exponent,
            (float(averaged[0]), float(averaged[1])),
            *self._channels,
            self._images,
            self._values,
        )

    def _widen(self, channel_lows: np.ndarray, channel_highs: np.ndarray) -> None:
        low, high = float(channel_lows.min()), float(channel_highs.max())
        if self._channels is None:
            self._channels = channel_lows, channel_highs
            self._low, self._high = low, high
            self._exponent = bin_exponent(low, high)
            self._first = bin_number(low, self._exponent)
            self._counts = np.zeros(bin_number(high, self._exponent) - self._first + 1, np.int64)
            return
        self._channels = np.minimum(self._channels[0], channel_lows), np.maximum(self._channels[1], channel_highs)
        if low < self._low or high > self._high:
            self._low, self._high = min(low, self._low), max(high, self._high)
            self._counts, self._first, self._exponent = rebinned(
                self._counts, self._first, self._exponent, (self._low, self._high)
            )


def sampling_step(values: int, samples: int, period: int) -> int:
    """The smallest step that visits at most `samples` of `values` and no multiple of what `period` is made of.

    `period` is one image's values, a multiple of its widths, planes and channels: a step that shared a factor with
    one of them would always meet the same columns or channels.
    """
    step = max(1, -(-values // samples))
    while math.gcd(step, period) > 1:
        step += 1
    return step


def extrema(values: np.ndarray, images: int, axis: int, op: Callable[..., np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """np.min or np.max of float32 [N, ...]: (of every image, of every channel). NaN wins over numbers."""
    channels = values.shape[axis]
    if axis == -1:
        return op(values.reshape(images, -1), 1), op(values.reshape(-1, channels), 0)
    if len(values) == 1 or values[0, 0].size >= _SHORT:
        planes = op(values.reshape(len(values), channels, -1), 2)
        return op(planes.reshape(images, -1), 1), op(planes, 0)
    return op(values.reshape(images, -1), 1), op(op(values, 0).reshape(channels, -1), 1)


def _count(values: np.ndarray, counts: np.ndarray, first: int, exponent: int) -> None:
    """Add float32 [N] `values`, all of which lie within the bins, to int64 `counts` in place."""
    size = min(_PIECE, len(values))
    scaled, shifts, numbers = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.uint16)
    for lane in range(_LANES):
        shifts[lane::_LANES] = first - lane * len(counts)
    scale = np.float32(2.0**-exponent)
    lanes = np.zeros(_LANES * len(counts), np.int64)
    for start in range(0, len(values), _PIECE):
        piece = values[start : start + _PIECE]
        part, bins = scaled[: len(piece)], numbers[: len(piece)]
        np.multiply(piece, scale, out=part)  # exact, by a power of two
        np.floor(part, out=part)
        np.subtract(part, shifts[: len(piece)], out=part)
        np.copyto(bins, part, casting="unsafe")
        lanes += np.bincount(bins, minlength=len(lanes))
    counts += lanes.reshape(_LANES, -1).sum(0)
