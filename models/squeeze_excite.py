"""Recognise squeeze and excitation (Hu et al. 2018) by what a module holds and computes, not by its name."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

_TOLERANCE = 1e-4
"""Largest difference between gates that float32 rounding may cause."""


def is_squeeze_excite(module: nn.Module) -> bool:
    """Whether `module` is y = x * gate(mean of x over height and width), with one gate in [0, 1] per channel.

    It must hold two layers and nothing else that is learnt: one that narrows C channels and one that widens them
    again, 1 x 1 convolutions or linear. Then it is tried on two images whose means are equal.
    """
    layers = [part for part in module.modules() if any(True for _ in part.parameters(recurse=False))]
    if len(layers) != 2 or module in layers:
        return False
    (channels, squeezed), (back, widened) = (_widths(layer) for layer in layers)
    if channels == 0 or (channels, squeezed) != (widened, back):
        return False
    weight = next(layers[0].parameters())
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, channels, 4, 4, generator=generator).add(0.5).to(weight)
    block = copy.deepcopy(module).eval()
    try:
        with torch.no_grad():
            first, second = (block(x.clone()) for x in (images, images.flip(3)))
    except Exception:  # a user's forward may raise anything on what it was not made for
        return False
    if not (isinstance(first, Tensor) and first.shape == images.shape == second.shape):
        return False
    gates = first / images
    gate = gates[:, :, :1, :1]
    constant = bool(((gates - gate).abs() <= _TOLERANCE).all())
    from_the_mean = bool(((second / images.flip(3) - gate).abs() <= _TOLERANCE).all())
    return constant and from_the_mean and bool(((gate >= 0) & (gate <= 1 + _TOLERANCE)).all())


def _widths(layer: nn.Module) -> tuple[int, int]:
    """Channels read and written; zeros for layers that mix neighbouring pixels."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if isinstance(layer, nn.Conv2d) and set(layer.kernel_size) == {1} and layer.groups == 1:
        return layer.in_channels, layer.out_channels
    return 0, 0
