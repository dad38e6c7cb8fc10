"""Widths that people state, by layer: which group each means, and how many channels it keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from ... import errors
from .apply import network_sha256, remove
from .channels import layer_widths
from .criteria import Criterion, find_criterion
from .evidence import Samples
from .importance import channel_importance, scorable
from .macs import count_macs
from .plan import FORMAT, Group, PruningPlan
from .trace import trace_groups

Widths = Mapping[str, int | float]
"""By the name of a layer: a whole number is a count of channels (at least 1), a number with a point a share of them
(above 0 and at most 1)."""


def prune_to_widths(
    model: nn.Module,
    example: Tensor,
    widths: Widths,
    *,
    criterion: str | Criterion = "fpgm",
    multiple: int | str = 1,
    ignore: Sequence[str] = (),
    seed: int = 0,
    samples: Samples | None = None,
) -> tuple[nn.Module, PruningPlan]:
    """A copy of `model` whose layers have the widths that are stated, and its plan; `model` is not touched.

    widths -- as `stated_widths` takes them. The other keywords are those of `prune_channels`; the criterion says which
              channels stay, and `multiple` is what shares are rounded to.

    Raises EdgeLatheError for widths that the network cannot have, and as `prune_channels` does.
    """
    multiple = whole_multiple(multiple)
    groups = scorable(model, trace_groups(model, example, ignore), criterion)
    sizes = stated_widths(widths, groups, multiple)
    importance = channel_importance(model, groups, criterion, samples=samples, seed=seed)
    chosen = tuple(_kept(group, importance.get(group.layer), sizes[group.layer]) for group in groups)
    pruned = remove(model, chosen)
    (macs, parameters), (macs_after, parameters_after) = count_macs(model, example), count_macs(pruned, example)
    prunable = [group for group in groups if not group.reason]
    plan = PruningPlan(
        format=FORMAT,
        network=network_sha256(model),
        criterion=find_criterion(criterion)[0],
        scope="stated",
        target="macs",
        keep=macs_after / macs,
        ratio=sum(sizes[group.layer] for group in prunable) / max(1, sum(group.before for group in prunable)),
        multiple=multiple,
        multiples=(),
        groups=chosen,
        widths=layer_widths(model, pruned, chosen),
        macs_before=macs,
        macs_after=macs_after,
        parameters_before=parameters,
        parameters_after=parameters_after,
    )
    return pruned, plan


def whole_multiple(multiple: object) -> int:
    """`multiple`. Raises EdgeLatheError unless it is a number: "auto" is for widths that are searched."""
    if not isinstance(multiple, int) or multiple < 1:
        raise errors.inputs.impossible_setting("multiple", multiple, "1 or more, where widths are stated")
    return multiple


def _kept(group: Group, importance: Tensor | None, size: int) -> Group:
    if importance is None:
        return group
    if size == group.before:
        return replace(group, reason="no narrower width is stated for it")
    return replace(group, keep=group.best(importance.argsort(descending=True, stable=True).tolist(), size))


def stated_widths(widths: Widths, groups: Sequence[Group], multiple: int = 1) -> dict[str, int]:
    """Channels that each group keeps, by its layer; groups that `widths` does not mention keep all.

    Any layer that makes a group's channels stands for the group. Counts are taken as they are, shares rounded to
    `multiple`. Raises EdgeLatheError for unknown layers (naming the nearest), numbers out of range, layers that
    cannot be cut, and two layers of one group that state different widths.
    """
    makers = {
        member.layer: group
        for group in reversed(groups)
        for member in group.members
        if member.side != "in" and member.positions(0)
    } | {group.layer: group for group in groups}
    chosen: dict[str, tuple[str, int]] = {}
    for name, width in widths.items():
        if name not in makers:
            raise errors.inputs.unknown_choice("layer in widths", name, makers)
        group = makers[name]
        count = _count(name, width, group, multiple)
        if group.reason and count != group.before:
            raise errors.widths.cannot_narrow(name, count, group.before, group.reason)
        other, already = chosen.setdefault(group.layer, (name, count))
        if already != count:
            raise errors.widths.different_widths(other, already, name, count)
    return {group.layer: chosen.get(group.layer, ("", group.before))[1] for group in groups}


def _count(name: str, width: int | float, group: Group, multiple: int) -> int:
    counted = isinstance(width, int) and not isinstance(width, bool) and 1 <= width <= group.before
    if not counted and not (isinstance(width, float) and 0 < width <= 1):
        raise errors.widths.no_width(name, width, group.before)
    if isinstance(width, int):
        if width % group.blocks:
            raise errors.widths.uneven_blocks(name, width, group.blocks)
        return width
    step = group.step(multiple)
    rounded = math.floor(width * group.before / step + 0.5) * step
    return group.before if width == 1 else min(group.before, max(step, rounded))
