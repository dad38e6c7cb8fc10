"""Norms over channels, as they compute once some of the channels are gone.

A layer norm or group norm looks at all its channels, so cutting some changes what it makes of the others: the pruned
network normalises over the channels that are left. The modules here say so at full width, in arithmetic of their own,
so that a network whose channels were cut can be held against one whose shapes are whole.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def over_kept_channels(norm: nn.LayerNorm | nn.GroupNorm, removed: Tensor) -> nn.Module:
    """What stands for `norm` when nothing looks at the channels `removed` (int64): same shapes in and out."""
    kept = torch.ones(norm.num_channels if isinstance(norm, nn.GroupNorm) else norm.normalized_shape[0])
    return _OverKept(norm, kept.index_fill(0, removed, 0.0))


class _OverKept(nn.Module):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias, mean and variance of the kept channels only."""

    kept: Tensor
    """float32 [channels]: 1 where a channel is kept."""

    def __init__(self, norm: nn.LayerNorm | nn.GroupNorm, kept: Tensor) -> None:
        super().__init__()
        self.groups = norm.num_groups if isinstance(norm, nn.GroupNorm) else 0
        # A layer norm with a forward of its own is the one over the channels of a map (LayerNorm2d).
        self.last = type(norm).forward is nn.LayerNorm.forward
        self.eps = norm.eps
        self.weight, self.bias = norm.weight, norm.bias
        self.register_buffer("kept", kept.to(next((tensor.device for tensor in norm.parameters()), None)))

    def forward(self, x: Tensor) -> Tensor:
        channels_last = x if self.last else x.movedim(1, -1)
        normalized = self._normalize(channels_last)
        if self.weight is not None:
            normalized = normalized * self.weight
        if self.bias is not None:
            normalized = normalized + self.bias
        return normalized if self.last else normalized.movedim(-1, 1)

    def _normalize(self, x: Tensor) -> Tensor:
        """`x` is [N, ..., channels]."""
        groups = max(self.groups, 1)
        grouped, kept = x.unflatten(-1, (groups, -1)), self.kept.unflatten(0, (groups, -1))
        axes = [-1, *range(1, x.ndim - 1)] if self.groups else [-1]
        pixels = grouped[..., 0, 0].numel() // len(x) if self.groups else 1
        count = kept.sum(-1, keepdim=True) * pixels
        mean = (grouped * kept).sum(axes, keepdim=True) / count
        variance = ((grouped - mean).square() * kept).sum(axes, keepdim=True) / count
        return ((grouped - mean) * torch.rsqrt(variance + self.eps)).flatten(-2)
