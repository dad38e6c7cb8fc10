"""Cutting channels out of one layer: the weight it loses and the sizes it then states."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils import parametrize

from .plan import Side


def is_depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, _ConvNd) and 1 < layer.groups == layer.out_channels == layer.in_channels


def refusal(layer: nn.Module, name: str) -> str:
    """Why channels of this layer cannot be cut; empty when they can."""
    if parametrize.is_parametrized(layer):
        return f"the weights of {name} are computed from others (parametrized)"
    if isinstance(layer, _ConvNd):
        if layer.groups == 1 or is_depthwise(layer):
            return ""
        return f"the grouped convolution {name} ties its channels together"
    if isinstance(layer, (nn.Linear, _BatchNorm, _InstanceNorm, nn.PReLU)):
        return ""
    if isinstance(layer, (nn.LayerNorm, nn.GroupNorm)):
        return f"{name} ({type(layer).__name__}) normalises across channels, so fewer would change the others"
    return f"{name} ({type(layer).__name__}) is of a kind whose channels are not cut"


def sides(layer: nn.Module) -> tuple[Side, ...]:
    """The sides of a layer that has no refusal."""
    if isinstance(layer, (_ConvNd, nn.Linear)) and not is_depthwise(layer):
        return ("out", "in")
    return ("channels",)


def width(layer: nn.Module, side: Side) -> int:
    """Channels of `side` of a layer that has no refusal."""
    if isinstance(layer, _ConvNd):
        return layer.in_channels if side == "in" else layer.out_channels
    if isinstance(layer, nn.Linear):
        return layer.in_features if side == "in" else layer.out_features
    if isinstance(layer, nn.PReLU):
        return layer.num_parameters
    assert isinstance(layer, (_BatchNorm, _InstanceNorm))
    return layer.num_features


def filters(layer: nn.Module) -> Tensor:
    """Weights of a convolution or linear layer as float32 [out_channels, fan_in]."""
    assert isinstance(layer, (_ConvNd, nn.Linear))
    weight = layer.weight.detach().float()
    if isinstance(layer, _ConvTransposeNd) and not is_depthwise(layer):
        weight = weight.transpose(0, 1)
    return weight.flatten(1)


def input_axis(layer: nn.Module) -> int:
    """Axis of the weight that runs over input channels."""
    return 0 if isinstance(layer, _ConvTransposeNd) else 1


def narrow(layer: nn.Module, side: Side, keep: Tensor) -> None:
    """Keep the channels `keep` (int64, ascending) of one side of `layer`, in place."""
    size = len(keep)
    if isinstance(layer, _ConvNd) and side == "channels":
        _select(layer, "weight", 0, keep)
        _select(layer, "bias", 0, keep)
        layer.in_channels = layer.out_channels = layer.groups = size
    elif isinstance(layer, (_ConvNd, nn.Linear)) and side == "in":
        _select(layer, "weight", input_axis(layer), keep)
        if isinstance(layer, nn.Linear):
            layer.in_features = size
        else:
            layer.in_channels = size
    elif isinstance(layer, (_ConvNd, nn.Linear)):
        _select(layer, "weight", 1 - input_axis(layer), keep)
        _select(layer, "bias", 0, keep)
        if isinstance(layer, nn.Linear):
            layer.out_features = size
        else:
            layer.out_channels = size
    elif isinstance(layer, nn.PReLU):
        if layer.num_parameters > 1:
            _select(layer, "weight", 0, keep)
            layer.num_parameters = size
    else:
        assert isinstance(layer, (_BatchNorm, _InstanceNorm))
        for name in ("weight", "bias", "running_mean", "running_var"):
            _select(layer, name, 0, keep)
        layer.num_features = size


def _select(layer: nn.Module, name: str, axis: int, keep: Tensor) -> None:
    tensor = getattr(layer, name)
    if tensor is None:
        return
    chosen = torch.index_select(tensor.detach(), axis, keep).contiguous()
    if isinstance(tensor, nn.Parameter):
        setattr(layer, name, nn.Parameter(chosen, requires_grad=tensor.requires_grad))
    else:
        setattr(layer, name, chosen)
