"""Cutting channels out of one layer: the weight it loses and the sizes it then states."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.utils import parametrize

from ...models.attention import head_kind, head_rows, heads, keep_heads, makes
from ...models.attention import refusal as attention_refusal
from .plan import Side


def is_depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, _ConvNd) and 1 < layer.groups == layer.out_channels == layer.in_channels


def refusal(layer: nn.Module, name: str, parameter: str = "") -> str:
    """Why channels of this layer, or of a bare `parameter` that it holds, cannot be cut; empty when they can."""
    if parametrize.is_parametrized(layer):
        return f"the weights of {name} are computed from others (parametrized)"
    if parameter:
        tensor = layer._parameters.get(parameter)
        if tensor is None or type(layer).__module__.startswith("torch.nn."):
            return f"{name} ({type(layer).__name__}) has no parameter {parameter} whose channels can be cut"
        return "" if tensor.numel() > 1 else f"the parameter {parameter} of {name} is a single number"
    if head_kind(layer):
        return attention_refusal(layer, name)
    if isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) > 1:
        return f"{name} normalises over {len(layer.normalized_shape)} axes at once"
    if isinstance(layer, (_ConvNd, nn.Linear, _BatchNorm, _InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.PReLU)):
        return ""
    return f"{name} ({type(layer).__name__}) is of a kind whose channels are not cut"


def sides(layer: nn.Module) -> tuple[Side, ...]:
    """The sides of a layer that has no refusal."""
    if isinstance(layer, (_ConvNd, nn.Linear)) and not is_depthwise(layer):
        return ("out", "in")
    if head_kind(layer):
        return ("heads",)
    return ("channels",)


def width(layer: nn.Module, side: Side, parameter: str = "") -> int:
    """Channels of `side` of a layer, or of its bare `parameter`, that has no refusal."""
    if parameter:
        tensor = getattr(layer, parameter)
        return tensor.shape[channel_axis(tensor)]
    if side == "heads":
        return heads(layer)
    if isinstance(layer, _ConvNd):
        return layer.in_channels if side == "in" else layer.out_channels
    if isinstance(layer, nn.Linear):
        return layer.in_features if side == "in" else layer.out_features
    if isinstance(layer, nn.PReLU):
        return layer.num_parameters
    if isinstance(layer, nn.LayerNorm):
        return layer.normalized_shape[0]
    if isinstance(layer, nn.GroupNorm):
        return layer.num_channels
    assert isinstance(layer, (_BatchNorm, _InstanceNorm))
    return layer.num_features


def blocks(layer: nn.Module) -> int:
    """Into how many runs of equal length the channels fall of which equally many must stay."""
    if isinstance(layer, _ConvNd) and not is_depthwise(layer):
        return layer.groups
    return layer.num_groups if isinstance(layer, nn.GroupNorm) else 1


def filters(layer: nn.Module, values: Tensor | None = None) -> Tensor:
    """Weights of a convolution or linear layer, or `values` of their shape, as float32 [out_channels, fan_in]; of
    attention those of query, key and value, [heads, all that makes one]."""
    if head_kind(layer):
        return head_rows(layer, values)
    assert isinstance(layer, (_ConvNd, nn.Linear))
    weight = (layer.weight if values is None else values).detach().float()
    if isinstance(layer, _ConvTransposeNd) and not is_depthwise(layer):
        weight = weight.unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1)
    return weight.flatten(1)


def making_weight(layer: nn.Module) -> nn.Parameter:
    """The parameter that `filters` shows."""
    return makes(layer) if head_kind(layer) else layer.get_parameter("weight")


def input_axis(layer: nn.Module) -> int:
    """Axis of the weight that runs over input channels."""
    return 0 if isinstance(layer, _ConvTransposeNd) else 1


def channel_axis(parameter: Tensor) -> int:
    """Axis of a bare parameter that runs over channels: the last one of more than one entry."""
    return max(axis for axis, size in enumerate(parameter.shape) if size > 1)


def narrow(layer: nn.Module, side: Side, keep: Tensor, parameter: str = "") -> None:
    """Keep the channels `keep` (int64, ascending) of one side of `layer`, or of its bare `parameter`, in place."""
    size = len(keep)
    if parameter:
        _select(layer, parameter, channel_axis(getattr(layer, parameter)), keep)
    elif side == "heads":
        keep_heads(layer, keep)
    elif isinstance(layer, _ConvNd) and side == "channels":
        _select(layer, "weight", 0, keep)
        _select(layer, "bias", 0, keep)
        layer.in_channels = layer.out_channels = layer.groups = size
    elif isinstance(layer, _ConvNd):
        axis = input_axis(layer) if side == "in" else 1 - input_axis(layer)
        if axis == 1 and layer.groups > 1:
            _select_in_blocks(layer, keep, width(layer, side))
        else:
            _select(layer, "weight", axis, keep)
        if side == "in":
            layer.in_channels = size
        else:
            _select(layer, "bias", 0, keep)
            layer.out_channels = size
    elif isinstance(layer, nn.Linear) and side == "in":
        _select(layer, "weight", 1, keep)
        layer.in_features = size
    elif isinstance(layer, nn.Linear):
        _select(layer, "weight", 0, keep)
        _select(layer, "bias", 0, keep)
        layer.out_features = size
    elif isinstance(layer, nn.PReLU):
        if layer.num_parameters > 1:
            _select(layer, "weight", 0, keep)
            layer.num_parameters = size
    elif isinstance(layer, (nn.LayerNorm, nn.GroupNorm)):
        _select(layer, "weight", 0, keep)
        _select(layer, "bias", 0, keep)
        if isinstance(layer, nn.LayerNorm):
            layer.normalized_shape = (size,)
        else:
            layer.num_channels = size
    else:
        assert isinstance(layer, (_BatchNorm, _InstanceNorm))
        for name in ("weight", "bias", "running_mean", "running_var"):
            _select(layer, name, 0, keep)
        layer.num_features = size


def _select(layer: nn.Module, name: str, axis: int, keep: Tensor) -> None:
    tensor = getattr(layer, name)
    if tensor is not None:
        _put(layer, name, torch.index_select(tensor.detach(), axis, keep))


def _select_in_blocks(layer: _ConvNd, keep: Tensor, channels: int) -> None:
    """The weight of a grouped convolution holds, along its second axis, positions within a group."""
    length = channels // layer.groups
    kept = [keep[keep // length == group] - group * length for group in range(layer.groups)]
    rows = layer.weight.detach().chunk(layer.groups)
    _put(layer, "weight", torch.cat([row.index_select(1, inside) for row, inside in zip(rows, kept, strict=True)]))


def _put(layer: nn.Module, name: str, tensor: Tensor) -> None:
    before, contiguous = getattr(layer, name), tensor.contiguous()
    if isinstance(before, nn.Parameter):
        setattr(layer, name, nn.Parameter(contiguous, requires_grad=before.requires_grad))
    else:
        setattr(layer, name, contiguous)
