"""Which channels hang together: the groups of a network, each prunable or with the reason why not.

Torch-Pruning's dependency graph (Fang et al. 2023, DepGraph) follows channels through additions,
concatenations, flattening and depthwise convolutions. It does not see everything, so what it says is tried
out: half the channels are cut, and the result must equal the whole network in which nothing reads those
channels. A group that fails is left alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn

from ... import errors
from .attention import head_groups
from .follow import Followed, follow
from .plan import Group, Member, Side
from .surgery import blocks, refusal, sides, width
from .trial import tried


def trace_groups(model: nn.Module, example: Tensor, ignore: Sequence[str]) -> tuple[Group, ...]:
    """All groups of `model` in the order of its layers, keeping every channel; `model` is left as it was.

    example -- float32 [N,C,H,W], for its shape.
    ignore  -- layers (or modules that hold layers) whose output channels must stay.
    Raises EdgeLatheError for unknown names in `ignore` and for a network that cannot be traced.
    """
    names = [name for name, _ in model.named_modules() if name]
    for name in ignore:
        if name not in names:
            raise errors.inputs.unknown_choice("layer in ignore", name, names)
    network = _traceable(model)
    noise = torch.randn(example[:1].shape, generator=torch.Generator().manual_seed(0))
    layers = dict(network.named_modules())
    names_of: dict[object, str] = {module: name for name, module in layers.items()}
    names_of |= {parameter: name for name, parameter in network.named_parameters()}
    groups = [
        _in_blocks(_read_group(group, part, layers, names_of, ignore), layers)
        for part in follow(network, noise)
        for group in part.groups
    ]
    groups += head_groups(network, ignore)
    order = {name: place for place, name in enumerate(layers)}
    return tried(network, noise, sorted(groups, key=lambda group: order[group.layer]))


def _traceable(model: nn.Module) -> nn.Module:
    """`model` in eval mode with gradients on; its parameters are views, so that a large network fits twice."""
    views = {id(parameter): nn.Parameter(parameter.detach()) for parameter in model.parameters()}
    return copy.deepcopy(model, views).eval()


def _read_group(
    group: tp.dependency.Group,
    part: Followed,
    layers: Mapping[str, nn.Module],
    names: Mapping[object, str],
    ignore: Sequence[str],
) -> Group:
    root = names[group[0].dep.target.module]
    before = len(group[0].idxs)
    members: list[Member] = []
    reasons: list[str] = []
    for item in group:
        node = item.dep.target
        module = node.module
        if isinstance(module, nn.Parameter):
            owner, _, parameter = names[module].rpartition(".")
            if why := refusal(layers[owner], owner or "the network", parameter):
                reasons.append(why)
            members += _runs(owner, "channels", item.idxs, item.root_idxs, parameter)
        elif shortcut := part.shortcuts.get(node.grad_fn):
            reasons.append(f"the option A shortcut {shortcut} joins its channels to others by position")
        elif node.type == tp.ops.OPTYPE.OUTPUT:
            reasons.append(_end(node, part))
        elif module in names:
            side = _side(module, item.dep.handler.__name__)
            if side != "in" and any(f"{names[module]}.".startswith(f"{name}.") for name in ignore):
                reasons.insert(0, f"{names[module]} is named in ignore")
            if why := refusal(module, names[module]):
                reasons.append(why)
            if side != "in" and not node.outputs:
                reasons.append(_end(node, part))
            if item.root_idxs is None or None in item.root_idxs:
                reasons.append(f"its channels reach {names[module]} in no order that can be followed")
            elif not (isinstance(module, nn.PReLU) and module.num_parameters == 1):
                members += _runs(names[module], side, item.idxs, item.root_idxs)
    if not reasons and not any(member.side == "in" for member in members):
        reasons.append("no layer reads its channels")
    made = {member.layer for member in members if member.side == "out" and member.whole(before)}
    first = next((name for name in layers if name in made), root)
    return Group(first, before, tuple(range(before)), tuple(members), reasons[0] if reasons else "")


def _end(node: tp.dependency.Node, part: Followed) -> str:
    if module := part.entrances.get(node.grad_fn):
        return f"its channels enter {module}, and cannot be followed through it"
    if part.name:
        return f"its channels leave {part.name}, and cannot be followed beyond it"
    return "its channels are the network's outputs"


def _in_blocks(group: Group, layers: Mapping[str, nn.Module]) -> Group:
    """`group` with the blocks that its grouped layers ask for, or with the reason why these cannot be cut evenly."""
    count, reason = 1, group.reason
    for member in group.members:
        layer = layers[member.layer]
        if member.parameter or refusal(layer, member.layer) or blocks(layer) == 1:
            continue
        whole = member.whole(group.before) and width(layer, member.side) == group.before
        count = math.lcm(count, blocks(layer))
        if not whole or count == group.before or group.before % count:
            why = "has no channels to spare in" if whole and count == group.before else "takes other channels too in"
            reason = reason or f"{member.layer} ({type(layer).__name__}) {why} each of its {blocks(layer)} groups"
    return replace(group, blocks=1 if reason else count, reason=reason)


def _side(module: nn.Module, handler: str) -> Side:
    if sides(module) == ("channels",):
        return "channels"
    return "out" if handler == "prune_out_channels" else "in"


def _runs(
    layer: str, side: Side, positions: Sequence[int], channels: Sequence[int], parameter: str = ""
) -> list[Member]:
    """Write the map from positions of a layer to channels of the group as few runs as possible."""
    order = np.argsort(positions)
    position, channel = np.asarray(positions)[order], np.asarray(channels)[order]
    if not len(position):
        return []
    begins = _begins((np.diff(channel) == 0) & (np.diff(position) == 1))
    lengths = np.diff([*begins, len(position)])
    channel, position = channel[begins], position[begins]
    follows = (np.diff(lengths) == 0) & (np.diff(channel) == 1) & (np.diff(position) == lengths[:-1])
    begins = _begins(follows)
    counts = np.diff([*begins, len(position)])
    return [
        Member(layer, side, int(channel[begin]), int(count), int(position[begin]), int(lengths[begin]), parameter)
        for begin, count in zip(begins, counts, strict=True)
    ]


def _begins(continues: np.ndarray) -> np.ndarray:
    """Where stretches begin, of entries of which each but the first `continues` the one before or does not."""
    return np.flatnonzero(np.concatenate([[True], ~continues]))
