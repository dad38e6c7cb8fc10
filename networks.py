"""A PyTorch network on its way through a recipe: the module, how to build it again, how it wants its inputs."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .data import Dataset, Preprocess, normalisation
from .files import sha256_bytes, sha256_file
from .models.structure import NetworkSpec, load_network, save_network
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

    def copy(self) -> nn.Module:
        return copy.deepcopy(self.model)

    def becomes(self, model: nn.Module, origin: str) -> Network:
        return replace(self, model=model, origin=origin)

    def example(self, data: Dataset, count: int = 2) -> torch.Tensor:
        """float32 [count, C, H, W] of the first test images."""
        return torch.from_numpy(self.preprocess(data.test.x[:count]))


def load_source(section: ModelSection, data: Dataset, seed: int) -> Network:
    """Build the network a recipe names and load its weights, or draw them from `seed`.

    Raises EdgeLatheError for unknown names, and for weights that do not fit.
    """
    channels, _, _ = data.shape
    arguments: dict[str, Any] = {"num_classes": len(data.classes), "in_channels": channels, **section.arguments}
    spec = NetworkSpec(section.source, arguments)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(spec.source, **arguments)
    if section.weights is not None:
        load_weights(model, section.weights)
    parts = [section.source, repr(sorted(arguments.items())), str(seed)]
    if section.weights is not None:
        parts[2] = sha256_file(section.weights)
    if is_user_function(section.source):
        hashes = [f"{file.name} {sha256_file(file)}" for file in loaded_files(section.source)]
        parts[0] = " ".join([section.source.rpartition(":")[2], *hashes])
    preprocess = normalisation(channels, section.mean or data.preprocess.mean, section.std or data.preprocess.std)
    return Network(model.eval(), spec, preprocess, sha256_bytes("\n".join(parts).encode()))


def store(network: Network, folder: Path) -> None:
    save_network(network.model, network.spec, folder / FOLDER)


def restore(network: Network, folder: Path, origin: str) -> Network:
    """What `store` kept in `folder`, as the successor of `network`."""
    model = load_network(folder / FOLDER, build=lambda _: build(network.spec.source, **network.spec.arguments))
    return network.becomes(model.eval(), origin)
