"""Whole two-dimensional kernels: all taps between one input and one output channel (Anwar et al. 2017).

Reconstruction: the paper finds the kernels to remove by an evolutionary particle filter over misclassification rates;
here they are ranked by the mean of their scores, as every other pattern is. No kernel of the runtimes measured here
skips them.
"""

from __future__ import annotations

import math

from torch import Tensor


def pool(scores: Tensor) -> Tensor:
    """Mean score of every kernel: [out, in, taps...] -> [out, in]."""
    return scores.flatten(2).mean(dim=2)


def spread(kept: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The mask of weights, of `shape`, that a mask [out, in] of kernels stands for."""
    return kept.reshape(*kept.shape, *[1] * (len(shape) - 2)).expand(shape).contiguous()


def refusal(shape: tuple[int, ...]) -> str:
    """Why a weight of this shape has no kernels to remove; empty when it has."""
    return "" if math.prod(shape[2:]) > 1 else "its kernels are single weights"
