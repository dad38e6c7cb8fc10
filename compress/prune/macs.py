"""Multiply-accumulates and parameters, counted on the network as it runs."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ...models.attention import attention_macs, attentions, heads


@dataclass(frozen=True)
class LayerCost:
    """MACs of one convolution, linear layer or attention for one sample; one that runs twice counts twice."""

    outputs: int
    """Heads, where it is attention."""
    inputs: int
    groups: int
    macs: int

    def at(self, outputs: int, inputs: int) -> int:
        """MACs with other widths, equally many in each group; exact, because MACs are proportional to them."""
        if 1 < self.groups == self.inputs == self.outputs:  # a depthwise convolution loses groups
            return self.macs * outputs // self.outputs
        return self.macs * outputs * inputs // (self.outputs * self.inputs)


def layer_costs(model: nn.Module, example: Tensor) -> dict[str, LayerCost]:
    """Cost of each convolution, linear layer and attention that runs, by name; `example` is float32 [N,C,H,W].

    No arithmetic is done where the forward pass asks for shapes alone. Attention counts as a whole: its projections,
    query by key, and attention by value. Layers inside of it do not appear on their own.
    """
    try:
        return _counted(_weightless(model), example[:1].to("meta"))
    except Exception:  # whatever a forward raises that asks for numbers and not for shapes alone
        return _counted(model, example[:1])


def _weightless(model: nn.Module) -> nn.Module:
    """A copy without numbers and batch norms: those change no shape, and take PyTorch long without numbers."""
    tensors = [*model.parameters(), *model.buffers()]
    weightless = copy.deepcopy(model, {id(tensor): tensor.to("meta") for tensor in tensors})
    for name, module in list(weightless.named_modules()):
        if isinstance(module, _BatchNorm) and name:
            weightless.set_submodule(name, nn.Identity())
    return weightless


def _counted(model: nn.Module, image: Tensor) -> dict[str, LayerCost]:
    costs: dict[str, LayerCost] = {}
    hooks = []
    was_training = model.training
    model.eval()
    try:
        whole = attentions(model)
        inside = {part for module in whole.values() for part in module.modules()}
        for name, module in whole.items():
            hooks.append(module.register_forward_hook(_AttentionCounter(name, costs), with_kwargs=True))
        for name, module in model.named_modules():
            if isinstance(module, (_ConvNd, nn.Linear)) and module not in inside:
                hooks.append(module.register_forward_hook(_Counter(name, costs)))
        with torch.no_grad():
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    return costs


def count_macs(model: nn.Module, example: Tensor) -> tuple[int, int]:
    """(MACs of one sample, parameters); MACs of convolutions, linear layers and attention, as papers count them.

    `example` is float32 [N,C,H,W]; only its first sample is used. Products of two activations are counted in the
    attention modules that models/attention.py knows, and nowhere else.
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


class _AttentionCounter:
    """Forward hook that adds one attention module's cost to `costs`."""

    def __init__(self, name: str, costs: dict[str, LayerCost]) -> None:
        self.name, self.costs = name, costs

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], _output: object) -> None:
        before = self.costs[self.name].macs if self.name in self.costs else 0
        self.costs[self.name] = LayerCost(heads(module), 1, 1, before + attention_macs(module, *inputs, **keywords))
