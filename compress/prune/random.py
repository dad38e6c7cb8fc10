"""Random channels: the control that every criterion has to beat."""

from __future__ import annotations

import torch
from torch import Tensor


def random(filters: Tensor, seed: int) -> Tensor:
    """Importance float32 [out_channels], uniform in 0..1, drawn from `seed`; filters [out_channels, fan_in]."""
    return torch.rand(len(filters), generator=torch.Generator().manual_seed(seed))
