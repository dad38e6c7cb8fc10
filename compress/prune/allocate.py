"""Widths from a sensitivity scan: channels go where a multiply-accumulate saved costs least.

Each group's cost against channels removed is the lower convex hull of what the scan found, straight between its
points, and the costs of groups are taken to add up. Then step after step the group goes narrower that loses least
per MAC saved, so that at the end a further MAC would cost about the same in every group (equal slopes, Everett
1963). No group goes narrower than it was scanned: beyond, nothing is known.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from torch import Tensor, nn

from ... import errors
from .apply import network_sha256
from .criteria import Criterion
from .evidence import Samples
from .macs import LayerCost, layer_costs
from .plan import Group, PruningPlan
from .sensitivity import MEASURES, GroupSensitivity, Measure, Sensitivity
from .trace import trace_groups
from .widths import prune_to_widths, whole_multiple

STEPS = 64
"""Into how many steps the width of a group is divided at most."""

_Side = tuple[str, bool]
"""A layer, and whether its inputs are meant."""
Corner = tuple[int, float]
"""Channels removed, cost."""


def plan_from_sensitivity(
    model: nn.Module,
    example: Tensor,
    sensitivity: Sensitivity,
    *,
    keep_macs: float = 0.5,
    measure: Measure = "loss",
    criterion: str | Criterion = "fpgm",
    multiple: int = 1,
    ignore: Sequence[str] = (),
    seed: int = 0,
    samples: Samples | None = None,
) -> PruningPlan:
    """A plan whose widths `allocate` chose by a scan of `model`, which is not touched; to be applied or edited.

    example   -- float32 [N,C,H,W] of the size the network will run at; only its shape is used.
    keep_macs -- share of the MACs that may remain, above 0 and at most 1.
    measure   -- what shall be lost evenly, "loss" or "accuracy".
    The other keywords are those of `prune_channels`.

    Raises EdgeLatheError for a scan of another network or one that does not reach that far, and as `prune_channels`.
    """
    if sensitivity.network != network_sha256(model):
        raise errors.widths.foreign_scan("its layers have other names or shapes")
    groups = trace_groups(model, example, ignore)
    costs = layer_costs(model, example)
    widths = allocate(groups, costs, sensitivity, keep_macs=keep_macs, measure=measure, multiple=multiple)
    _, plan = prune_to_widths(
        model, example, widths, criterion=criterion, multiple=multiple, ignore=ignore, seed=seed, samples=samples
    )
    return plan


def allocate(
    groups: Sequence[Group],
    costs: Mapping[str, LayerCost],
    sensitivity: Sensitivity,
    *,
    keep_macs: float,
    measure: Measure = "loss",
    multiple: int | str = 1,
) -> dict[str, int]:
    """Channels that groups keep, by layer, so that `keep_macs` of the MACs remain at most; those that lose some.

    `costs` are those of the whole network (`macs.layer_costs`). Raises EdgeLatheError when the scan does not reach
    that far.
    """
    multiple = check_allocation(keep_macs, measure, multiple)
    scanned = {found.layer: found for found in sensitivity.groups if found.points}
    before = {group.layer: group.before for group in groups}
    for layer, found in scanned.items():
        if before.get(layer) != found.before:
            raise errors.widths.foreign_scan(f"it has no group of {found.before} channels {layer}")
    cuttable = {group.layer: group for group in groups if not group.reason and group.layer in scanned}
    hulls = {layer: hull(sensitivity, scanned[layer], measure) for layer in cuttable}
    network = _Network(costs, cuttable.values())
    whole = network.macs
    target = keep_macs * whole
    while network.macs > target:
        steps = []
        for place, (layer, group) in enumerate(cuttable.items()):
            width = network.widths[layer]
            narrower = _narrower(group, width, scanned[layer].points[-1].after, group.step(multiple))
            if narrower < width:
                lost = cost(hulls[layer], group.before - narrower) - cost(hulls[layer], group.before - width)
                saved = network.macs - network.macs_at(layer, narrower)
                if saved > 0:
                    steps.append((lost / saved, -saved, place, layer, narrower))
        if not steps:
            raise errors.widths.beyond_the_scan(keep_macs, network.macs / whole)
        *_, layer, narrower = min(steps)
        network.set_width(layer, narrower)
    _give_back(network, cuttable.values(), hulls, multiple, target)
    return {layer: width for layer, width in network.widths.items() if width < cuttable[layer].before}


def check_allocation(keep_macs: float, measure: Measure, multiple: object) -> int:
    """`multiple`. Raises EdgeLatheError for what `allocate` would refuse of any scan."""
    if measure not in MEASURES:
        raise errors.inputs.unknown_choice("measure", measure, MEASURES)
    if not 0 < keep_macs <= 1:
        raise errors.inputs.impossible_setting("keep_macs", keep_macs, "above 0 and at most 1")
    return whole_multiple(multiple)


def hull(sensitivity: Sensitivity, group: GroupSensitivity, measure: Measure) -> tuple[Corner, ...]:
    """Corners of a group's cost, from (0, 0): never falling, never flattening, at or below every point."""
    corners: list[Corner] = [(0, 0.0)]
    worst = 0.0
    for point in group.points:
        worst = max(worst, sensitivity.lost(point, measure))
        corner = (group.before - point.after, worst)
        while len(corners) > 1 and _slope(corners[-2], corners[-1]) >= _slope(corners[-1], corner):
            corners.pop()
        corners.append(corner)
    return tuple(corners)


def cost(corners: Sequence[Corner], removed: int) -> float:
    """Predicted cost of removing so many channels, which is at most what the last corner removes."""
    for before, after in itertools.pairwise(corners):
        if removed <= after[0]:
            return before[1] + _slope(before, after) * (removed - before[0])
    return corners[-1][1]


def _slope(before: Corner, after: Corner) -> float:
    return (after[1] - before[1]) / (after[0] - before[0])


def _narrower(group: Group, width: int, scanned: int, multiple: int) -> int:
    """The next width to try below `width`, a multiple and no narrower than what was scanned; `width` at the end."""
    step = multiple * max(1, group.before // (multiple * STEPS))
    least = math.ceil(scanned / multiple) * multiple
    return max((width - 1) // step * step, min(least, width))


def _give_back(
    network: _Network, groups: Collection[Group], hulls: Mapping[str, Sequence[Corner]], multiple: int, target: float
) -> None:
    """Use what the last step left below the target: wider again where a MAC brings most."""
    while True:
        steps = []
        for place, group in enumerate(groups):
            width = network.widths[group.layer]
            wider = min(group.before, width + group.step(multiple))
            added = network.macs_at(group.layer, wider) - network.macs
            if wider > width and added > 0 and network.macs + added <= target:
                won = cost(hulls[group.layer], group.before - width) - cost(hulls[group.layer], group.before - wider)
                steps.append((-won / added, added, place, group.layer, wider))
        if not steps:
            return
        *_, layer, wider = min(steps)
        network.set_width(layer, wider)


class _Network:
    """MACs of a network while its groups change their widths one after the other, without building it."""

    def __init__(self, costs: Mapping[str, LayerCost], groups: Iterable[Group]) -> None:
        self._costs = costs
        self._positions: dict[str, dict[_Side, int]] = {}
        """Positions of all channels of a group, in each layer that has any."""
        self._before: dict[str, int] = {}
        for group in groups:
            held: dict[_Side, int] = defaultdict(int)
            for member in group.members:
                if member.layer in costs and not member.parameter:
                    held[member.layer, member.side == "in"] += member.count * member.repeat
            self._positions[group.layer], self._before[group.layer] = dict(held), group.before
        self.widths = dict(self._before)
        self._lost: dict[_Side, int] = defaultdict(int)
        self.macs = sum(cost.macs for cost in costs.values())

    def macs_at(self, group: str, width: int) -> int:
        """MACs with one group at another width."""
        lost = self._lost | self._change(group, width)
        layers = {layer for layer, _ in self._positions[group]}
        return self.macs + sum(self._of(layer, lost) - self._of(layer, self._lost) for layer in layers)

    def set_width(self, group: str, width: int) -> None:
        self.macs = self.macs_at(group, width)
        self._lost.update(self._change(group, width))
        self.widths[group] = width

    def _change(self, group: str, width: int) -> dict[_Side, int]:
        """What the sides of the layers that `group` reaches have lost once it has `width` channels."""
        before = self._before[group]
        return {
            side: self._lost[side] + held * (before - width) // before - held * (before - self.widths[group]) // before
            for side, held in self._positions[group].items()
        }

    def _of(self, layer: str, lost: Mapping[_Side, int]) -> int:
        cost = self._costs[layer]
        return cost.at(cost.outputs - lost.get((layer, False), 0), cost.inputs - lost.get((layer, True), 0))
