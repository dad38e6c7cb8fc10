"""Small networks that show how latency depends on one group's width, and the multiples that they tell.

The width of a group is an output of the layers that make its channels and an input of those that read them, and a
runtime may block the two differently. So a probe holds the costliest layer of each: maker, depthwise convolution where
there is one, reader, at the sizes that they have in the network. It takes the same images as the network.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .macs import LayerCost
from .plan import Group, GroupMultiple, Side
from .staircase import find_multiple, widths_to_measure
from .surgery import is_depthwise, width

FAMILIES = 6
"""Families that are measured at most, those with most MACs first; others take the multiple of a similar one."""
READINGS = 3
"""Of each width, in rounds of random order."""


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer but for one of its widths."""

    kind: str
    """"conv", "depthwise" or "linear"."""
    channels: int
    """Of its other side; 0 for depthwise ones."""
    kernel: Any = 1
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    """As `nn.Conv2d` takes them."""

    def build(self, inputs: int, outputs: int) -> nn.Module:
        if self.kind == "linear":
            return nn.Linear(inputs, outputs)
        groups = inputs if self.kind == "depthwise" else 1
        return nn.Conv2d(inputs, outputs, self.kernel, self.stride, self.padding, self.dilation, groups)


@dataclass(frozen=True)
class Family:
    """What the channels of a group run through."""

    maker: Layer
    between: Layer | None
    reader: Layer | None
    stride: int
    """Pixels of the image for each one that the maker reads."""
    widths: tuple[int, ...]

    def like(self, other: Family) -> bool:
        """Whether the operators are the same, at whatever sizes."""
        pairs = zip((self.maker, self.between, self.reader), (other.maker, other.between, other.reader), strict=True)
        return all(a == b or (a and b and (a.kind, a.kernel) == (b.kind, b.kernel)) for a, b in pairs)


class Probe(nn.Module):
    """One family at one width; takes images [N,C,H,W], returns [N, channels]."""

    def __init__(self, family: Family, width: int, image_channels: int) -> None:
        super().__init__()
        maker, between, reader = family.maker, family.between, family.reader
        self.adapter = nn.Conv2d(image_channels, maker.channels, 1, stride=family.stride)
        self.as_tokens = maker.kind == "linear"
        chain = [maker.build(maker.channels, width), nn.ReLU()]
        if between:
            chain += [between.build(width, width), nn.ReLU()]
        if reader:
            chain += [reader.build(width, reader.channels), nn.ReLU()]
        self.chain = nn.Sequential(*chain)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.adapter(images)
        if self.as_tokens:
            return self.chain(maps.flatten(2).transpose(1, 2)).mean(dim=1)
        return self.chain(maps).mean(dim=(2, 3))


def measure_multiples(
    model: nn.Module,
    example: Tensor,
    groups: Sequence[Group],
    costs: Mapping[str, LayerCost],
    measure: Callable[[nn.Module], float],
    *,
    seed: int,
) -> tuple[GroupMultiple, ...]:
    """The multiple of channels for each of the prunable `groups`, measured on probes of its family."""
    strides = _strides(model, example)
    layers = dict(model.named_modules())
    families = {group.layer: _family(group, layers, costs, strides) for group in groups}
    macs: dict[Family, int] = defaultdict(int)
    for group in groups:
        if family := families[group.layer]:
            macs[family] += sum(costs[layer].macs for layer in {member.layer for member in group.members} & set(costs))
    measured = sorted(macs, key=lambda family: macs[family], reverse=True)[:FAMILIES]
    times = _measure(measured, example, measure, seed)
    found = {family: find_multiple(times[family]) for family in measured}

    def multiple_of(group: Group) -> GroupMultiple:
        family = families[group.layer]
        if family is None:
            return GroupMultiple(group.layer, 1, "it is too narrow, or no convolution or linear layer makes it")
        similar = family if family in found else next((one for one in measured if one.like(family)), None)
        if similar is None:
            return GroupMultiple(group.layer, 1, "no group of such layers was measured")
        stand_in = next(layer for layer, own in families.items() if own == similar)
        where = "" if similar == family else f"as {stand_in}: "
        return GroupMultiple(group.layer, found[similar].multiple, where + found[similar].reason)

    return tuple(multiple_of(group) for group in groups)


def _measure(
    families: Sequence[Family], example: Tensor, measure: Callable[[nn.Module], float], seed: int
) -> dict[Family, dict[int, list[float]]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probes = [
            (family, width, Probe(family, width, example.shape[1]).eval())
            for family in families
            for width in family.widths
        ]
    times: dict[Family, dict[int, list[float]]] = {family: defaultdict(list) for family in families}
    order = random.Random(seed)
    for _ in range(READINGS):
        for family, size, probe in order.sample(probes, len(probes)):
            times[family][size].append(float(measure(probe)))
    return times


def _strides(model: nn.Module, example: Tensor) -> dict[str, int]:
    """For each convolution and linear layer that runs: pixels of the image along a side for each one that it reads."""
    strides: dict[str, int] = {}
    side = example.shape[-1]

    def record(name: str, inputs: tuple[Tensor, ...]) -> None:
        read = inputs[0]
        is_map = read.ndim == 4
        across = read.shape[-1] if is_map else math.sqrt(read[0].numel() / read.shape[-1])
        strides[name] = max(1, int(side // across))

    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: record(name, inputs))
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(example[:1])
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    return strides


def _family(
    group: Group, layers: Mapping[str, nn.Module], costs: Mapping[str, LayerCost], strides: Mapping[str, int]
) -> Family | None:
    def costliest(side: Side, kinds: Sequence[str]) -> str | None:
        names = {member.layer for member in group.members if member.side == side and member.layer in strides}
        fitting = [name for name in layers if name in names and _kind(layers[name]) in kinds]
        return max(fitting, key=lambda name: costs[name].macs, default=None)

    maker = costliest("out", ("conv", "linear"))
    widths = widths_to_measure(group.before)
    if maker is None or not widths:
        return None
    kind = _kind(layers[maker])
    between = costliest("channels", ("depthwise",)) if kind == "conv" else None
    reader = costliest("in", (kind,))
    return Family(
        _layer(layers[maker], "in"),
        _layer(layers[between], "channels") if between else None,
        _layer(layers[reader], "out") if reader else None,
        strides[maker],
        widths,
    )


def _kind(layer: nn.Module) -> str:
    if isinstance(layer, nn.Linear):
        return "linear"
    if isinstance(layer, nn.Conv2d) and is_depthwise(layer):
        return "depthwise"
    return "conv" if isinstance(layer, nn.Conv2d) and layer.groups == 1 else ""


def _layer(layer: nn.Module, other: Side) -> Layer:
    kind = _kind(layer)
    channels = 0 if kind == "depthwise" else width(layer, other)
    if not isinstance(layer, nn.Conv2d):
        return Layer(kind, channels)
    return Layer(kind, channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
