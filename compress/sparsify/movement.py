"""Movement pruning (Sanh et al. 2020): weights that training moves away from zero stay, whatever their size.

    S = - sum over steps of (dL/dW) W

The gradient is that of the loss at the masked weights (straight-through, as in the paper), so that a weight that was
left out goes on collecting its score and may come back with the value it had. The share that stays falls along the
cubic ramp; after it the masks stand. The paper's learning rate of scores would scale all of them and changes no rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .gradual import Gradual
from .names import PatternName
from .patterns import Scope


class Movement(Gradual):
    """As `Gradual`, by movement instead of magnitude."""

    criterion = "movement"

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
        super().__init__(model, parameters, pattern, keep=keep, scope=scope, ramp=ramp)
        self._pruned_before = {name: gone.clone() for name, gone in self._gone.items()}
        self._scores = {name: torch.zeros_like(gone, dtype=torch.float32) for name, gone in self._gone.items()}
        for name, gone in self._gone.items():
            self._scores[name].masked_fill_(gone, -math.inf)
        self._aside = {name: torch.zeros_like(parameter).detach() for name, parameter in parameters.items()}

    def tensors(self) -> Mapping[str, Tensor]:
        kinds = (("scores", self._scores), ("aside", self._aside))
        mine = {f"{kind}.{name}": tensor for kind, tensors in kinds for name, tensor in tensors.items()}
        return {**super().tensors(), **mine}

    @torch.no_grad()
    def before_step(self, at: float) -> None:
        super().before_step(at)
        if at >= self._ramp:
            return
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                self._scores[name] -= parameter.grad * (parameter + self._aside[name])

    def _current_scores(self) -> Mapping[str, Tensor]:
        return self._scores

    def _take(self, name: str, mask: Tensor) -> None:
        parameter, aside = self._parameters[name], self._aside[name]
        parameter.add_(aside)  # one of the two is zero everywhere
        aside.copy_(parameter).masked_fill_(mask, 0)
        self._gone[name].copy_(~mask | self._pruned_before[name])
