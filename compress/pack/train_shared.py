"""Training of what weights share (Han et al. 2016): the centroids of a layer are its parameters, and the gradient of a
centroid is the sum of those of the weights that it stands for.

    shared = share_parameters(model, bits=5)
    train(model, data, lr=..., ...)
    settle_parameters(model)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from ... import errors
from .share_weights import MOST_BITS, shared_values

Gradient = Literal["sum", "mean"]


@dataclass(frozen=True)
class SharedLayer:
    layer: str
    bits: int
    values: int
    """Centroids that stand for some weight; zeros are besides."""
    reason: str
    """Why the layer was left alone; empty where its weights share values."""


class _Shared(nn.Module):
    """Weights from centroids; index 0 is zero, which is not trained."""

    indices: Tensor

    def __init__(self, indices: Tensor, centroids: Tensor) -> None:
        super().__init__()
        self.register_buffer("indices", indices)
        self.first = centroids

    def forward(self, centroids: Tensor) -> Tensor:
        return torch.cat([centroids.new_zeros(1), centroids])[self.indices]

    def right_inverse(self, _: Tensor) -> Tensor:
        return self.first


def share_parameters(
    model: nn.Module, *, bits: int = 5, layer_bits: Mapping[str, int] | None = None, gradient: Gradient = "sum"
) -> tuple[SharedLayer, ...]:
    """Let the weights of every convolution and linear layer share 2 ** `bits` values, which train instead of them.

    gradient -- "sum" over the weights of a centroid, as published: the rate that fits is smaller than that of ordinary
                fine-tuning by about the number of weights that share a value; "mean" moves a centroid as far as its
                weights move on average, at ordinary rates.

    Weights that are zero stay zero. `settle_parameters` gives the model ordinary weights again.
    Raises EdgeLatheError for bits outside of 1 to 8, unknown layers, and models in which no weights can share values.
    """
    if gradient not in ("sum", "mean"):
        raise errors.inputs.unknown_choice("gradient", gradient, ("sum", "mean"))
    chosen = dict(layer_bits or {})
    for key, value in {"bits": bits, **chosen}.items():
        if not 1 <= value <= MOST_BITS:
            raise errors.inputs.impossible_setting(key, value, f"1 to {MOST_BITS}")
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, _ConvNd | nn.Linear)}
    if unknown := sorted(chosen.keys() - layers.keys()):
        raise errors.inputs.unknown_choice("layer", unknown[0], layers)
    shared = tuple(_share(name, layer, chosen.get(name, bits), gradient) for name, layer in layers.items())
    if all(layer.reason for layer in shared):
        raise errors.pack.no_layer_to_share(shared[0].reason if shared else "it has no convolution or linear layer")
    return shared


def settle_parameters(model: nn.Module) -> None:
    """Make the shared weights of `model` ordinary weights again, with the values that they have now."""
    for layer in model.modules():
        if parametrize.is_parametrized(layer, "weight") and isinstance(_parametrizations(layer)[0], _Shared):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def _parametrizations(layer: nn.Module) -> Any:
    return layer.parametrizations["weight"]  # type: ignore[index]


def _share(name: str, layer: nn.Module, bits: int, gradient: Gradient) -> SharedLayer:
    if parametrize.is_parametrized(layer, "weight"):
        return SharedLayer(name, bits, 0, "its weights are parametrized already")
    weight = layer.weight
    assert isinstance(weight, Tensor)
    shared = shared_values(weight.detach().cpu().numpy(), bits)
    if isinstance(shared, str):
        return SharedLayer(name, bits, 0, shared)
    values = torch.from_numpy(shared).to(weight.device)
    centroids = values[values != 0].unique()
    indices = torch.where(values == 0, 0, 1 + torch.searchsorted(centroids, values))
    parametrize.register_parametrization(layer, "weight", _Shared(indices, centroids), unsafe=True)
    if gradient == "mean":
        members = indices[indices > 0].bincount(minlength=len(centroids) + 1)[1:]
        _parametrizations(layer).original.register_hook(_divided(members))
    return SharedLayer(name, bits, len(centroids), "")


def _divided(members: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient / members
