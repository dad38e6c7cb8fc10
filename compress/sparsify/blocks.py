"""Blocks of weights of r consecutive output and c consecutive input channels at one tap.

2x1, 4x1   what XNNPACK's sparse kernels for 1x1 convolutions of float32 take at once: two or four output channels
           that share their zeros
1x4        four input channels of one output channel: what one dot product of four int8 pairs (AVX512-VNNI's
           vpdpbusd, Arm's sdot) reads. Kernels that skip such blocks are not in the runtimes measured here.
"""

from __future__ import annotations

from torch import Tensor


def pool(scores: Tensor, rows: int, columns: int) -> Tensor:
    """Mean score of every block: [out, in, ...] -> [out / rows, in / columns, ...]."""
    return scores.unflatten(1, (-1, columns)).unflatten(0, (-1, rows)).mean(dim=(1, 3))


def spread(kept: Tensor, rows: int, columns: int) -> Tensor:
    """The mask of weights that a mask of blocks stands for."""
    return kept.repeat_interleave(rows, dim=0).repeat_interleave(columns, dim=1)


def refusal(shape: tuple[int, ...], rows: int, columns: int) -> str:
    """Why a weight of this shape cannot be cut into such blocks; empty when it can."""
    for what, size, step in (("output", shape[0], rows), ("input", shape[1], columns)):
        if size % step:
            return f"its {size} {what} channels are no multiple of {step}"
    return ""
