"""A pruning plan carried out on a copy of the network; every decision was made in the plan."""

from __future__ import annotations

import copy
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ... import errors
from ...models.attention import silence_heads
from .norms import over_kept_channels
from .plan import Group, Member, PruningPlan, Side
from .surgery import blocks, input_axis, narrow, refusal, sides, width


def network_sha256(model: nn.Module) -> str:
    """SHA-256 over the names, kinds and shapes of a network; its weights do not count."""
    kinds = [(name, type(module).__name__) for name, module in model.named_modules()]
    shapes = [(name, list(tensor.shape)) for name, tensor in model.state_dict().items()]
    return hashlib.sha256(json.dumps([kinds, shapes]).encode()).hexdigest()


def apply_plan(model: nn.Module, plan: PruningPlan) -> nn.Module:
    """A pruned copy of `model`; raises EdgeLatheError when the plan was made for another network."""
    if plan.network != network_sha256(model):
        raise errors.prune.foreign_plan("its layers have other names or shapes")
    layers = dict(model.named_modules())
    for group in plan.groups:
        if group.after < group.before:
            _check(group, layers)
    return remove(model, plan.groups)


def remove(model: nn.Module, groups: Iterable[Group], *, share: bool = False) -> nn.Module:
    """A copy of `model` without the channels that `groups` do not keep.

    With `share` its whole tensors are those of `model`: half the memory, for networks that are looked at and dropped.
    """
    pruned = sharing_copy(model)
    layers = dict(pruned.named_modules())
    for place, positions in removed_positions(groups).items():
        layer = layers[place.layer]
        keep = all_but(width(layer, place.side, place.parameter), positions)
        if not len(keep):
            raise errors.prune.foreign_plan(f"it would leave nothing of {place.layer}")
        narrow(layer, place.side, keep, place.parameter)
    return pruned if share else _own(pruned, model)


def silence(model: nn.Module, groups: Iterable[Group], *, share: bool = False) -> nn.Module:
    """A copy of `model` in which nothing reads the channels that `groups` do not keep: same shapes, and the
    outputs that the pruned network must have.

    Norms over channels read them too: here they normalise over the channels that stay. `share` as for `remove`.
    """
    silent = sharing_copy(model)
    layers = dict(silent.named_modules())
    for place, removed in removed_positions(groups).items():
        layer = layers[place.layer]
        if place.side == "in":
            weight = layer.weight
            assert isinstance(weight, nn.Parameter)
            layer.weight = nn.Parameter(_without_inputs(layer, weight.detach(), removed), weight.requires_grad)
        elif place.side == "heads":
            silence_heads(layer, removed)
        elif isinstance(layer, (nn.LayerNorm, nn.GroupNorm)):
            silent.set_submodule(place.layer, over_kept_channels(layer, removed))
    return silent if share else _own(silent, model)


def sharing_copy(model: nn.Module) -> nn.Module:
    """A copy of `model` whose parameters and buffers are the same tensors."""
    return copy.deepcopy(model, {id(tensor): tensor for tensor in _tensors(model)})


def _own(changed: nn.Module, model: nn.Module) -> nn.Module:
    """`changed`, with copies of what it shares with `model`."""
    shared = {id(tensor) for tensor in _tensors(model)}
    mine = {id(tensor): tensor for tensor in _tensors(changed) if id(tensor) not in shared}
    return copy.deepcopy(changed, mine)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _without_inputs(layer: nn.Module, weight: Tensor, removed: Tensor) -> Tensor:
    """`weight` of a layer, zero where it reads the input channels `removed`."""
    axis = input_axis(layer)
    groups = layer.groups if isinstance(layer, _ConvNd) else 1
    if groups == 1 or axis == 0:
        return weight.index_fill(axis, removed, 0.0)
    length = width(layer, "in") // groups
    grouped = weight.unflatten(0, (groups, -1)).clone()
    grouped[removed // length, :, removed % length] = 0.0
    return grouped.flatten(0, 1)


def _check(group: Group, layers: Mapping[str, nn.Module]) -> None:
    """Refuse a group, read from a file, that points outside of the network."""
    widest = 0
    for member in group.members:
        layer = layers.get(member.layer)
        if layer is None or refusal(layer, member.layer, member.parameter):
            raise errors.prune.foreign_plan(f"{member.layer or 'the network itself'} has no channels that can be cut")
        if member.side not in (("channels",) if member.parameter else sides(layer)):
            raise errors.prune.foreign_plan(f"{member.layer or 'the network itself'} has no channels that can be cut")
        size = width(layer, member.side, member.parameter)
        inside = 0 <= member.start <= member.start + member.count * member.repeat <= size
        if not inside or min(member.first, member.count - 1, member.repeat - 1) < 0:
            raise errors.prune.foreign_plan(f"it points outside of the {size} channels of {member.layer}")
        if not member.parameter and blocks(layer) > 1 and not _cuts_evenly(group, member, layer):
            raise errors.prune.foreign_plan(f"{member.layer} would be left with groups of unequal width")
        widest = max(widest, size)
    if group.before > widest:
        raise errors.prune.foreign_plan(f"no layer has the {group.before} channels of {group.layer}")


def _cuts_evenly(group: Group, member: Member, layer: nn.Module) -> bool:
    nested = group.blocks % blocks(layer) == 0 and width(layer, member.side) == group.before
    return nested and group.even and member.whole(group.before)


class Place(NamedTuple):
    """One side of a layer, or a bare parameter of it."""

    layer: str
    side: Side
    parameter: str


def removed_positions(groups: Iterable[Group]) -> dict[Place, Tensor]:
    """Positions to cut, int64, ascending; two groups may both cut one layer (a concatenation's reader)."""
    removed: dict[Place, list[Tensor]] = defaultdict(list)
    for group in groups:
        gone = torch.tensor(group.removed, dtype=torch.int64)
        for member in group.members:
            inside = gone[(gone >= member.first) & (gone < member.first + member.count)] - member.first
            if len(inside):
                positions = member.start + inside[:, None] * member.repeat + torch.arange(member.repeat)
                removed[Place(member.layer, member.side, member.parameter)].append(positions.flatten())
    return {place: torch.cat(found).unique() for place, found in removed.items()}


def all_but(size: int, removed: Tensor) -> Tensor:
    """The numbers from 0 to `size` - 1 that are not in `removed`, int64, ascending."""
    return torch.ones(size, dtype=torch.bool).index_fill(0, removed, False).nonzero().flatten()
