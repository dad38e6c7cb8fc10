"""Zeros that stay zeros while a network is trained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .masks import Masks, check_zeros, mask_sha256, zeros_of


class HeldZeros:
    """A constraint (compress/constraint.py): after every step the weights that masks leave out are zero again, and so
    is their momentum, which would otherwise move them on."""

    def __init__(self, model: nn.Module, masks: Masks) -> None:
        """`masks` name parameters of `model`, bool of their shapes; see masks.py."""
        parameters = dict(model.named_parameters())
        self._model, self._masks = model, dict(masks)
        self._gone = {name: (parameters[name], ~mask) for name, mask in masks.items()}

    def settings(self) -> Mapping[str, object]:
        return {"held zeros": {name: mask_sha256(mask) for name, mask in sorted(self._masks.items())}}

    def tensors(self) -> Mapping[str, Tensor]:
        return {}

    def before_step(self, _at: float) -> None:
        pass

    @torch.no_grad()
    def after_step(self, _at: float, optimizer: torch.optim.Optimizer) -> None:
        for parameter, gone in self._gone.values():
            clear(parameter, gone, optimizer)

    def check(self) -> None:
        check_zeros(self._masks, self._model, "after training")


def hold_zeros(model: nn.Module) -> HeldZeros:
    """Holds every weight of convolutions, linear layers and attention projections that is exactly zero now."""
    return HeldZeros(model, zeros_of(model))


def clear(parameter: nn.Parameter, gone: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Zero where `gone`, in a parameter and its momentum."""
    parameter.masked_fill_(gone, 0)
    momentum = optimizer.state.get(parameter, {}).get("momentum_buffer")
    if momentum is not None:
        momentum.masked_fill_(gone, 0)
