"""Masks of a network's weights: by parameter name, bool of the parameter's shape, True where a weight stays.

On disk one bit per weight, in a safetensors file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ... import errors
from ...files import sha256_bytes, write_atomic

FILE = "masks.safetensors"

Masks = Mapping[str, Tensor]


def packed(mask: Tensor) -> Tensor:
    """One bit per weight in row-major order, uint8 [ceil(n / 8)]."""
    return torch.from_numpy(np.packbits(mask.contiguous().numpy().reshape(-1)))


def mask_sha256(mask: Tensor) -> str:
    return sha256_bytes(packed(mask).numpy().data)


def save_masks(masks: Masks, path: Path) -> None:
    """Raises EdgeLatheError when the file cannot be written."""
    write_atomic(path, save({name: packed(mask) for name, mask in masks.items()}), "the masks")


def load_masks(path: Path, model: nn.Module) -> dict[str, Tensor]:
    """The masks of `model` in `path`; raises EdgeLatheError for a file that is missing, damaged or not its own."""
    if not path.is_file():
        raise errors.inputs.missing_file("the masks", path)
    try:
        tensors = load(path.read_bytes())
    except (SafetensorError, ValueError) as reason:
        raise errors.sparsify.foreign_masks(path, "it is no safetensors file") from reason
    parameters = dict(model.named_parameters())
    masks = {}
    for name, bits in tensors.items():
        parameter = parameters.get(name)
        if parameter is None:
            raise errors.sparsify.foreign_masks(path, f"the network has no {name}")
        size = parameter.numel()
        if bits.dtype != torch.uint8 or bits.shape != ((size + 7) // 8,):
            raise errors.sparsify.foreign_masks(path, f"what it holds for {name} is no mask of {size} weights")
        masks[name] = torch.from_numpy(np.unpackbits(bits.numpy(), count=size).astype(bool)).reshape(parameter.shape)
    return masks


def zeros_of(model: nn.Module) -> dict[str, Tensor]:
    """The masks that the zeros of a network's convolutions, linear layers and attention projections make; weights
    without a zero are left out."""
    owners = (_ConvNd, nn.Linear, nn.MultiheadAttention)
    layers = {name for name, module in model.named_modules() if isinstance(module, owners)}
    return {
        name: parameter.detach() != 0
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1 and name.rpartition(".")[0] in layers and bool((parameter == 0).any())
    }


def follow(masks: Masks, model: nn.Module) -> dict[str, Tensor]:
    """The masks of a network that was changed after it was sparsified: where a weight has lost channels, what is left
    of its zeros; where it is gone, nothing."""
    followed = {}
    for name, parameter in model.named_parameters():
        if name in masks:
            fits = masks[name].shape == parameter.shape
            followed[name] = masks[name] if fits else parameter.detach() != 0
    return followed


def check_zeros(masks: Masks, model: nn.Module, when: str) -> None:
    """Raises EdgeLatheError where a weight that was pruned is no longer zero; `when` says at which moment."""
    parameters = dict(model.named_parameters())
    for name, mask in masks.items():
        lost = int(torch.count_nonzero(parameters[name].detach() * ~mask))
        if lost:
            raise errors.sparsify.lost_zeros(name, lost, when)
