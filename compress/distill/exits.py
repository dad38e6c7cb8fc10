"""Where the exits of self-distillation read: at the end of each stage of a network but the last (layers.py), which has
the network's own classifier; and what they get right."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ... import errors
from ...data import Preprocess, Split
from ...models.exits import Exit, Exits, NetworkWithExits
from ..objective import as_tensor, network_inputs
from .layers import Layer, layers_of, stage_ends

NARROWEST = 8
"""Channels that the inside of a branch has at least."""


@dataclass(frozen=True)
class ExitPlan:
    exits: tuple[Exit, ...]
    """From the shallowest on."""
    last: str
    """The module that returns the network's last feature map, whose mean over the image exits learn to give."""


@dataclass(frozen=True)
class ExitCount:
    """Test images that one output of a network with exits classifies right."""

    output: str
    """Layer that the exit reads; "logits" for the network's own answer."""
    correct: int
    total: int


def plan_exits(model: nn.Module, example: Tensor, layers: Sequence[str] = ()) -> ExitPlan:
    """Exits behind `layers`, by default behind each stage but the last; `example` is float32 [N, C, H, W].

    Raises EdgeLatheError for layers that are unknown, named twice or return no feature maps, and for a network in
    which no stages are found.
    """
    found = layers_of(model, example[:1].repeat(2, 1, 1, 1))
    maps = {name: layer for name, layer in found.items() if math.prod(layer.size) > 1}
    if not maps:
        raise errors.exits.no_feature_maps()
    smallest = min((layer.size for layer in maps.values()), key=math.prod)
    (last,) = stage_ends({name: layer for name, layer in maps.items() if layer.size == smallest}).values()
    before_last = {name: layer for name, layer in maps.items() if layer.size != smallest}
    chosen = _in_order(layers, maps) if layers else list(stage_ends(before_last).values())
    if not chosen:
        raise errors.exits.no_stages(sorted({f"{high} x {wide}" for high, wide in (map.size for map in maps.values())}))
    with torch.no_grad():
        classes = copy.deepcopy(model).eval()(example[:1]).shape[1]
    return ExitPlan(tuple(_exit(name, maps[name], maps[last], classes) for name in chosen), last)


def _in_order(layers: Sequence[str], maps: Mapping[str, Layer]) -> list[str]:
    for number, name in enumerate(layers):
        if name not in maps:
            raise errors.exits.unknown_exit(name, list(maps))
        if name in layers[:number]:
            raise errors.exits.repeated_exit(name)
    return [name for name in maps if name in layers]


def _exit(name: str, read: Layer, last: Layer, classes: int) -> Exit:
    (inputs, high, wide), (features, last_high, last_wide) = read.shape, last.shape
    return Exit(
        layer=name,
        inputs=inputs,
        middle=max(NARROWEST, min(features // 4, inputs)),
        features=features,
        reduction=(max(1, high // last_high), max(1, wide // last_wide)),
        classes=classes,
    )


def count_right(
    model: nn.Module, exits: Exits, split: Split, preprocess: Preprocess, *, batch: int = 250
) -> tuple[ExitCount, ...]:
    """How many images of `split` each exit, and last the network itself, classifies as labelled, in eval mode."""
    together = NetworkWithExits(model, exits)
    modes = {module: module.training for module in together.modules()}
    together.eval()
    images, labels = as_tensor(split.x), as_tensor(split.y)
    right = torch.zeros(1 + len(exits.specs), dtype=torch.int64)
    with torch.inference_mode():
        for first in range(0, len(labels), batch):
            answers = torch.stack(together(network_inputs(images[first : first + batch], preprocess)))
            right += (answers.argmax(dim=2) == labels[first : first + batch]).sum(dim=1)
    for module, training in modes.items():
        module.training = training
    own, *others = right.tolist()
    counts = [ExitCount(layer, count, len(labels)) for layer, count in zip(exits.layers, others, strict=True)]
    return (*counts, ExitCount(together.names[0], own, len(labels)))
