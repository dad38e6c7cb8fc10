"""Random channels: the control that every criterion has to beat."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def random(seed: int) -> Callable[[Tensor], Tensor]:
    """A criterion that draws importance from one seeded stream, layer after layer."""
    generator = torch.Generator().manual_seed(seed)

    def criterion(filters: Tensor) -> Tensor:
        return torch.rand(len(filters), generator=generator)

    return criterion
