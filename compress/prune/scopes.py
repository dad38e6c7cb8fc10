"""Which channels are compared with which, and so in what order they go.

    uniform     every group keeps the same share of its channels (He et al. 2019); only channels of one group are
                compared
    global      all channels are ranked together, each group's importance divided by its mean (the default of
                Torch-Pruning, Fang et al. 2023)
    isomorphic  groups of the same structure are ranked together, and every such kind loses the same share of its
                channels (Fang et al. 2024, Isomorphic Pruning); importance is divided by its mean as well

Channels go in blocks, so that widths are multiples of what a runtime computes at once.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from .plan import Group, Scope
from .surgery import is_depthwise

SCOPES: tuple[Scope, ...] = ("uniform", "global", "isomorphic")

MOST_OF_A_GROUP = 0.9
"""Share of a group's channels that may go when channels of different groups are compared: without a limit, a ranking
over the whole network can close it at its narrowest place."""

COMPARABLE = ("lamp",)
"""Criteria that state how their scores compare across layers, and are not divided by the mean of a group."""


class Blocks(NamedTuple):
    """Blocks of channels that go together, of one group or of several, each group's from the least important on."""

    channels: np.ndarray
    """int64 [blocks]"""
    places: np.ndarray
    """float64 [blocks]: blocks of lower place go earlier; never falling within a group."""


@dataclass(frozen=True, eq=False)
class Ladder:
    """Widths from those of the whole network, step 0, downwards; each step removes blocks from the one before."""

    rankings: Mapping[str, Sequence[int]]
    """By group: its channels in the order in which they are kept."""
    multiples: Mapping[str, int]
    owners: np.ndarray
    """int64 [blocks]: the number, in `rankings`, of the group that each block is of; in the order in which they go."""
    channels: np.ndarray
    """int64 [blocks]"""
    ends: np.ndarray
    """int64 [steps + 1]: how many blocks are gone at each step."""

    @property
    def last(self) -> int:
        """The last step."""
        return len(self.ends) - 1

    def widths(self, step: int) -> dict[str, int]:
        gone = slice(int(self.ends[step]))
        lost = np.bincount(self.owners[gone], self.channels[gone], minlength=len(self.rankings))
        pairs = zip(self.rankings.items(), lost.tolist(), strict=True)
        return {layer: len(ranking) - int(channels) for (layer, ranking), channels in pairs}

    def cut(self, groups: Sequence[Group], step: int) -> tuple[Group, ...]:
        """`groups` with the channels that are kept at `step`, or the reason why none of them goes."""
        widths = self.widths(step)
        return tuple(self._cut(group, widths[group.layer]) if group.layer in widths else group for group in groups)

    def _cut(self, group: Group, width: int) -> Group:
        if width < group.before:
            return replace(group, keep=tuple(sorted(self.rankings[group.layer][:width])))
        why = "the target is met without cutting it"
        if group.before <= self.multiples[group.layer]:
            why = f"it has no more than {self.multiples[group.layer]} channels"
        return replace(group, reason=why)


def make_ladder(
    model: nn.Module,
    groups: Sequence[Group],
    importance: Mapping[str, Tensor],
    *,
    scope: Scope,
    multiples: Mapping[str, int],
    comparable: bool = False,
    one_by_one: bool = False,
) -> Ladder:
    """All widths that `scope` allows for the prunable `groups`, given the importance [before] of their channels.

    multiples  -- by group: its width is rounded to a multiple of this (and of its blocks); it keeps at least so many.
    comparable -- importance is compared across groups as it is.
    one_by_one -- groups that lose blocks at the same share do so one after the other, each a step: for targets that lie
                  between two shares.
    """
    multiples = {group.layer: group.step(multiples[group.layer]) for group in groups}
    rankings = {
        group.layer: group.evenly(importance[group.layer].argsort(descending=True, stable=True).tolist())
        for group in groups
    }
    if scope == "uniform":
        found = [_in_equal_shares(group, multiples[group.layer]) for group in groups]
    else:
        found = [
            _by_importance(
                group, importance[group.layer][rankings[group.layer]], multiples[group.layer], comparable
            )
            for group in groups
        ]  # fmt: skip
    owners = np.repeat(np.arange(len(groups)), [len(blocks.channels) for blocks in found])
    channels = np.concatenate([blocks.channels for blocks in found])
    places = np.concatenate([blocks.places for blocks in found])
    if scope == "isomorphic":
        layers = dict(model.named_modules())
        kinds: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, group in enumerate(groups):
            kinds[structure(group, layers)].append(number)
        for kind in kinds.values():
            inside = np.isin(owners, kind)
            total = sum(groups[number].before for number in kind)
            places[inside] = _shares_gone(Blocks(channels[inside], places[inside]), total)
    order = places.argsort(kind="stable")
    together = np.diff(places[order]) == 0
    if scope == "global" or one_by_one:
        together[:] = False
    ends = np.flatnonzero(np.concatenate([[True], ~together, [True]])) if len(order) else np.zeros(1, np.int64)
    return Ladder(rankings, multiples, owners[order], channels[order], ends)


def structure(group: Group, layers: Mapping[str, nn.Module]) -> tuple[str, ...]:
    """The operators that a group's channels run through, and which side of them: equal for isomorphic groups."""
    sides = {(member.layer, member.side) for member in group.members}
    return tuple(sorted(f"{_operator(layers[layer])} {side}" for layer, side in sides))


def _operator(layer: nn.Module) -> str:
    return f"depthwise {type(layer).__name__}" if is_depthwise(layer) else type(layer).__name__


def _in_equal_shares(group: Group, multiple: int) -> Blocks:
    """A group's blocks; block j is kept while share * before / multiple rounds to j or more."""
    numbers = np.arange(math.ceil(group.before / multiple), 1, -1)
    # One division of integers: equal shares of different groups are equal floats.
    kept_from = np.minimum(1.0, (2 * numbers - 1) * multiple / (2 * group.before))
    return Blocks(np.minimum(multiple, group.before - (numbers - 1) * multiple), 1.0 - kept_from)


def _by_importance(group: Group, importance: Tensor, multiple: int, comparable: bool) -> Blocks:
    """A group's blocks, each placed by the mean importance of its channels; `importance` [before] in rank order."""
    scores = importance.double().numpy()[::-1]
    if not comparable:
        scores = scores / max(float(np.abs(scores).mean()), 1e-12)
    least = math.ceil(group.before * (1 - MOST_OF_A_GROUP) / multiple) * multiple
    if group.before <= least:
        return Blocks(np.zeros(0, np.int64), np.zeros(0))
    starts = np.arange(group.before % multiple or multiple, group.before - least, multiple)
    starts = np.concatenate([[0], starts])
    channels = np.diff([*starts, group.before - least])
    means = np.add.reduceat(scores[: group.before - least], starts) / channels
    # In rank order, channels of a grouped layer need not fall in importance, nor means of equal numbers be equal.
    return Blocks(channels, np.maximum.accumulate(means))


def _shares_gone(blocks: Blocks, total: int) -> np.ndarray:
    """For each block of one kind, ranked together: the share of its `total` channels that is gone with it."""
    order = blocks.places.argsort(kind="stable")
    shares = np.empty(len(order))
    shares[order] = blocks.channels[order].cumsum() / total
    return shares
