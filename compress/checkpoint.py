"""The state of a training run after a whole epoch: one safetensors file, its header holding the rest as JSON.

One file, so that a kill leaves either the checkpoint of the epoch before or the one after. No generator state
is kept: every draw of an epoch follows from (seed, epoch).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from .. import errors
from ..files import write_atomic

FORMAT = 1


@dataclass(frozen=True)
class Epoch:
    """One epoch of training; numbered from 1."""

    epoch: int
    loss: float
    train_accuracy: float
    """Share of (augmented) training images classified right, measured while the weights were changing."""
    test_accuracy: float | None
    images_per_second: float
    logged: Mapping[str, float] = field(default_factory=dict)
    """Means over the epoch that the objective kept, by name."""
    lr: float | None = None
    """Learning rate in the middle of the epoch."""


def state_sha256(model: nn.Module) -> str:
    """SHA-256 over names, shapes and values of all tensors of a network, whatever their memory layout."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: Mapping[str, object],
    epochs: tuple[Epoch, ...],
    beside: Mapping[str, Tensor] | None = None,
    trained: nn.Module | None = None,
) -> None:
    """Write weights, buffers and momentum, of what is `trained` with the network too, and tensors kept `beside` them,
    whole or not at all; raises EdgeLatheError (disk full)."""
    header = {"format": FORMAT, "settings": settings, "epochs": [asdict(epoch) for epoch in epochs]}
    tensors = _state(model, trained) | _momenta(model, trained, optimizer) | _prefixed(beside)
    tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    content = save(tensors, metadata={"edgelathe": json.dumps(header, sort_keys=True)})
    write_atomic(path, content, "the training checkpoint")


def load_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: Mapping[str, object],
    beside: Mapping[str, Tensor] | None = None,
    trained: nn.Module | None = None,
) -> tuple[Epoch, ...]:
    """Put the state in `path` into `model`, `optimizer`, `beside` and `trained`; returns the epochs behind it.

    Values are copied into the tensors that are there, so their memory layout stays. Raises EdgeLatheError
    when the file is damaged or was made under other settings; `model` is then unchanged.
    """
    do = "delete its folder to start this training afresh"
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["edgelathe"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        version, made_under = header["format"], header["settings"]
        epochs = tuple(Epoch(**epoch) for epoch in header["epochs"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as reason:
        raise errors.inputs.unreadable_file("the training checkpoint", path, "it is not whole", do) from reason
    if version != FORMAT:
        raise errors.inputs.unreadable_file(
            "the training checkpoint", path, f"its format is {version}, not {FORMAT}", do
        )
    wanted = json.loads(json.dumps(settings))
    different = sorted(key for key in {*made_under, *wanted} if made_under.get(key) != wanted.get(key))
    if different:
        raise errors.training.foreign_checkpoint(path, different)
    _fill(path, _parameters(model, trained), optimizer, tensors, _state(model, trained) | _prefixed(beside))
    return epochs


def _state(model: nn.Module, trained: nn.Module | None) -> dict[str, Tensor]:
    tensors = {f"model.{name}": tensor.detach() for name, tensor in model.state_dict().items()}
    if trained is not None:
        tensors |= {f"trained.{name}": tensor.detach() for name, tensor in trained.state_dict().items()}
    return tensors


def _parameters(model: nn.Module, trained: nn.Module | None) -> dict[str, nn.Parameter]:
    """By the names of their momenta."""
    parameters = {f"momentum.{name}": parameter for name, parameter in model.named_parameters()}
    if trained is not None:
        parameters |= {f"trained momentum.{name}": parameter for name, parameter in trained.named_parameters()}
    return parameters


def _momenta(model: nn.Module, trained: nn.Module | None, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    found = {
        name: optimizer.state.get(parameter, {}).get("momentum_buffer")
        for name, parameter in _parameters(model, trained).items()
    }
    return {name: momentum for name, momentum in found.items() if momentum is not None}


def _prefixed(beside: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    return {f"beside.{name}": tensor for name, tensor in (beside or {}).items()}


def _fill(
    path: Path,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    places: Mapping[str, Tensor],
) -> None:
    shapes = {name: tensor.shape for name, tensor in {**places, **parameters}.items()}
    fits = all(name in shapes and tensor.shape == shapes[name] for name, tensor in tensors.items())
    if not fits or not tensors.keys() >= places.keys():
        raise errors.training.foreign_checkpoint(path, ["the shapes of the network"])
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(tensors[name])
    for name, parameter in parameters.items():
        momentum = tensors.get(name)
        if momentum is not None:
            optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum).detach()
