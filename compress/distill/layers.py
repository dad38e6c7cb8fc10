"""The layers of a network and what they give, found by running it once; and where its resolution stages end."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

Shape = tuple[int, ...]
"""Of what a layer gives for one image: (channels, height, width) of maps, (features,) of a vector."""


@dataclass(frozen=True)
class Layer:
    shape: Shape
    convolutions: int = 0
    """That it is or holds."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its maps; those of a vector are 1."""
        height, width = self.shape[1:] or (1, 1)
        return height, width


def layers_of(network: nn.Module, inputs: Tensor) -> dict[str, Layer]:
    """The layers that give maps or vectors, in the order in which they last ended, by name.

    inputs -- float32 [N,C,H,W], N at least 2 so that no other dimension is taken for it.
    """
    shapes: dict[str, Shape] = {}
    high, wide = inputs.shape[2:]

    def note(name: str, output: object) -> None:
        shapes.pop(name, None)
        if not isinstance(output, Tensor) or len(output) != len(inputs):
            return
        shape = tuple(output.shape[1:])
        # Grids with their channels last, as some transformers have them, do not have the image's proportions.
        if len(shape) == 1 or (len(shape) == 3 and abs(shape[1] * wide - shape[2] * high) < max(high, wide)):
            shapes[name] = shape

    trial = copy.deepcopy(network).eval()
    for name, layer in trial.named_modules():
        if name:
            layer.register_forward_hook(lambda _layer, _inputs, output, name=name: note(name, output))
    with torch.no_grad():
        trial(inputs)
    return {name: Layer(shape, _convolutions(network.get_submodule(name))) for name, shape in shapes.items()}


def _convolutions(layer: nn.Module) -> int:
    return sum(isinstance(module, _ConvNd) for module in layer.modules())


def stage_ends(layers: Mapping[str, Layer]) -> dict[tuple[int, int], str]:
    """The layer at the end of each resolution stage, by its size, from the first to the last.

    A stage is what happens at one size. Its end is the last block there (a layer of two or more convolutions that no
    layer of the same size holds), or its last outermost layer where there are no blocks. Passed over are single layers
    (padding, pooling) where others have more, stages without blocks where others have some, and those of a single
    convolution where others have more: such is the stem, which has nothing to say yet.
    """
    stages: dict[tuple[int, int], dict[str, Layer]] = {}
    for name, layer in layers.items():
        if math.prod(layer.size) > 1:
            stages.setdefault(layer.size, {})[name] = layer
    for enough in (
        lambda stage: len(stage) > 1,
        lambda stage: max(layer.convolutions for layer in stage.values()) > 1,
        lambda stage: sum(layer.convolutions for layer in _outermost(stage).values()) > 1,
    ):
        stages = {size: stage for size, stage in stages.items() if enough(stage)} or stages
    return {size: _end(stages[size]) for size in sorted(stages, key=math.prod, reverse=True)}


def _end(stage: Mapping[str, Layer]) -> str:
    outermost = _outermost(stage)
    blocks = [name for name, layer in outermost.items() if layer.convolutions > 1]
    return (blocks or list(outermost))[-1]


def _outermost(stage: Mapping[str, Layer]) -> dict[str, Layer]:
    return {name: layer for name, layer in stage.items() if not any(holder in stage for holder in _holders(name))}


def _holders(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
