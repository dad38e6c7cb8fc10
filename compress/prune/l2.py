"""Filter norm by Euclidean length (He et al. 2018, soft filter pruning)."""

from __future__ import annotations

from torch import Tensor


def l2(filters: Tensor) -> Tensor:
    """Importance float32 [out_channels] of filters [out_channels, fan_in]: root of the sum of squares."""
    return filters.square().sum(dim=1).sqrt()
