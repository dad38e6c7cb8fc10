"""Filter norm (Li et al. 2017): a filter of small weights adds little."""

from __future__ import annotations

from torch import Tensor


def l1(filters: Tensor) -> Tensor:
    """Importance float32 [out_channels] of filters [out_channels, fan_in]: sum of magnitudes."""
    return filters.abs().sum(dim=1)
