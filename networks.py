"""A PyTorch network on its way through a recipe: the module, how to build it again, how it wants its inputs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import errors
from .compress.sparsify.masks import FILE as MASKS
from .compress.sparsify.masks import check_zeros, follow, load_masks, save_masks
from .data import Dataset, Preprocess, normalisation
from .files import sha256_bytes, sha256_file
from .models.exitnames import MAIN, exit_names
from .models.exits import FILE as EXITS
from .models.exits import Exits, NetworkWithExits, load_exits, save_exits
from .models.structure import STRUCTURE, TENSORS, NetworkSpec, load_network, save_network
from .models.weights import load_weights
from .models.zoo import build
from .recipe import ModelSection
from .userfunction import is_user_function, loaded_files

FOLDER = "network"


@dataclass(frozen=True)
class Network:
    model: nn.Module
    spec: NetworkSpec
    preprocess: Preprocess
    origin: str
    """Hash of what the network was made from: its source, arguments, seed or weights, and code of users."""
    masks: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """By parameter name, which weights are not held at zero (compress/sparsify/masks.py); empty for dense networks."""
    exits: Exits | None = None
    """Early exits that are deployed with it."""

    @property
    def deployed(self) -> nn.Module:
        """What is exported: the network, with its exits where it has some."""
        return self.model if self.exits is None else NetworkWithExits(self.model, self.exits)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs of the exported file, the network's own answer first."""
        return (MAIN, *exit_names(self.exits.layers if self.exits is not None else ()))

    def copy(self) -> nn.Module:
        return copy.deepcopy(self.model)

    def becomes(
        self,
        model: nn.Module,
        origin: str,
        masks: Mapping[str, torch.Tensor] | None = None,
        exits: Exits | None = None,
    ) -> Network:
        """Without new `masks`, those that it has stay with what is left of their weights; `exits` that it has read
        another network, and do not stay."""
        masks = follow(self.masks, model) if masks is None else masks
        return replace(self, model=model, origin=origin, masks=masks, exits=exits)

    def example(self, data: Dataset, count: int = 2) -> torch.Tensor:
        """float32 [count, C, H, W] of the first test images."""
        return torch.from_numpy(self.preprocess(data.test.x[:count]))


def load_source(section: ModelSection, data: Dataset, seed: int) -> Network:
    """Build the network a recipe names and load its weights, or draw them from `seed`.

    Weights may also be the folder of a stage, in which a run saved its network: narrowed and changed as it is there.
    Raises EdgeLatheError for unknown names, and for weights that do not fit.
    """
    channels, _, _ = data.shape
    arguments: dict[str, Any] = {"num_classes": len(data.classes), "in_channels": channels, **section.arguments}
    spec = NetworkSpec(section.source, arguments)
    parts = [section.source, repr(sorted(arguments.items())), str(seed)]
    masks: dict[str, torch.Tensor] = {}
    exits = None
    if section.weights is not None and section.weights.is_dir():
        folder = saved_in(section.weights)
        model = load_network(folder, build=lambda saved: _build_again(saved, spec, folder))
        masks, exits = _masks_in(folder, model), _exits_in(folder, model)
        parts[2] = " ".join(sha256_file(folder / name) for name in (STRUCTURE, TENSORS, *([EXITS] if exits else [])))
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build(spec.source, **arguments)
        if section.weights is not None:
            load_weights(model, section.weights)
            parts[2] = sha256_file(section.weights)
    if is_user_function(section.source):
        hashes = [f"{file.name} {sha256_file(file)}" for file in loaded_files(section.source)]
        parts[0] = " ".join([section.source.rpartition(":")[2], *hashes])
    preprocess = normalisation(channels, section.mean or data.preprocess.mean, section.std or data.preprocess.std)
    return Network(model.eval(), spec, preprocess, sha256_bytes("\n".join(parts).encode()), masks, exits)


def saved_in(folder: Path) -> Path:
    """The folder of a saved network: `folder`, or the one in the stage's folder `folder`."""
    return folder / FOLDER if (folder / FOLDER).is_dir() else folder


def _build_again(saved: NetworkSpec, asked: NetworkSpec, folder: Path) -> nn.Module:
    """The network that `saved` was made from, if the recipe names the same: code is run because the recipe says so,
    never because a file does."""
    same = _without_folder(saved.source) == _without_folder(asked.source) and saved.arguments == asked.arguments
    if not same:
        raise errors.networks.saved_from_other(folder, _described(saved), _described(asked))
    return build(asked.source, **asked.arguments)


def _without_folder(source: str) -> str:
    return Path(source).name if is_user_function(source) else source


def _described(spec: NetworkSpec) -> str:
    return f"{_without_folder(spec.source)} with {', '.join(f'{k} = {v}' for k, v in sorted(spec.arguments.items()))}"


def store(network: Network, folder: Path) -> None:
    save_network(network.model, network.spec, folder / FOLDER)
    if network.masks:
        save_masks(network.masks, folder / FOLDER / MASKS)
    if network.exits is not None:
        save_exits(network.exits, folder / FOLDER / EXITS)


def restore(network: Network, folder: Path, origin: str) -> Network:
    """What `store` kept in `folder`, as the successor of `network`."""
    model = load_network(folder / FOLDER, build=lambda _: build(network.spec.source, **network.spec.arguments))
    folder /= FOLDER
    return network.becomes(model.eval(), origin, _masks_in(folder, model), _exits_in(folder, model))


def _exits_in(folder: Path, model: nn.Module) -> Exits | None:
    """The exits beside a saved network, if it has some. Raises EdgeLatheError where they are not its own."""
    return load_exits(folder / EXITS, model) if (folder / EXITS).is_file() else None


def _masks_in(folder: Path, model: nn.Module) -> dict[str, torch.Tensor]:
    """The masks beside a saved network; none for a dense one. Raises EdgeLatheError where they are not its own."""
    if not (folder / MASKS).is_file():
        return {}
    masks = load_masks(folder / MASKS, model)
    check_zeros(masks, model, f"in {folder}")
    return masks
