"""What weight pruning will set to zero: which weights, in which pattern, how many of them, and why others stay dense.

The plan is JSON for people and programs; the masks that it speaks of are boolean tensors beside it (masks.py), each
known to the plan by its hash. Together they are all that `apply_masks` needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter

from ... import errors
from ..documents import read_document

FORMAT = 1

Method = Literal["one-shot", "gradual", "movement"]


@dataclass(frozen=True)
class WeightSparsity:
    """One weight of the network."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    weight: str
    """Name of the parameter: "layer1.0.conv1.weight"."""
    size: int
    kept: int
    """How many of its `size` numbers stay."""
    mask_sha256: str
    """Of the packed mask; empty where the weight stays dense."""
    reason: str
    """Why it stays dense; empty where it does not."""


@dataclass(frozen=True)
class SparsityPlan:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    format: int
    network: str
    """SHA-256 over the names and shapes of the network that the plan was made for."""
    pattern: str
    scope: str
    method: Method
    keep: float
    """Share of the sparse weights that was to stay."""
    weights: tuple[WeightSparsity, ...]
    """Of every convolution, linear layer and attention projection, in the order of the network."""

    @property
    def sparse(self) -> tuple[WeightSparsity, ...]:
        return tuple(weight for weight in self.weights if not weight.reason)

    @property
    def kept_share(self) -> float:
        """Of all weights listed, dense ones included."""
        return sum(weight.kept for weight in self.weights) / sum(weight.size for weight in self.weights)

    def to_json(self) -> str:
        return _ADAPTER.dump_json(self, indent=1).decode() + "\n"

    @staticmethod
    def from_json(text: str | bytes, source: Path | str = "plan.json") -> SparsityPlan:
        """Read and check a plan; raises EdgeLatheError that names `source` for anything that is not one."""
        do = "make the plan again"
        plan = read_document(_ADAPTER, text, format=FORMAT, what="the sparsity plan", source=source, do=do)
        for weight in plan.weights:
            if not 0 < weight.kept <= weight.size or bool(weight.mask_sha256) == bool(weight.reason):
                why = f"what it says of {weight.weight} contradicts itself"
                raise errors.inputs.unreadable_file("the sparsity plan", source, why, do)
        return plan

    def __str__(self) -> str:
        longest = max(len(weight.weight) for weight in self.weights)
        lines = [
            f"{weight.weight:<{longest}}  {weight.kept:>9,} of {weight.size:>9,} {weight.reason}".rstrip()
            for weight in self.weights
        ]
        head = f"{self.pattern}, {self.method}, {self.scope}: {self.kept_share:.1%} of all weights stay"
        return "\n".join([head, *lines])


_ADAPTER = TypeAdapter(SparsityPlan)
