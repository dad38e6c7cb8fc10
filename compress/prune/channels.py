"""Channel pruning to a share of the MACs, one keep ratio for the whole network."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ... import errors
from .apply import apply_plan, network_sha256, remove
from .criteria import Criterion, find_criterion, group_importance
from .macs import LayerCost, count_macs, layer_costs
from .plan import FORMAT, Group, PruningPlan, Width
from .surgery import filters, width
from .trace import trace_groups


def prune_channels(
    model: nn.Module,
    example: Tensor,
    *,
    criterion: str | Criterion = "fpgm",
    keep_macs: float = 0.5,
    scope: Literal["uniform"] = "uniform",
    multiple: int = 1,
    ignore: Sequence[str] = (),
    seed: int = 0,
) -> tuple[nn.Module, PruningPlan]:
    """A physically narrower copy of `model`, and its plan; keywords as for `plan_channels`."""
    plan = plan_channels(
        model, example, criterion=criterion, keep_macs=keep_macs, scope=scope, multiple=multiple,
        ignore=ignore, seed=seed,
    )  # fmt: skip
    return apply_plan(model, plan), plan


def plan_channels(
    model: nn.Module,
    example: Tensor,
    *,
    criterion: str | Criterion = "fpgm",
    keep_macs: float = 0.5,
    scope: Literal["uniform"] = "uniform",
    multiple: int = 1,
    ignore: Sequence[str] = (),
    seed: int = 0,
) -> PruningPlan:
    """Decide which channels to remove; `model` is not touched.

    example   -- float32 [N,C,H,W] of the size the network will run at; only its shape is used.
    criterion -- "fpgm", "l1", "l2", "random" (by `seed`), or a function [out, fan_in] -> importance [out].
    keep_macs -- share of the MACs that may remain, above 0 and at most 1; the widest widths within it.
    scope     -- "uniform": every prunable group keeps the same share of its channels (He et al. 2019).
    multiple  -- widths are rounded to a multiple of this, e.g. 8 for runtimes that compute in blocks.
    ignore    -- names of layers or modules whose output channels stay.

    Raises EdgeLatheError when the target cannot be reached, for unknown names, and for networks that cannot
    be traced.
    """
    if scope != "uniform":
        raise errors.inputs.unknown_choice("scope", scope, ["uniform"])
    if not 0 < keep_macs <= 1:
        raise errors.inputs.impossible_setting("keep_macs", keep_macs, "above 0 and at most 1")
    if multiple < 1:
        raise errors.inputs.impossible_setting("multiple", multiple, "1 or more")
    name, score = find_criterion(criterion, seed)
    groups = trace_groups(model, example, ignore)
    prunable = [group for group in groups if not group.reason]
    if not prunable:
        raise errors.prune.nothing_prunable([f"{group.layer}: {group.reason}" for group in groups])
    ranked = {group.layer: _ranking(model, group, score) for group in prunable}
    costs = layer_costs(model, example)
    macs, parameters = count_macs(model, example)

    def cut(ratio: Fraction) -> tuple[Group, ...]:
        return tuple(_cut(group, ranked.get(group.layer), ratio, multiple) for group in groups)

    def within(ratio: Fraction) -> bool:
        return _predicted_macs(costs, cut(ratio)) <= keep_macs * macs

    steps = _steps(prunable, multiple)
    if not within(steps[0]):
        least = _predicted_macs(costs, cut(steps[0])) / macs
        left = [f"{group.layer}: {group.reason}" for group in groups if group.reason]
        raise errors.prune.unreachable_macs(keep_macs, least, left)
    low, high = 0, len(steps)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if within(steps[middle]) else (low, middle)
    chosen = cut(steps[low])
    pruned = remove(model, chosen)
    macs_after, parameters_after = count_macs(pruned, example)
    return PruningPlan(
        FORMAT, network_sha256(model), name, keep_macs, float(steps[low]), multiple, chosen,
        _widths(model, pruned, chosen), macs, macs_after, parameters, parameters_after,
    )  # fmt: skip


def _widths(model: nn.Module, pruned: nn.Module, groups: Sequence[Group]) -> tuple[Width, ...]:
    reasons: dict[str, str] = {}
    for group in groups:
        for member in group.members:
            if member.side != "in":
                reasons.setdefault(member.layer, group.reason)
    narrowed = dict(pruned.named_modules())
    widths = []
    for name, layer in model.named_modules():
        if isinstance(layer, (_ConvNd, nn.Linear)):
            before, after = width(layer, "out"), width(narrowed[name], "out")
            reason = reasons.get(name, "no path of channels through it was found") if before == after else ""
            widths.append(Width(name, before, after, reason))
    return tuple(widths)


def _ranking(model: nn.Module, group: Group, criterion: Criterion) -> list[int]:
    """Channels of a group from most to least important; equals keep their order."""
    layers = dict(model.named_modules())
    shared = []
    for member in group.members:
        layer = layers[member.layer]
        makes = member.side == "out" or (member.side == "channels" and isinstance(layer, _ConvNd))
        if makes and member.whole(group.before) and width(layer, member.side) == group.before:
            shared.append(filters(layer))
    importance = group_importance(criterion, shared)
    if importance.shape != (group.before,) or not bool(torch.isfinite(importance).all()):
        raise errors.prune.bad_importance(group.layer, group.before)
    return torch.argsort(importance, descending=True, stable=True).tolist()


def _steps(groups: Sequence[Group], multiple: int) -> list[Fraction]:
    """Every ratio at which the width of some group changes, ascending: the only ones worth trying."""
    steps = {Fraction(0), Fraction(1)}
    for group in groups:
        for number in range(1, math.ceil(group.before / multiple) + 1):
            steps.add(min(Fraction((2 * number - 1) * multiple, 2 * group.before), Fraction(1)))
    return sorted(steps)


def _cut(group: Group, ranking: list[int] | None, ratio: Fraction, multiple: int) -> Group:
    if ranking is None:
        return group
    rounded = math.floor(ratio * group.before / multiple + Fraction(1, 2)) * multiple
    size = min(group.before, max(multiple, rounded)) if ratio < 1 else group.before
    if size == group.before:
        why = "the target is met without cutting it"
        if group.before <= multiple:
            why = f"it has no more than {multiple} channels"
        return replace(group, reason=why)
    return replace(group, keep=tuple(sorted(ranking[:size])))


def _predicted_macs(costs: Mapping[str, LayerCost], groups: Sequence[Group]) -> int:
    lost: dict[tuple[str, bool], set[int]] = defaultdict(set)
    for group in groups:
        for channel in group.removed:
            for member in group.members:
                lost[member.layer, member.side == "in"].update(member.positions(channel))
    return sum(
        cost.at(cost.outputs - len(lost[name, False]), cost.inputs - len(lost[name, True]))
        for name, cost in costs.items()
    )
