"""Float weights as int8 or int4 codes with float32 scales: w ~ code * scale, nothing subtracted."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

WIDEST_BLOCK, NARROWEST_BLOCK = 32, 16
"""Weights that share one int4 scale: 32 cost one bit each for it, 16 two."""

_SHRINKING = np.linspace(1.0, 0.6, 17)
"""Shares of the scale that holds the largest weight of a block, tried for the least squared error."""


@dataclass(frozen=True)
class Encoded:
    codes: np.ndarray
    """int8, int4 (as ml_dtypes has it) or float16; of the weights' shape, or with blocks along an axis of their own."""
    scales: np.ndarray | None
    """float32, broadcastable to the codes; None for float16."""
    shape: tuple[int, ...]
    """That of the weights."""
    error: float
    """Root mean square of the rounding error as a share of that of the weights."""

    def decoded(self) -> np.ndarray:
        """float32 weights, as a runtime computes them."""
        values = self.codes.astype(np.float32)
        return (values if self.scales is None else values * self.scales).reshape(self.shape)


def encoded(weight: np.ndarray, codes: np.ndarray, scales: np.ndarray | None) -> Encoded:
    """With the error that it makes."""
    exact = Encoded(codes, scales, weight.shape, 0.0).decoded().astype(np.float64) - weight
    size = float(np.sqrt(np.mean(weight.astype(np.float64) ** 2)))
    return Encoded(codes, scales, weight.shape, float(np.sqrt(np.mean(exact**2))) / size if size else 0.0)


def int8_channels(weight: np.ndarray, axis: int) -> Encoded:
    """-127..127 with one scale for each channel along `axis`, so that the largest weight is exact."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scales = _nonzero(np.abs(weight).max(axis=others, keepdims=True) / np.float32(127))
    codes = np.clip(np.round(weight / scales), -127, 127).astype(np.int8)
    return encoded(weight, codes, scales)


def int4_blocks(weight: np.ndarray, axis: int) -> Encoded:
    """-8..7 with one scale per block of weights of one channel, chosen for the least squared error.

    Weights of an operator whose channels are narrower than a block, depthwise ones above all, become int8.
    """
    blocks = _blocks(weight, axis)
    if blocks is None:
        return int8_channels(weight, axis)
    grouped, along = blocks
    largest = np.take_along_axis(grouped, np.abs(grouped).argmax(axis=along, keepdims=True), axis=along)
    best = np.full(largest.shape, np.inf)
    scales = np.ones(largest.shape, np.float32)
    for share in _SHRINKING:
        # -8 is one step further out than 7: the sign of the scale lets the largest weight have it.
        tried = _nonzero((largest * np.float32(-share / 8)).astype(np.float32))
        error = np.sum((np.clip(np.round(grouped / tried), -8, 7) * tried - grouped) ** 2, axis=along, keepdims=True)
        scales = np.where(error < best, tried, scales)
        best = np.minimum(best, error)
    codes = np.clip(np.round(grouped / scales), -8, 7).astype(ml_dtypes.int4)
    return encoded(weight, codes, scales)


def _blocks(weight: np.ndarray, axis: int) -> tuple[np.ndarray, int] | None:
    """The weights with an axis of blocks, and that axis; None where channels are too narrow for blocks."""
    if axis == 0:
        block = _block(weight[0].size)
        return None if block is None else (weight.reshape(len(weight), -1, block), 2)
    if axis != weight.ndim - 1:
        return None
    block = _block(weight.shape[-2])
    return None if block is None else (weight.reshape(*weight.shape[:-2], -1, block, weight.shape[-1]), weight.ndim - 1)


def _block(length: int) -> int | None:
    """The largest divisor of `length` that is a block; a whole channel where it has none."""
    if length < NARROWEST_BLOCK:
        return None
    sizes = range(WIDEST_BLOCK, NARROWEST_BLOCK - 1, -1)
    return next((size for size in sizes if length % size == 0), length)


def _nonzero(scales: np.ndarray) -> np.ndarray:
    return np.where(np.abs(scales) < np.finfo(np.float32).tiny, np.float32(1), scales).astype(np.float32)
