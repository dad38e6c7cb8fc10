"""Where the exits of self-distillation read: at the end of each stage of a network, found by running it once.

A stage is what happens at one resolution. Its end is the last block there (a module of two or more convolutions that
no module of the same resolution holds), or its last layer where there are no blocks. The last stage has the network's
own classifier. Stages without blocks are passed over where others have some, and those of a single convolution where
others have more: such is the stem, which has nothing to say yet.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ... import errors
from ...data import Preprocess, Split
from ...models.exits import Exit, Exits, NetworkWithExits
from ..objective import as_tensor, network_inputs
from .features import layer_shapes

NARROWEST = 8
"""Channels that the inside of a branch has at least."""


@dataclass(frozen=True)
class FeatureMap:
    """What a module of the network returns for one image."""

    layer: str
    channels: int
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def area(self) -> int:
        return self.height * self.width

    def __str__(self) -> str:
        return f"{self.height} x {self.width}"


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
    maps = feature_maps(model, example)
    if not maps:
        raise errors.exits.no_feature_maps()
    smallest = min(found.area for found in maps)
    last = _end(model, [found for found in maps if found.area == smallest])
    chosen = _named(maps, layers) if layers else _stage_ends(model, maps, last)
    if not chosen:
        raise errors.exits.no_stages(sorted({str(found) for found in maps}))
    with torch.no_grad():
        classes = copy.deepcopy(model).eval()(example[:1]).shape[1]
    return ExitPlan(tuple(_exit(found, last, classes) for found in chosen), last.layer)


def feature_maps(model: nn.Module, example: Tensor) -> tuple[FeatureMap, ...]:
    """The modules that return a grid of the image's proportions with more than one place, in the order they finish."""
    high, wide = example.shape[2:]
    shapes = layer_shapes(model, example[:1].repeat(2, 1, 1, 1))
    grids = [FeatureMap(name, *shape) for name, shape in shapes.items() if len(shape) == 3]
    # Grids with the channels last, as some transformers have them, have other proportions.
    return tuple(
        grid for grid in grids if grid.area > 1 and abs(grid.height * wide - grid.width * high) < max(high, wide)
    )


def _stage_ends(model: nn.Module, maps: Sequence[FeatureMap], last: FeatureMap) -> list[FeatureMap]:
    first_of_last = next(number for number, found in enumerate(maps) if found.size == last.size)
    stages: dict[tuple[int, int], list[FeatureMap]] = {}
    for found in maps[:first_of_last]:
        stages.setdefault(found.size, []).append(found)
    several = [stage for stage in stages.values() if len(stage) > 1]  # one layer alone computes nothing yet
    grown = [stage for stage in several if _blocks(model, stage)]
    grown = grown or [stage for stage in several if _convolutions(model, (found.layer for found in stage)) > 1]
    return [_end(model, stage) for stage in grown or several]


def _end(model: nn.Module, stage: Sequence[FeatureMap]) -> FeatureMap:
    return (_blocks(model, stage) or _outermost(stage))[-1]


def _blocks(model: nn.Module, stage: Sequence[FeatureMap]) -> list[FeatureMap]:
    return [found for found in _outermost(stage) if _convolutions(model, [found.layer]) > 1]


def _outermost(stage: Sequence[FeatureMap]) -> list[FeatureMap]:
    names = {found.layer for found in stage}
    return [found for found in stage if not names & set(_holders(found.layer))]


def _holders(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _convolutions(model: nn.Module, layers: Iterable[str]) -> int:
    """How many the layers are or hold."""
    inner = {module for layer in layers for module in model.get_submodule(layer).modules()}
    return sum(isinstance(module, _ConvNd) for module in inner)


def _named(maps: Sequence[FeatureMap], layers: Sequence[str]) -> list[FeatureMap]:
    by_name = {found.layer: found for found in maps}
    for number, name in enumerate(layers):
        if name not in by_name:
            raise errors.exits.unknown_exit(name, list(by_name))
        if name in layers[:number]:
            raise errors.exits.repeated_exit(name)
    return [found for found in maps if found.layer in layers]


def _exit(found: FeatureMap, last: FeatureMap, classes: int) -> Exit:
    return Exit(
        layer=found.layer,
        inputs=found.channels,
        middle=max(NARROWEST, min(last.channels // 4, found.channels)),
        features=last.channels,
        reduction=(max(1, found.height // last.height), max(1, found.width // last.width)),
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
