"""Scales that are learned from what comes out at the end: of values, of their channels, and zero points.

A channel of a value may be made larger by a factor that the weights after it take out again (channel_scaling.py), and
is then rounded more finely. How fine is worth it depends on how far its rounding error is heard in the logits: in a
ResNet-20 a few channels of the first convolution make most of the noise. Learned by gradient from

    mean (quantized logits - float logits)^2

with float weights, learned step sizes (Esser et al. 2020) per channel and learned zero points (Bhalgat et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from ..calibration.affine import LEVELS
from ..placing.placement import Placement
from ..placing.targets import TARGETS
from ..plan import QuantPlan
from ..repair.channel_scaling import channel_groups, scale_channels
from ..value_codes import Codes
from .exact_sums import Shared, with_codes
from .held_values import held_values
from .simulation import Simulation

LR_SCALE, LR_ZERO_POINT = 0.03, 1.0
WARMUP_STEPS = 10
BETAS = (0.9, 0.98)

Loss = Callable[[Tensor, Tensor], Tensor]


class LearnedScales:
    """Rounds the values of a simulation by steps that have gradients."""

    def __init__(
        self,
        prepared: ir.Model,
        placement: Placement,
        plan: QuantPlan,
        shared: Sequence[Shared],
        simulation: Simulation,
    ) -> None:
        self.prepared, self.plan, self.simulation = prepared, plan, simulation
        self.target = TARGETS[plan.target]
        held = held_values(prepared, self.target)
        self.groups = channel_groups(prepared)
        self.free = torch.from_numpy(self.groups.free.astype(np.float32))
        self.log_factors = torch.zeros(len(self.free), requires_grad=True)
        together = {name: group.values[0] for group in shared for name in group.values}
        self.first = {name: names[0] for names in placement.tied for name in names}
        self.scale_of = {name: together.get(first, first) for name, first in self.first.items()}
        fixed = {self.scale_of[name] for name in held if name in self.scale_of}
        self.log_scales = {
            name: torch.tensor(float(np.log(plan.codes[name].scale)), requires_grad=name not in fixed)
            for name in dict.fromkeys(self.scale_of.values())
        }
        inner = range(self.target.lowest_code + 1, self.target.highest_code)
        self.zero_points = {
            name: torch.tensor(
                float(plan.codes[name].zero_point),
                requires_grad=self.scale_of[name] not in fixed and plan.codes[name].zero_point in inner,
            )
            for name in dict.fromkeys(self.first.values())
        }
        self._channels = {
            name: torch.from_numpy(self.groups.of_value[name]) for name in plan.codes if name in self.groups.of_value
        }

    def value(self, name: str, x: Tensor) -> Tensor:
        if name not in self.simulation.rounded:
            return x
        step = self.log_scales[self.scale_of[name]]
        if name in self._channels:
            factors = (self.log_factors * self.free)[self._channels[name]]
            step = (step - factors).reshape(1, -1, *[1] * (x.ndim - 2))
        zero_point = self.zero_points[self.first[name]]
        rounded: Tensor = _Round.apply(x, step.exp(), zero_point, self.target.lowest_code)
        return rounded

    def optimizer(self) -> torch.optim.Optimizer:
        scales = [scale for scale in self.log_scales.values() if scale.requires_grad]
        points = [point for point in self.zero_points.values() if point.requires_grad]
        return torch.optim.Adam(
            [
                {"params": [self.log_factors, *scales], "lr": LR_SCALE},
                {"params": points, "lr": LR_ZERO_POINT},
            ],
            betas=BETAS,
        )

    @torch.no_grad()
    def result(self) -> tuple[ir.Model, QuantPlan]:
        """The graph with its channels scaled, and the plan for it."""
        factors = (self.log_factors * self.free).double().exp().numpy()
        scaled = scale_channels(self.prepared, self.groups, factors)
        codes = {
            name: Codes(
                float(self.log_scales[self.scale_of[name]].exp()) if self._moves(name) else code.scale,
                int(self._whole(self.zero_points[self.first[name]])),
            )
            for name, code in self.plan.codes.items()
        }
        return scaled, with_codes(scaled, self.plan, codes)

    def _moves(self, name: str) -> bool:
        return self.log_scales[self.scale_of[name]].requires_grad

    def _whole(self, zero_point: Tensor) -> float:
        return float(zero_point.round().clamp(self.target.lowest_code, self.target.highest_code))


class _Round(torch.autograd.Function):
    """y = s clip(round(x / s), low, high) with low and high from the zero point, which moves what is clipped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, zero_point: Tensor, lowest: int) -> Tensor:
        low = lowest - float(zero_point.round().clamp(lowest, lowest + LEVELS - 1))
        steps = x / step
        rounded = steps.round()
        codes = rounded.clamp(low, low + LEVELS - 1)
        ctx.save_for_backward(step, rounded == codes, codes - torch.where(rounded == codes, steps, 0.0))
        return codes.mul_(step)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        step, inside, slope = ctx.saved_tensors
        for_x = gradient * inside
        for_step = (gradient * slope).sum_to_size(step.shape) if ctx.needs_input_grad[1] else None
        clipped = ((for_x - gradient) * step).sum() if ctx.needs_input_grad[2] else None
        return for_x, for_step, clipped, None
