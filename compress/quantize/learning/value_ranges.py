"""How the ranges of activations are found while a network trains: learned step by step, or observed.

Both start from a calibrated plan, keep one scale for values that are tied, and keep 0 exactly representable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..calibration.affine import LEVELS, affine
from ..placing.targets import Target
from ..value_codes import Codes
from .fake_quantize import fake_quantize

Ranges = Literal["lsq", "ema"]
Bounds = tuple[float, float]

DECAY = 0.99
"""Of the moving average, per training step."""
LEAST_STEP = 1 / 16
"""A learned step stays above this share of what it began as: a step of 0 would never come back."""


class LearnedSteps(nn.Module):
    """Learned step sizes (Esser et al. 2020). The zero point stays where calibration put it, so 0 stays exact."""

    def __init__(self, codes: Sequence[Codes], fixed: Sequence[bool], target: Target) -> None:
        """By group of tied values: what calibration found, and whether it is to stay so."""
        super().__init__()
        self.scales = nn.ParameterList(
            nn.Parameter(torch.tensor([code.scale]), requires_grad=not held)
            for code, held in zip(codes, fixed, strict=True)
        )
        self.zero_points = nn.Buffer(torch.tensor([code.zero_point for code in codes]))
        self._codes = list(codes)
        self._ends = [(target.lowest_code - code.zero_point, target.highest_code - code.zero_point) for code in codes]
        self._least = [code.scale * LEAST_STEP for code in codes]

    def quantize(self, group: int, x: Tensor) -> Tensor:
        """`x` rounded to the codes of its group of tied values."""
        low, high = self._ends[group]
        values = x[0].numel() * max(-low, high)
        return fake_quantize(x, self._step(group), low, high, step_gradient=values**-0.5)

    def scale(self, group: int) -> float:
        return float(self._step(group).detach())

    def codes(self) -> list[Codes]:
        """What the groups have come to."""
        return [Codes(self.scale(group), code.zero_point) for group, code in enumerate(self._codes)]

    def observe(self, group: int, x: Tensor, bounds: Bounds) -> None:
        """Nothing: a step learns by its gradient."""

    def step(self) -> None:
        """Nothing: the optimizer moves the steps."""

    def _step(self, group: int) -> Tensor:
        return self.scales[group].clamp(min=self._least[group])


class ObservedRanges(nn.Module):
    """Moving averages of each batch's extrema (Jacob et al. 2018), used from the next batch on."""

    def __init__(self, codes: Sequence[Codes], fixed: Sequence[bool], target: Target) -> None:
        """As for LearnedSteps."""
        super().__init__()
        self._lowest = target.lowest_code
        starts = [(self._lowest - code.zero_point) * code.scale for code in codes]
        ends = [(start, start + (LEVELS - 1) * code.scale) for start, code in zip(starts, codes, strict=True)]
        self.ends = nn.Buffer(torch.tensor(ends, dtype=torch.float64).reshape(-1, 2))
        self._fixed = list(fixed)
        self._first = list(codes)
        self._seen: dict[int, Bounds] = {}

    def quantize(self, group: int, x: Tensor) -> Tensor:
        code = self._code(group)
        low = self._lowest - code.zero_point
        return fake_quantize(x, torch.tensor(code.scale), low, low + LEVELS - 1)

    def scale(self, group: int) -> float:
        return self._code(group).scale

    def codes(self) -> list[Codes]:
        return [self._code(group) for group in range(len(self._first))]

    def observe(self, group: int, x: Tensor, bounds: Bounds) -> None:
        """See the values of a training step, before rounding; whatever follows clips them to `bounds`."""
        low, high = (float(end.clamp(*bounds)) for end in x.detach().aminmax())
        known = self._seen.get(group, (low, high))
        self._seen[group] = min(low, known[0]), max(high, known[1])

    def step(self) -> None:
        """The forward pass of a training step is over: what it saw enters the averages."""
        for group, seen in self._seen.items():
            self.ends[group].lerp_(torch.tensor(seen, dtype=self.ends.dtype), 1 - DECAY)
        self._seen.clear()

    def _code(self, group: int) -> Codes:
        if self._fixed[group]:
            return self._first[group]
        low, high = self.ends[group].tolist()
        scale, zero_point = affine(low, high)
        return Codes(scale, zero_point + self._lowest)


ValueRanges = LearnedSteps | ObservedRanges
RANGES: dict[Ranges, type[LearnedSteps] | type[ObservedRanges]] = {"lsq": LearnedSteps, "ema": ObservedRanges}
