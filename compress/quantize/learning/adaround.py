"""Rounding that is learned: up or down for every weight, whichever serves the layer's output better.

    codes = clip(floor(w / s) + h(V), -limit, limit),    h(V) = clip(sigmoid(V) (zeta - gamma) + gamma, 0, 1)
    regularizer = mean(1 - |2 h(V) - 1|^beta),           beta annealed from 20 to 2

AdaRound, Nagel et al. 2020. V starts where h is the fraction that rounding takes away, so that learning starts from the
float weights; the regularizer, absent at first, then drives every h to 0 or 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .fake_quantize import straight_through

ZETA, GAMMA = 1.1, -0.1
FIRST_BETA, LAST_BETA = 20.0, 2.0
WARMUP = 0.2
"""Share of the steps without regularizer."""


class SoftRounding(nn.Module):
    """A weight between the two codes next to it; one that is zero stays zero."""

    def __init__(self, weight: Tensor, scales: Tensor, limit: int) -> None:
        """`scales` broadcast against `weight`; both float32."""
        super().__init__()
        self.scales, self.limit, self.alive = scales, limit, weight != 0
        self.floors = torch.floor(weight / scales)
        fraction = (weight / scales - self.floors).clamp(1e-4, 1 - 1e-4)
        self.v = nn.Parameter(-torch.log((ZETA - GAMMA) / (fraction - GAMMA) - 1))

    def soft(self) -> Tensor:
        """h(V), between 0 and 1."""
        return (torch.sigmoid(self.v) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)

    def forward(self) -> Tensor:
        """The weight, on the grid once h(V) is 0 or 1 everywhere."""
        return (self.floors + self.soft()).clamp(-self.limit, self.limit) * self.alive * self.scales

    def regularizer(self, beta: float) -> Tensor:
        return (1 - (2 * self.soft() - 1).abs().pow(beta)).mean()

    @torch.no_grad()
    def codes(self) -> Tensor:
        """float32 whole numbers: what the learned rounding came to."""
        return (self.floors + (self.v >= 0)).clamp(-self.limit, self.limit) * self.alive


class FreeRounding(nn.Module):
    """A weight that moves over its grid, always rounded to the nearest code (straight-through estimator); one that is
    zero stays zero.

    It is kept in units of its scale, so that one learning rate suits the channels of all layers.
    """

    def __init__(self, weight: Tensor, scales: Tensor, limit: int) -> None:
        """As for SoftRounding."""
        super().__init__()
        self.scales, self.limit, self.alive = scales, limit, weight != 0
        self.v = nn.Parameter(weight / scales)

    def forward(self) -> Tensor:
        return straight_through(self.v, self.v.round()).clamp(-self.limit, self.limit) * self.alive * self.scales

    @torch.no_grad()
    def codes(self) -> Tensor:
        """float32 whole numbers."""
        return self.v.round().clamp(-self.limit, self.limit) * self.alive


def beta_at(progress: float) -> float | None:
    """The exponent of the regularizer when the share `progress` of the steps is done; None while it is absent."""
    if progress < WARMUP:
        return None
    cooled = (progress - WARMUP) / (1 - WARMUP)
    return LAST_BETA + (FIRST_BETA - LAST_BETA) * max(0.0, 1 - cooled)
