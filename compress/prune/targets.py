"""MACs and parameters at any widths, without building the network, and the widest widths within a share of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import nn

from ... import errors
from ...models.attention import head_kind, heads, parameters_of_heads
from .macs import LayerCost
from .plan import Group, Target
from .surgery import refusal, sides, width

KEYS: dict[str, Target] = {"keep_macs": "macs", "keep_params": "parameters", "keep_latency": "latency"}
DEFAULT = ("keep_macs", 0.5)


def one_target(**targets: float | None) -> tuple[str, float]:
    """Key and share of the one target that is given, keep_macs = 0.5 where none is.

    Raises EdgeLatheError for two of them and for a share that cannot be kept.
    """
    given = [(key, share) for key, share in targets.items() if share is not None] or [DEFAULT]
    if len(given) > 1:
        raise errors.prune.several_targets([key for key, _ in given])
    key, share = given[0]
    if not 0 < share <= 1:
        raise errors.inputs.impossible_setting(key, share, "above 0 and at most 1")
    return key, share


class _Place(NamedTuple):
    """The outputs or inputs of a layer, or a bare parameter that it holds."""

    layer: str
    inputs: bool
    parameter: str


@dataclass(frozen=True)
class _Held:
    """Parameters of one layer: of all pairs of output and input, of each output, of each entry of bare ones, others."""

    outputs: int
    inputs: int
    pairs: int
    each_output: int
    bare: Mapping[str, int]

    def lost(self, name: str, lost: Mapping[_Place, int]) -> int:
        outputs = self.outputs - lost.get(_Place(name, False, ""), 0)
        inputs = self.inputs - lost.get(_Place(name, True, ""), 0)
        pairs = self.pairs * outputs * inputs // (self.outputs * self.inputs)
        bare = sum(each * lost.get(_Place(name, False, parameter), 0) for parameter, each in self.bare.items())
        return self.pairs - pairs + self.each_output * (self.outputs - outputs) + bare


class Prediction:
    """MACs and parameters of a network at the widths of its groups; exact.

    rankings -- by group: its channels in the order in which they are kept; a width is how many of them stay.
    """

    def __init__(
        self,
        model: nn.Module,
        costs: Mapping[str, LayerCost],
        groups: Sequence[Group],
        rankings: Mapping[str, Sequence[int]],
    ) -> None:
        self._costs = costs
        self._losses = [
            (group.layer, place, lost)
            for group in groups
            if group.layer in rankings
            for place, lost in _losses(group, rankings[group.layer])
        ]
        places = {place for _, place, _ in self._losses}
        layers = dict(model.named_modules())
        self._held = {
            name: _held(layers[name], {place.parameter for place in places if place.layer == name} - {""})
            for name in {place.layer for place in places}
        }
        self._parameters = sum(parameter.numel() for parameter in model.parameters())

    def macs(self, widths: Mapping[str, int]) -> int:
        lost = self._lost(widths)

        def left(name: str, cost: LayerCost) -> int:
            outputs, inputs = lost.get(_Place(name, False, ""), 0), lost.get(_Place(name, True, ""), 0)
            return cost.at(cost.outputs - outputs, cost.inputs - inputs)

        return sum(left(name, cost) for name, cost in self._costs.items())

    def parameters(self, widths: Mapping[str, int]) -> int:
        lost = self._lost(widths)
        return self._parameters - sum(held.lost(name, lost) for name, held in self._held.items())

    def _lost(self, widths: Mapping[str, int]) -> dict[_Place, int]:
        lost: dict[_Place, int] = defaultdict(int)
        for group, place, by_width in self._losses:
            lost[place] += int(by_width[widths[group]])
        return lost


def _losses(group: Group, ranking: Sequence[int]) -> list[tuple[_Place, np.ndarray]]:
    """For each run of a group's channels: positions lost there, int64 [before + 1], by the group's width."""
    order = np.asarray(ranking, np.int64)
    found = []
    for member in group.members:
        inside = (order >= member.first) & (order < member.first + member.count)
        from_the_end = np.concatenate([np.cumsum(inside[::-1])[::-1], [0]])
        place = _Place(member.layer, member.side == "in", member.parameter)
        found.append((place, from_the_end * member.repeat))
    return found


def _held(layer: nn.Module, bare: Iterable[str]) -> _Held:
    if head_kind(layer):
        return _Held(heads(layer), 1, 0, parameters_of_heads(layer) // heads(layer), {})
    each = {name: layer.get_parameter(name).numel() // width(layer, "channels", name) for name in bare}
    own = [parameter.numel() for name, parameter in layer.named_parameters(recurse=False) if name not in each]
    if refusal(layer, ""):
        return _Held(1, 1, 0, 0, each)
    if sides(layer) == ("channels",):
        channels = width(layer, "channels")
        return _Held(channels, 1, 0, sum(numbers // channels for numbers in own if numbers % channels == 0), each)
    outputs, pairs = width(layer, "out"), layer.get_parameter("weight").numel()
    return _Held(outputs, width(layer, "in"), pairs, (sum(own) - pairs) // outputs, each)


def first_within(steps: int, cost: Callable[[int], float], limit: float) -> int | None:
    """The first step of 0..steps at which `cost`, which never rises, is at most `limit`; None where there is none."""
    if cost(steps) > limit:
        return None
    low, high = -1, steps
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cost(middle) <= limit else (middle, high)
    return high
