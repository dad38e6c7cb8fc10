"""What channel pruning will remove: made without touching the network, readable, and all that `apply` needs.

A group is a set of channels that live and die together: channel c of the group's first layer, the entries of
the batch norms behind it, the filters of layers added to it, and the input weights of every layer that reads
it. To change a plan by hand, change `keep` of a group; the rest follows from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ... import errors

FORMAT = 1

Side = Literal["out", "in", "channels"]


@dataclass(frozen=True)
class Member:
    """Where a run of a group's channels lies in one layer.

    Channel first + i, for i in 0..count-1, is positions start + i*repeat .. start + (i+1)*repeat - 1 of
    `side` of `layer`. (A linear layer behind a flattened map of p pixels holds p positions per channel.)
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    layer: str
    side: Side
    """Output filters, input weights, or the one width of a batch norm or depthwise convolution."""
    first: int
    count: int
    start: int
    repeat: int

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

    @property
    def after(self) -> int:
        return len(self.keep)

    @property
    def removed(self) -> list[int]:
        return sorted(set(range(self.before)) - set(self.keep))


@dataclass(frozen=True)
class Width:
    """Output channels of one convolution or linear layer, for people to read; `apply` does not look at them."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    layer: str
    before: int
    after: int
    reason: str
    """Why it was left alone; empty where it was pruned."""


@dataclass(frozen=True)
class PruningPlan:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    format: int
    network: str
    """SHA-256 over the names and shapes of the network that the plan was made for."""
    criterion: str
    keep_macs: float
    ratio: float
    """Share of the channels that every prunable group keeps, before rounding to whole multiples."""
    multiple: int
    groups: tuple[Group, ...]
    widths: tuple[Width, ...]
    """Every convolution and linear layer, in the order of the network."""
    macs_before: int
    macs_after: int
    parameters_before: int
    parameters_after: int

    def to_json(self) -> str:
        return _ADAPTER.dump_json(self, indent=1).decode() + "\n"

    @staticmethod
    def from_json(text: str | bytes, source: Path | str = "plan.json") -> PruningPlan:
        """Read and check a plan; raises EdgeLatheError that names `source` for anything that is not one."""
        do = "make the plan again"
        try:
            plan = _ADAPTER.validate_json(text)
        except ValidationError as reason:
            first = reason.errors()[0]
            place = ".".join(map(str, first["loc"]))
            why = f"{place}: {first['msg']}" if place else first["msg"]
            raise errors.inputs.unreadable_file("the pruning plan", source, why, do) from reason
        if plan.format != FORMAT:
            why = f"its format is {plan.format}, not {FORMAT}"
            raise errors.inputs.unreadable_file("the pruning plan", source, why, do)
        for group in plan.groups:
            ascending = list(group.keep) == sorted(set(group.keep))
            if not group.keep or not ascending or group.keep[0] < 0 or group.keep[-1] >= group.before:
                why = f"keep of {group.layer} must hold ascending numbers from 0 to {group.before - 1}"
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
        share = f"{self.ratio:.1%} of the channels of each prunable group"
        head = f"{self.criterion}, {share}; {macs}; {parameters}"
        return "\n".join([head, *lines])


_ADAPTER = TypeAdapter(PruningPlan)
