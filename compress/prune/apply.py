"""A pruning plan carried out on a copy of the network; every decision was made in the plan."""

from __future__ import annotations

import copy
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from ... import errors
from .plan import Group, PruningPlan, Side
from .surgery import input_axis, narrow, refusal, sides, width


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


def remove(model: nn.Module, groups: Iterable[Group]) -> nn.Module:
    """A copy of `model` without the channels that `groups` do not keep."""
    pruned = copy.deepcopy(model)
    layers = dict(pruned.named_modules())
    for (name, side), positions in _removed_positions(groups).items():
        keep = sorted(set(range(width(layers[name], side))) - positions)
        if not keep:
            raise errors.prune.foreign_plan(f"it would leave nothing of {name}")
        narrow(layers[name], side, torch.tensor(keep))
    return pruned


def silence(model: nn.Module, groups: Iterable[Group]) -> nn.Module:
    """A copy of `model` in which nothing reads the channels that `groups` do not keep: same shapes, and the
    outputs that the pruned network must have."""
    silent = copy.deepcopy(model)
    layers = dict(silent.named_modules())
    with torch.no_grad():
        for (name, side), positions in _removed_positions(groups).items():
            if side == "in":
                weight = layers[name].weight
                assert isinstance(weight, nn.Parameter)
                weight.index_fill_(input_axis(layers[name]), torch.tensor(sorted(positions)), 0.0)
    return silent


def _check(group: Group, layers: Mapping[str, nn.Module]) -> None:
    """Refuse a group, read from a file, that points outside of the network."""
    widest = 0
    for member in group.members:
        layer = layers.get(member.layer)
        if layer is None or refusal(layer, member.layer) or member.side not in sides(layer):
            raise errors.prune.foreign_plan(f"{member.layer or 'the network itself'} has no channels that can be cut")
        size = width(layer, member.side)
        inside = 0 <= member.start <= member.start + member.count * member.repeat <= size
        if not inside or min(member.first, member.count - 1, member.repeat - 1) < 0:
            raise errors.prune.foreign_plan(f"it points outside of the {size} channels of {member.layer}")
        widest = max(widest, size)
    if group.before > widest:
        raise errors.prune.foreign_plan(f"no layer has the {group.before} channels of {group.layer}")


def _removed_positions(groups: Iterable[Group]) -> dict[tuple[str, Side], set[int]]:
    """Positions to cut by layer and side; two groups may both cut one layer (a concatenation's reader)."""
    removed: dict[tuple[str, Side], set[int]] = defaultdict(set)
    for group in groups:
        for channel in group.removed:
            for member in group.members:
                if positions := member.positions(channel):
                    removed[member.layer, member.side].update(positions)
    return removed
