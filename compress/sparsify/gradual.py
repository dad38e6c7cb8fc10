"""Magnitude pruning during training, along the cubic ramp (Zhu & Gupta 2017)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .hold import HeldZeros, clear
from .masks import check_zeros, zeros_of
from .names import PatternName
from .patterns import Scope, find_pattern, masks_from
from .ramp import cubic_keep, is_update
from .sparsify import magnitudes


class Gradual:
    """A constraint (compress/constraint.py): the smallest weights become zeros, more with every update, and stay so.

    What is zero has the smallest magnitude, so that each mask lies within the one before it. Zeros of other weights,
    from an earlier pruning, are held.
    """

    criterion = "magnitude"

    def __init__(
        self,
        model: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        pattern: PatternName,
        *,
        keep: float,
        scope: Scope,
        ramp: float,
    ) -> None:
        """`parameters` of `model` by name; `ramp` is how many epochs it takes to come to `keep`."""
        self._model, self._parameters = model, parameters
        self._name, self._pattern = pattern.name, find_pattern(pattern)
        self._keep, self._scope, self._ramp = keep, scope, ramp
        self._gone = {name: parameter.detach() == 0 for name, parameter in parameters.items()}
        zeros = zeros_of(model)
        self._others = HeldZeros(model, {name: mask for name, mask in zeros.items() if name not in parameters})
        self._before = 0.0

    @property
    def masks(self) -> dict[str, Tensor]:
        return {name: ~gone for name, gone in self._gone.items()}

    def settings(self) -> Mapping[str, object]:
        return {
            "criterion": self.criterion, "pattern": self._name, "keep": self._keep, "scope": self._scope,
            "ramp": self._ramp, "weights": sorted(self._parameters), "others": dict(self._others.settings()),
        }  # fmt: skip

    def tensors(self) -> Mapping[str, Tensor]:
        return {f"gone.{name}": gone for name, gone in self._gone.items()}

    def before_step(self, at: float) -> None:
        self._before = at

    @torch.no_grad()
    def after_step(self, at: float, optimizer: torch.optim.Optimizer) -> None:
        for name, parameter in self._parameters.items():
            clear(parameter, self._gone[name], optimizer)
        self._others.after_step(at, optimizer)
        if self._before < self._ramp and is_update(self._before, at):
            keep = cubic_keep(at / self._ramp, self._keep)
            for name, mask in masks_from(self._pattern, self._current_scores(), keep, self._scope).items():
                self._take(name, mask)
                clear(self._parameters[name], self._gone[name], optimizer)

    def _current_scores(self) -> Mapping[str, Tensor]:
        return magnitudes(self._parameters)

    def _take(self, name: str, mask: Tensor) -> None:
        """Let `mask` be that of a weight from now on."""
        self._gone[name].logical_or_(~mask)

    def check(self) -> None:
        self._others.check()
        check_zeros(self.masks, self._model, "after training")
