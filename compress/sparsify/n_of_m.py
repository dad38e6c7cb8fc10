"""N of every M weights along the input channels (Mishra et al. 2021 for 2:4).

The M weights are those of M consecutive input channels at one tap of one output channel: the order in which kernels
that read channels last (NVIDIA's sparse tensor cores among them) walk through a weight. No processor kernel of the
runtimes known to `support.py` makes use of it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def n_of_m(scores: Tensor, n: int, m: int) -> Tensor:
    """Mask, bool of the shape of `scores` [out, in, ...]: True for the n largest of every m along axis 1.

    `in` must be a multiple of `m`. Of equals the first stay.
    """
    runs = scores.movedim(1, -1).unflatten(-1, (-1, m))
    order = torch.argsort(runs, dim=-1, descending=True, stable=True)
    kept = torch.zeros_like(runs, dtype=torch.bool).scatter_(-1, order[..., :n], True)
    return kept.flatten(-2).movedim(-1, 1).contiguous()


def refusal(shape: tuple[int, ...], m: int) -> str:
    """Why a weight of this shape cannot have the pattern; empty when it can."""
    return "" if shape[1] % m == 0 else f"its {shape[1]} input channels are no multiple of {m}"
