"""Which layers of a student and its teacher are compared, and what they give while the networks run."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ... import errors

Shape = tuple[int, ...]
"""Of what a layer gives for one image: (channels, height, width) of maps, (features,) of a vector."""


@dataclass(frozen=True)
class FeaturePair:
    """A layer of the student and the layer of the teacher that it learns from."""

    student: str
    teacher: str
    student_shape: Shape
    teacher_shape: Shape


def layer_shapes(network: nn.Module, inputs: Tensor) -> dict[str, Shape]:
    """What each layer gives per image, where that is a map or a vector, in the order in which they last ended.

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
    return shapes


def stages(shapes: Mapping[str, Shape]) -> dict[tuple[int, int], str]:
    """The layer at the end of each resolution stage, by its resolution, from the first to the last.

    That is, of the layers that give maps of this resolution, the last of the outermost ones: a block that ends the
    stage and not the expansion inside the next one, which has not halved yet. A single layer of a resolution is no
    stage (padding, pooling), unless there are no others.
    """
    members: dict[tuple[int, int], list[str]] = {}
    for name, shape in shapes.items():
        if len(shape) == 3 and shape[1] * shape[2] > 1:
            members.setdefault((shape[1], shape[2]), []).append(name)
    grown = {size: names for size, names in members.items() if len(names) > 1} or members
    return {size: _last_outermost(grown[size]) for size in sorted(grown, key=math.prod, reverse=True)}


def _last_outermost(names: Sequence[str]) -> str:
    depths = [name.count(".") for name in names]
    return [name for name, depth in zip(names, depths, strict=True) if depth == min(depths)][-1]


def paired_layers(
    student: Mapping[str, Shape], teacher: Mapping[str, Shape], layers: Sequence[str] | Mapping[str, str]
) -> tuple[FeaturePair, ...]:
    """The named layers: of the same name in both, or student's name to teacher's.

    Raises EdgeLatheError for a name that is not among `student` or `teacher`, listing those that are.
    """
    named = dict(layers) if isinstance(layers, Mapping) else {name: name for name in layers}
    if not named:
        raise errors.features.no_layers()
    for names, shapes, whose in ((named, student, "student"), (named.values(), teacher, "teacher")):
        for name in names:
            if name not in shapes:
                raise errors.features.unknown_layer(name, whose, shapes)
    return tuple(_pair(mine, theirs, student, teacher) for mine, theirs in named.items())


def paired_stages(student: Mapping[str, Shape], teacher: Mapping[str, Shape]) -> tuple[FeaturePair, ...]:
    """The ends of the resolution stages that both networks have; where they share none, in order from the last.

    Raises EdgeLatheError for a network without maps.
    """
    mine, theirs = stages(student), stages(teacher)
    for found, shapes, whose in ((mine, student, "student"), (theirs, teacher, "teacher")):
        if not found:
            raise errors.features.no_stages(whose, list(shapes))
    shared = [(mine[size], theirs[size]) for size in mine if size in theirs]
    count = min(len(mine), len(theirs))
    in_order = zip(list(mine.values())[-count:], list(theirs.values())[-count:], strict=True)
    return tuple(_pair(first, second, student, teacher) for first, second in shared or in_order)


def _pair(mine: str, theirs: str, student: Mapping[str, Shape], teacher: Mapping[str, Shape]) -> FeaturePair:
    return FeaturePair(mine, theirs, student[mine], teacher[theirs])


class Features:
    """What the named layers of one network gave in its latest pass.

    whose -- "student": of passes in train mode, not of those that judge it between epochs; "teacher": in eval mode.
    """

    def __init__(self, names: Iterable[str], whose: Literal["student", "teacher"]) -> None:
        self._names = tuple(dict.fromkeys(names))
        self._whose = whose
        self._found: dict[str, Tensor] = {}

    @contextmanager
    def listening(self, network: nn.Module) -> Iterator[None]:
        """Hooks on the layers of `network` as long as this lasts; it may be compiled after this is entered."""
        hooks = []
        try:
            for name in self._names:
                hooks.append(network.get_submodule(name).register_forward_hook(self._hook(network, name)))
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self._found.clear()

    def _hook(self, network: nn.Module, name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def keep(_layer: nn.Module, _inputs: object, output: Tensor) -> None:
            if network.training == (self._whose == "student"):
                self._found[name] = output

        return keep

    def take(self) -> dict[str, Tensor]:
        """float32 [N,C,H,W] or [N,C] by name, with their graphs; taken once, so that none outlives its step.

        Raises EdgeLatheError for a layer that did not run.
        """
        for name in self._names:
            if name not in self._found:
                raise errors.features.feature_missing(name, self._whose)
        taken = {name: output.float() for name, output in self._found.items()}
        self._found.clear()
        return taken
