"""EXPERIMENT: gradients in int8 as well (Zhu et al. 2020, "Towards Unified INT8 Training").

The gradient g of each layer's output is rounded to int8 before the layer's backward pass reads it:

    clip      c = the clip of least deviation d = 1 - cos(g, int8(g)), searched every PERIOD steps
    rounding  stochastic, so that the rounded gradient is right on average
    rate      phi(d) = max(exp(-20 d), 0.1) multiplies the gradient of the layer's weight and bias

It shows what training in int8 would do to accuracy. Nothing gets faster: the products are computed in float32.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

Gradients = Literal["float", "int8"]

LIMIT = 127
PERIOD = 100
"""Training steps between two searches for clips."""
SHARES = tuple(2.0 ** (-k / 2) for k in range(13))
"""Clips that are tried, as shares of the gradient's largest magnitude."""
SAMPLE = 2**16
"""A search looks at about so many values of a gradient, evenly spaced."""
STEEPNESS, LEAST_RATE = 20.0, 0.1


class Int8Gradients(nn.Module):
    """Rounds the gradients of layers and slows the layers whose gradients turn.

    `layers` gives the node that computes each value. Clips, deviations and the number of steps are buffers, and each
    step seeds its own draws, so that a resumed training draws what an undisturbed one does.
    """

    def __init__(self, layers: Mapping[str, str], *, seed: int) -> None:
        super().__init__()
        self._by_output = {value: number for number, value in enumerate(layers)}
        self._by_node = {node: number for number, node in enumerate(layers.values())}
        self._seed = seed
        self._draws = torch.Generator()
        self.clips = nn.Buffer(torch.ones(len(layers)))
        self.deviations = nn.Buffer(torch.zeros(len(layers)))
        self.steps = nn.Buffer(torch.zeros((), dtype=torch.int64))

    def at_output(self, value: str, x: Tensor) -> Tensor:
        """`x`, whose gradient is rounded on its way back if a layer computed it."""
        layer = self._by_output.get(value)
        if layer is None:
            return x
        same: Tensor = _RoundGradient.apply(x, self, layer)
        return same

    def at_weight(self, node: str, weight: Tensor) -> Tensor:
        """A layer's weight or bias, whose gradient is multiplied by phi of that layer."""
        same: Tensor = _SlowGradient.apply(weight, self, self._by_node[node])
        return same

    def step(self) -> None:
        """A forward pass is over; its backward pass comes next."""
        digest = hashlib.sha256(f"{self._seed} {int(self.steps)}".encode()).digest()
        self._draws.manual_seed(int.from_bytes(digest[:4], "little"))  # the generator takes no more than 32 bits in
        self.steps.add_(1)

    def round(self, layer: int, gradient: Tensor) -> Tensor:
        largest = float(gradient.abs().max())
        if not 0 < largest < math.inf:
            return gradient
        if (int(self.steps) - 1) % PERIOD == 0:
            self.clips[layer], self.deviations[layer] = least_deviation(gradient)
        scale = largest * float(self.clips[layer]) / LIMIT
        draws = torch.rand(gradient.shape, generator=self._draws)
        return (gradient / scale + draws).floor_().clamp_(-LIMIT, LIMIT).mul_(scale)

    def rate(self, layer: int) -> float:
        return slowed(float(self.deviations[layer]))


def least_deviation(gradient: Tensor) -> tuple[float, float]:
    """(share of the largest magnitude to clip at, deviation it leaves) of the best of SHARES; float32, not all 0."""
    flat = gradient.reshape(-1)
    sample = flat[:: max(1, len(flat) // SAMPLE)]
    largest = float(flat.abs().max())
    deviations = {share: deviation(sample, largest * share) for share in SHARES}
    best = min(deviations, key=lambda share: (deviations[share], -share))
    return best, deviations[best]


def deviation(gradient: Tensor, clip: float) -> float:
    """1 - cos between a gradient and its int8 codes up to `clip`; 1 where the codes are all 0."""
    codes = torch.round(gradient / (clip / LIMIT)).clamp_(-LIMIT, LIMIT)
    size = float(codes.norm() * gradient.norm())
    return 1.0 - float(codes.flatten() @ gradient.flatten()) / size if size > 0 else 1.0


def slowed(deviation: float) -> float:
    """phi(d) = max(exp(-20 d), 0.1)."""
    return max(math.exp(-STEEPNESS * deviation), LEAST_RATE)


class _RoundGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, owner: Int8Gradients, layer: int) -> Tensor:
        ctx.owner, ctx.layer = owner, layer
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.owner.round(ctx.layer, gradient), None, None


class _SlowGradient(torch.autograd.Function):
    """Its backward pass runs after the one of the layer's output, whose deviation it therefore knows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, owner: Int8Gradients, layer: int) -> Tensor:
        ctx.owner, ctx.layer = owner, layer
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient * ctx.owner.rate(ctx.layer), None, None
