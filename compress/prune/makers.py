"""The layers that make the channels of a group, and the way between their positions and the group's channels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ...models.resnet import ChannelSelection
from .plan import Group, Member
from .surgery import filters


def makers(group: Group, layers: Mapping[str, nn.Module]) -> dict[str, list[Member]]:
    """Runs of the group's channels by the layer that makes them, in the order of the network."""
    made: dict[str, list[Member]] = {}
    for member in group.members:
        layer = layers[member.layer]
        makes = isinstance(layer, (_ConvNd, nn.Linear)) and member.side != "in" and not member.parameter
        makes = makes and not isinstance(layer, ChannelSelection)  # which passes channels on and says nothing of them
        if makes or member.side == "heads":
            made.setdefault(member.layer, []).append(member)
    return {name: made[name] for name in layers if name in made}


def per_channel(values: Tensor, runs: Iterable[Member], channels: int) -> Tensor:
    """Values [positions] of one layer as float32 [channels] of a group: the mean over each channel's positions, NaN for
    channels that are not among them."""
    total, count = torch.zeros(channels), torch.zeros(channels)
    for run in runs:
        places = torch.arange(run.first, run.first + run.count).repeat_interleave(run.repeat)
        found = values[run.start : run.start + run.count * run.repeat]
        total.index_add_(0, places, found)
        count.index_add_(0, places, torch.ones_like(found))
    return total / count


def norm_scales(model: nn.Module, groups: Collection[Group]) -> dict[str, Tensor]:
    """|gamma|, float32 [out_channels], of the batch norm behind each layer that has one behind all its channels.

    That is the first batch norm of the same group, in the order of the network, that comes after the layer and before
    the next layer that makes channels of the group; where one lies over a concatenation, its part of that.
    """
    layers = dict(model.named_modules())
    scales: dict[str, Tensor] = {}
    for group in groups:
        norms: dict[str, list[Member]] = {}
        for member in group.members:
            if isinstance(layers[member.layer], _BatchNorm):
                norms.setdefault(member.layer, []).append(member)
        for layer, (norm, runs) in _following(makers(group, layers), norms, layers).items():
            gamma = layers[norm].weight
            if not isinstance(gamma, Tensor):
                continue
            by_channel = per_channel(gamma.detach().float().abs(), runs, group.before)
            scale = scales.setdefault(layer, torch.full((len(filters(layers[layer])),), torch.nan))
            for run in makers(group, layers)[layer]:
                found = by_channel[run.first : run.first + run.count].repeat_interleave(run.repeat)
                scale[run.start : run.start + len(found)] = found
    return {layer: scale for layer, scale in scales.items() if not bool(scale.isnan().any())}


def _following(
    made: Collection[str], norms: Mapping[str, list[Member]], layers: Iterable[str]
) -> dict[str, tuple[str, list[Member]]]:
    """For each name in `made`, the first of `norms` between it and the next of `made`, in the order of `layers`."""
    found: dict[str, tuple[str, list[Member]]] = {}
    waiting = ""
    for name in layers:
        if name in made:
            waiting = name
        elif waiting and name in norms:
            found[waiting] = (name, norms[name])
            waiting = ""
    return found
