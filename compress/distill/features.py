"""Which layers of a student and its teacher are compared, and what they give while the networks run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from ... import errors
from .layers import Layer, Shape, stage_ends


@dataclass(frozen=True)
class FeaturePair:
    """A layer of the student and the layer of the teacher that it learns from."""

    student: str
    teacher: str
    student_shape: Shape
    teacher_shape: Shape


def paired_layers(
    student: Mapping[str, Layer], teacher: Mapping[str, Layer], layers: Sequence[str] | Mapping[str, str]
) -> tuple[FeaturePair, ...]:
    """The named layers: of the same name in both, or student's name to teacher's.

    Raises EdgeLatheError for a name that is not among `student` or `teacher`, listing those that are.
    """
    named = dict(layers) if isinstance(layers, Mapping) else {name: name for name in layers}
    if not named:
        raise errors.features.no_layers()
    for names, known, whose in ((named, student, "student"), (named.values(), teacher, "teacher")):
        for name in names:
            if name not in known:
                raise errors.features.unknown_layer(name, whose, known)
    return tuple(_pair(mine, theirs, student, teacher) for mine, theirs in named.items())


def paired_stages(student: Mapping[str, Layer], teacher: Mapping[str, Layer]) -> tuple[FeaturePair, ...]:
    """The ends of the resolution stages that both networks have; where they share none, in order from the last.

    Raises EdgeLatheError for a network without maps.
    """
    mine, theirs = stage_ends(student), stage_ends(teacher)
    for found, layers, whose in ((mine, student, "student"), (theirs, teacher, "teacher")):
        if not found:
            raise errors.features.no_stages(whose, list(layers))
    shared = [(mine[size], theirs[size]) for size in mine if size in theirs]
    count = min(len(mine), len(theirs))
    in_order = zip(list(mine.values())[-count:], list(theirs.values())[-count:], strict=True)
    return tuple(_pair(first, second, student, teacher) for first, second in shared or in_order)


def _pair(mine: str, theirs: str, student: Mapping[str, Layer], teacher: Mapping[str, Layer]) -> FeaturePair:
    return FeaturePair(mine, theirs, student[mine].shape, teacher[theirs].shape)


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
