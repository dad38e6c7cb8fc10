"""What channel pruning will remove: made without touching the network, readable, and all that `apply` needs.

A group is a set of channels that live and die together: channel c of the group's first layer, the entries of
the batch norms behind it, the filters of layers added to it, and the input weights of every layer that reads
it. To change a plan by hand, change `keep` of a group; the rest follows from it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter

from ... import errors
from ..documents import read_document

FORMAT = 2

Scope = Literal["uniform", "global", "isomorphic"]
Target = Literal["macs", "parameters", "latency"]
Side = Literal["out", "in", "channels", "heads"]


@dataclass(frozen=True)
class Member:
    """Where a run of a group's channels lies in one layer.

    Channel first + i, for i in 0..count-1, is positions start + i*repeat .. start + (i+1)*repeat - 1 of
    `side` of `layer`. (A linear layer behind a flattened map of p pixels holds p positions per channel.)
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    layer: str
    side: Side
    """Output filters, input weights, the one width of a norm, a depthwise convolution or a bare parameter, or the
    heads of an attention module, query, key, value and output projection at once."""
    first: int
    count: int
    start: int
    repeat: int
    parameter: str = ""
    """Set where `layer` holds the channels in a parameter of its own (ConvNeXt's layer_scale): the parameter's name.
    They lie along its last axis of more than one entry."""

    def whole(self, channels: int) -> bool:
        """Whether this run maps all `channels` channels of the group to the positions of the same number."""
        return (self.first, self.count, self.start, self.repeat) == (0, channels, 0, 1)

    def positions(self, channel: int) -> range:
        """Positions of one channel of the group; empty where it lies outside of this run."""
        if not self.first <= channel < self.first + self.count:
            return range(0)
        start = self.start + (channel - self.first) * self.repeat
        return range(start, start + self.repeat)


@dataclass(frozen=True)
class Group:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    layer: str
    """The first layer of the network that produces these channels; it names the group."""
    before: int
    keep: tuple[int, ...]
    """Channels that stay, ascending."""
    members: tuple[Member, ...]
    reason: str
    """Why the group was left alone; empty where channels go."""
    blocks: int = 1
    """Into how many runs of equal length the channels fall, all of which must keep equally many: the groups of a
    grouped convolution, or of a group norm."""
    unit: int = 1
    """Features in each channel of the group: a head has head_dim of them."""

    @property
    def after(self) -> int:
        return len(self.keep)

    @property
    def removed(self) -> list[int]:
        return sorted(set(range(self.before)) - set(self.keep))

    @property
    def even(self) -> bool:
        """Whether all blocks keep equally many channels."""
        if self.blocks < 1 or self.before % self.blocks:
            return False
        kept = Counter(channel * self.blocks // self.before for channel in self.keep)
        return len(kept) == self.blocks and len(set(kept.values())) == 1

    def step(self, multiple: int) -> int:
        """Numbers of channels that it can keep are multiples of this, when widths are to be multiples of `multiple`."""
        return math.lcm(self.blocks, multiple // math.gcd(multiple, self.unit))

    def evenly(self, ranking: Sequence[int]) -> list[int]:
        """`ranking` (all channels, best first) so that its first k * `blocks` channels are the best k of each block."""
        seen: Counter[int] = Counter()
        places = []
        for channel in ranking:
            block = channel * self.blocks // self.before
            places.append(seen[block])
            seen[block] += 1
        return [channel for _, channel in sorted(zip(places, ranking, strict=True), key=lambda pair: pair[0])]

    def best(self, ranking: Sequence[int], size: int) -> tuple[int, ...]:
        """The `size` best channels, equally many of each block, ascending; `size` is a multiple of `blocks`."""
        return tuple(sorted(self.evenly(ranking)[:size]))


@dataclass(frozen=True)
class Width:
    """Output channels of one convolution or linear layer, or the heads of one attention module, for people to read;
    `apply` does not look at them."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    layer: str
    before: int
    after: int
    reason: str
    """Why it was left alone; empty where it was pruned."""


@dataclass(frozen=True)
class GroupMultiple:
    """The multiple that the channels of one group are rounded to, and the measurement that says so."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    layer: str
    multiple: int
    reason: str


@dataclass(frozen=True)
class Trial:
    """A network of certain widths that was measured: its MACs and its latency."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    macs: int
    latency: float


@dataclass(frozen=True)
class PruningPlan:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    format: int
    network: str
    """SHA-256 over the names and shapes of the network that the plan was made for."""
    criterion: str
    scope: Scope | Literal["stated"]
    """"stated": the widths were given, and `keep` is what they leave of the MACs."""
    target: Target
    keep: float
    """Share of the MACs, parameters or latency, as `target` says, that may remain."""
    ratio: float
    """Share of the channels of all prunable groups that stays."""
    multiple: int | Literal["auto"]
    multiples: tuple[GroupMultiple, ...]
    """One for each prunable group when `multiple` is "auto"; otherwise none."""
    groups: tuple[Group, ...]
    widths: tuple[Width, ...]
    """Every convolution and linear layer, in the order of the network."""
    macs_before: int
    macs_after: int
    parameters_before: int
    parameters_after: int
    latencies: tuple[Trial, ...] = ()
    """What was measured on the way to a latency, in order; the first is the whole network, in the unit of `measure`."""
    latency_before: float | None = None
    latency_after: float | None = None
    """Mean of what was measured at the widths that were chosen; None unless `target` is "latency"."""

    def to_json(self) -> str:
        return _ADAPTER.dump_json(self, indent=1).decode() + "\n"

    @staticmethod
    def from_json(text: str | bytes, source: Path | str = "plan.json") -> PruningPlan:
        """Read and check a plan; raises EdgeLatheError that names `source` for anything that is not one."""
        plan = read_document(
            _ADAPTER, text, format=FORMAT, what="the pruning plan", source=source, do="make the plan again"
        )
        for group in plan.groups:
            ascending = list(group.keep) == sorted(set(group.keep))
            if not group.keep or not ascending or group.keep[0] < 0 or group.keep[-1] >= group.before:
                why = f"keep of {group.layer} must hold ascending numbers from 0 to {group.before - 1}"
                raise errors.inputs.unreadable_file("the pruning plan", source, why, "mend it")
            if not group.even:
                why = f"keep of {group.layer} must hold equally many of each of its {group.blocks} blocks of channels"
                raise errors.inputs.unreadable_file("the pruning plan", source, why, "mend it")
        return plan

    def __str__(self) -> str:
        longest = max([len(width.layer) for width in self.widths], default=5)
        lines = [
            f"{width.layer:<{longest}}  {width.before:>5} -> {width.after:<5} {width.reason}".rstrip()
            for width in self.widths
        ]
        macs, parameters = (
            f"{what} {before:,} -> {after:,} ({after / before:.1%})"
            for what, before, after in (
                ("MACs", self.macs_before, self.macs_after),
                ("parameters", self.parameters_before, self.parameters_after),
            )
        )
        where = "each prunable group" if self.scope == "uniform" else "all prunable groups"
        head = f"{self.criterion}, {self.scope}: {self.ratio:.1%} of the channels of {where}; {macs}; {parameters}"
        if self.latency_before is not None and self.latency_after is not None:
            share = self.latency_after / self.latency_before
            head += f"; latency {self.latency_before:.4g} -> {self.latency_after:.4g} ({share:.1%})"
        rounded = [f"{found.layer}: multiples of {found.multiple}, {found.reason}" for found in self.multiples]
        return "\n".join([head, *lines, *rounded])


_ADAPTER = TypeAdapter(PruningPlan)
