"""Can the 16-bit sums of a processor without VNNI overflow on these weights? Worst cases, per channel.

vpmaddubsw multiplies uint8 activations with int8 weights and adds two neighbouring products in int16, which
saturates silently. Which products are neighbours is up to the kernel, so the two largest weights of one sign of
every output channel are assumed to meet on activations of 255:

    worst = 255 * max(p1 + p2, n1 + n2)      stays within int16 when p1 + p2 <= 128 and n1 + n2 <= 128

Limiting that sum instead of every weight to 64 costs a channel with one large weight next to nothing.
"""

from __future__ import annotations

import numpy as np

from .weights import quantize_weight

LARGEST_ACTIVATION = 255


def worst_pair_sums(codes: np.ndarray, axis: int) -> np.ndarray:
    """int64 [channels, 2]: the smallest and the largest sum of two products that each channel along `axis` can meet."""
    return LARGEST_ACTIVATION * _pairs(codes.astype(np.int64), axis) * np.array([-1, 1])


def pair_scales(weight: np.ndarray, scales: np.ndarray, axis: int, *, limit: int, pair_max: int) -> np.ndarray:
    """float32 scales, widened where two codes of one sign and channel along `axis` would exceed `pair_max` in sum.

    `scales` is [channels] or, for one scale for all, a scalar array; the result has its shape. A `pair_max` that is
    even is never exceeded through rounding: half to even rounds x and pair_max - x to codes that add up to pair_max.
    """
    needed = _pairs(weight.astype(np.float64), axis).max(1) / pair_max
    widened = np.maximum(scales, needed if scales.ndim else needed.max(initial=0.0)).astype(np.float32)
    while True:  # a scale that float32 rounded down may still be an ulp too small
        codes = quantize_weight(weight, widened, axis if scales.ndim else None, limit=limit)
        over = _pairs(codes.astype(np.int64), axis).max(1) > pair_max
        if not over.any():
            return widened
        over = over if scales.ndim else np.asarray(over.any())
        widened = np.where(over, np.nextafter(widened, np.float32(np.inf)), widened)


def _pairs(weight: np.ndarray, axis: int) -> np.ndarray:
    """[channels, 2]: size of the sum of the two most negative and of the two most positive weights of each channel."""
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    rows = np.pad(rows, ((0, 0), (2, 2)))
    rows.sort(axis=1)
    return np.stack([-np.minimum(rows[:, :2], 0).sum(1), np.maximum(rows[:, -2:], 0).sum(1)], axis=1)
