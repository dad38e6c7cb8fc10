"""Rounding to codes in float32, with gradients to what is rounded and to the step it is rounded by.

    q(x) = clip(round(x / s), low, high),   y = s q(x)
    dy/dx = 1 where x is not clipped, else 0                       (straight-through estimator, Bengio et al. 2013)
    dy/ds = q(x) - x / s where x is not clipped, else low or high  (learned step size, Esser et al. 2020)

`low` and `high` are codes less the zero point, so that 0 is exact. Rounding is half to even and divides by the scale,
as ONNX's QuantizeLinear does: both give the same codes for the same float32 input.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def fake_quantize(x: Tensor, scale: Tensor, low: float, high: float, *, step_gradient: float = 1.0) -> Tensor:
    """`x` rounded to multiples of `scale` between low * scale and high * scale.

    `scale` is float32 and broadcasts against `x`. Its gradient is multiplied by `step_gradient`; Esser et al. take
    1 / sqrt(N high) for N values per scale, which lets a step move about as fast as the weights around it.
    """
    rounded: Tensor = _FakeQuantize.apply(x, scale, low, high, step_gradient)
    return rounded


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: float, high: float, step_gradient: float) -> Tensor:
        ctx.save_for_backward(x, scale)
        ctx.low, ctx.high, ctx.step_gradient = low, high, step_gradient
        return (x / scale).round_().clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        x, scale = ctx.saved_tensors
        steps = x / scale
        rounded = steps.round()
        codes = rounded.clamp(ctx.low, ctx.high)
        inside = rounded.eq_(codes)  # 1 or 0 in float32: products with a mask of bool would first convert it
        for_x = gradient * inside if ctx.needs_input_grad[0] else None
        for_scale = None
        if ctx.needs_input_grad[1]:
            slope = codes.sub_(steps.mul_(inside)).mul_(gradient)
            for_scale = slope.sum_to_size(scale.shape).mul_(ctx.step_gradient)
        return for_x, for_scale, None, None, None


def straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    """`rounded`, with the gradient of `value`."""
    return value + (rounded - value).detach()
