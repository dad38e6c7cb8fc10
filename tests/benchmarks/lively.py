"""Random weights that a network can be judged with: every layer does something, and nothing fades or explodes.

Fresh weights will not do. Activations of EfficientNet fade from layer to layer, ConvNeXt's blocks begin at a millionth
of its stream, ViT's head at zero: a comparison of outputs would pass whatever was cut.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

GRID = 4
"""Blobs along a side of an image."""
NOISE = 0.3


def images(count: int, side: int, seed: int) -> Tensor:
    """Coloured blobs and noise, float32 [count, 3, side, side]: noise alone is the same to every network that pools."""
    generator = torch.Generator().manual_seed(seed)
    blobs = torch.randn(count, 3, GRID, GRID, generator=generator)
    smooth = F.interpolate(blobs, size=(side, side), mode="bicubic", align_corners=False)
    return smooth + NOISE * torch.randn(count, 3, side, side, generator=generator)


def enliven(model: nn.Module, x: Tensor, seed: int) -> None:
    """Random norms, biases and bare parameters; then every layer's weights are scaled, as the images `x` run through
    it, to give a standard deviation of one (LSUV, Mishkin & Matas 2016), and batch norms take their statistics."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                _redraw(module, name, parameter, generator)
        hooks = [module.register_forward_hook(_scale_to_one) for module in model.modules()]
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        model.eval()
        for norm in norms:
            norm.train()
            norm.momentum = 1.0
        model(x)
        for hook in hooks:
            hook.remove()
        for norm in norms:
            norm.momentum = 0.1
        model.eval()


def _redraw(module: nn.Module, name: str, parameter: Tensor, generator: torch.Generator) -> None:
    if name.endswith("bias"):
        parameter.normal_(0, 0.2, generator=generator)
    elif isinstance(module, (_BatchNorm, nn.LayerNorm, nn.GroupNorm)) or not type(module).__module__.startswith(
        "torch."
    ):
        if parameter.ndim <= 1 or float(parameter.abs().max()) < 1e-3:
            parameter.uniform_(0.5, 1.5, generator=generator)
    elif float(parameter.abs().max()) == 0:
        parameter.normal_(0, 1, generator=generator)


def _scale_to_one(module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
    if not isinstance(module, (_ConvNd, nn.Linear)):
        return None
    spread = float(output.std()) if output.numel() > 1 else 0.0
    if not 1e-9 < spread < 1e9:
        return None
    module.weight /= spread
    if module.bias is not None:
        module.bias /= spread
    return output / spread
