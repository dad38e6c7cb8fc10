"""Layer-adaptive magnitude (Lee et al. 2021, LAMP), over filters instead of single weights.

    I_k = ||F_k||^2 / sum_{j: ||F_j|| >= ||F_k||} ||F_j||^2

Within a layer that is the order of norms. Between layers, a filter counts by its share of what is still there when it
goes: the longest of each layer has importance 1, so that no layer is emptied.
"""

from __future__ import annotations

import torch
from torch import Tensor


def lamp(filters: Tensor) -> Tensor:
    """Importance float32 [out_channels], in 0..1, of filters [out_channels, fan_in]; equals share their score."""
    squares = filters.double().square().sum(dim=1)
    ordered, order = squares.sort()
    left = ordered.flip(0).cumsum(0).flip(0)  # of the filters from this one on
    first_equal = torch.searchsorted(ordered, ordered)
    scores = ordered / left[first_equal].clamp_min(torch.finfo(torch.float64).tiny)
    return torch.empty_like(scores).scatter_(0, order, scores).float()
