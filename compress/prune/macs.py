"""Multiply-accumulates and parameters, counted on the network as it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd


@dataclass(frozen=True)
class LayerCost:
    """MACs of one convolution or linear layer for one sample; a layer that runs twice counts twice."""

    outputs: int
    inputs: int
    groups: int
    macs: int

    def at(self, outputs: int, inputs: int) -> int:
        """MACs with other widths; exact, because MACs are proportional to them."""
        if self.groups == 1:
            return self.macs // (self.outputs * self.inputs) * (outputs * inputs)
        return self.macs // self.outputs * outputs


def layer_costs(model: nn.Module, example: Tensor) -> dict[str, LayerCost]:
    """Cost of each convolution and linear layer that runs, by name; `example` is float32 [N,C,H,W]."""
    costs: dict[str, LayerCost] = {}
    hooks = []
    was_training = model.training
    model.eval()
    try:
        for name, module in model.named_modules():
            if isinstance(module, (_ConvNd, nn.Linear)):
                hooks.append(module.register_forward_hook(_Counter(name, costs)))
        with torch.no_grad():
            model(example[:1])
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    return costs


def count_macs(model: nn.Module, example: Tensor) -> tuple[int, int]:
    """(MACs of one sample, parameters); MACs of convolutions and linear layers, as papers count them.

    `example` is float32 [N,C,H,W]; only its first sample is used. Products of two activations (attention) are
    not counted.
    """
    macs = sum(cost.macs for cost in layer_costs(model, example).values())
    return macs, sum(parameter.numel() for parameter in model.parameters())


class _Counter:
    """Forward hook that adds one layer's cost to `costs`."""

    def __init__(self, name: str, costs: dict[str, LayerCost]) -> None:
        self.name, self.costs = name, costs

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, _ConvNd):
            kernel = math.prod(module.kernel_size)
            # A transposed convolution spreads each input pixel; a plain one gathers each output pixel.
            positions = inputs[0].numel() if module.transposed else output.numel()
            fan = module.out_channels if module.transposed else module.in_channels
            macs = positions * kernel * (fan // module.groups)
            shape = module.out_channels, module.in_channels, module.groups
        else:
            assert isinstance(module, nn.Linear)
            macs = output.numel() * module.in_features
            shape = module.out_features, module.in_features, 1
        before = self.costs[self.name].macs if self.name in self.costs else 0
        self.costs[self.name] = LayerCost(*shape, before + macs)
