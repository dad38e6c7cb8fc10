"""Early exits: classifiers beside a network that answer from feature maps in the middle of it.

They are no part of the network they read: its modules, its tensors and its own answer stay what they are. In a folder
of a saved network they are a file beside it, `exits.safetensors`: the tensors, and in its header how to build them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from .. import errors
from ..files import write_atomic
from .exitnames import MAIN, exit_names

FILE = "exits.safetensors"
_HEADER = "edgelathe"


@dataclass(frozen=True)
class Exit:
    """How one side classifier is built."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    layer: str
    """The module whose output it reads, float [N, inputs, H, W]."""
    inputs: int
    middle: int
    """Channels inside the branch."""
    features: int
    """Channels at the branch's end: those of the network's last feature map."""
    reduction: tuple[int, int]
    """How many times higher and wider than the last feature map the one it reads is."""
    classes: int


_HEADERS = TypeAdapter(tuple[Exit, ...])


class SideClassifier(nn.Module):
    """A bottleneck down to the size and channels of the network's last feature map, mean over the image, one linear
    layer (Zhang et al. 2019, section 3.1): float [N, inputs, H, W] -> logits [N, classes]."""

    def __init__(self, spec: Exit) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(spec.inputs, spec.middle, 1, bias=False), nn.BatchNorm2d(spec.middle), nn.ReLU(),
            nn.Conv2d(spec.middle, spec.middle, spec.reduction, spec.reduction, bias=False),
            nn.BatchNorm2d(spec.middle), nn.ReLU(),
            nn.Conv2d(spec.middle, spec.features, 1, bias=False), nn.BatchNorm2d(spec.features), nn.ReLU(),
        )  # fmt: skip
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(spec.features, spec.classes)

    def features(self, x: Tensor) -> Tensor:
        """What `linear` reads: [N, features]."""
        return self.pool(self.branch(x)).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x))


class Exits(nn.Module):
    """The side classifiers of one network, from the shallowest on."""

    def __init__(self, specs: Sequence[Exit]) -> None:
        super().__init__()
        self.specs = tuple(specs)
        self.classifiers = nn.ModuleList(SideClassifier(spec) for spec in specs)

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(spec.layer for spec in self.specs)

    def __iter__(self) -> Iterator[SideClassifier]:
        return iter(self.classifiers)  # type: ignore[arg-type]


@contextlib.contextmanager
def hearing(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """While it lasts, what each named module of `model` returned last, by name; no hook is left behind."""
    heard: dict[str, Tensor] = {}
    hooks = []

    def hear(name: str) -> None:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            heard[name] = output

        hooks.append(model.get_submodule(name).register_forward_hook(hook))

    try:
        for name in dict.fromkeys(layers):
            hear(name)
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


class NetworkWithExits(nn.Module):
    """All answers at once: float [N, C, H, W] -> (the network's own logits, those of each exit)."""

    def __init__(self, network: nn.Module, exits: Exits) -> None:
        super().__init__()
        self.network = network
        self.exits = exits

    @property
    def names(self) -> tuple[str, ...]:
        """Of its outputs, in order."""
        return (MAIN, *exit_names(self.exits.layers))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        with hearing(self.network, self.exits.layers) as heard:
            logits = self.network(x)
        answers = [exit(heard[layer]) for exit, layer in zip(self.exits, self.exits.layers, strict=True)]
        return (logits, *answers)


def save_exits(exits: Exits, path: Path) -> None:
    """Raises EdgeLatheError when the file cannot be written."""
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in exits.state_dict().items()
    }
    header = {_HEADER: _HEADERS.dump_json(exits.specs).decode()}
    write_atomic(path, save(tensors, metadata=header), "the exits")


def load_exits(path: Path, model: nn.Module) -> Exits:
    """The exits of `model` in `path`, in eval mode. Raises EdgeLatheError for a file that is damaged or another's."""
    try:
        with safe_open(path, framework="pt") as file:
            specs = _HEADERS.validate_json((file.metadata() or {})[_HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValidationError) as reason:
        raise errors.exits.foreign_exits(path, "it is not whole") from reason
    modules = dict(model.named_modules())
    for spec in specs:
        if spec.layer not in modules:
            raise errors.exits.foreign_exits(path, f"the network has no {spec.layer}")
    return _filled(path, specs, tensors)


def _filled(path: Path, specs: tuple[Exit, ...], tensors: Mapping[str, Tensor]) -> Exits:
    # Without memory until the tensors are there: sizes in the header are whatever somebody wrote.
    try:
        with torch.device("meta"):
            exits = Exits(specs)
    except (RuntimeError, ValueError, TypeError) as reason:
        raise errors.exits.foreign_exits(path, "its header describes no classifiers") from reason
    wanted = exits.state_dict()
    fits = wanted.keys() == tensors.keys() and all(
        (tensor.shape, tensor.dtype) == (wanted[name].shape, wanted[name].dtype) for name, tensor in tensors.items()
    )
    if not fits:
        raise errors.exits.foreign_exits(path, "its tensors are not those that its header describes")
    exits.load_state_dict(dict(tensors), strict=True, assign=True)
    return exits.eval()
