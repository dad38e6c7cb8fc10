"""Which units stay when those of several weights compete: the largest, until the budget of weights is used up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def keep_largest(scores: Sequence[Tensor], sizes: Sequence[int], keep: float) -> list[Tensor]:
    """Masks, bool of the shapes of `scores`, one score per unit: which units stay.

    sizes -- how many weights a unit of each tensor holds.
    keep  -- share of all weights that may stay. Units are taken from the largest score downwards until the next one
             would exceed it; of equals the first in order are taken.
    """
    flat = torch.cat([score.reshape(-1) for score in scores])
    held = torch.cat([torch.full((score.numel(),), size) for score, size in zip(scores, sizes, strict=True)])
    order = torch.argsort(flat, descending=True, stable=True)
    within = held[order].cumsum(0) <= round(keep * int(held.sum()))
    kept = torch.zeros_like(flat, dtype=torch.bool)
    kept[order[within]] = True
    parts = kept.split([score.numel() for score in scores])
    return [part.reshape(score.shape) for part, score in zip(parts, scores, strict=True)]
