"""What surgery will replace in a network, and why it leaves the rest alone: made without touching the network."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import nn

from ... import errors
from ...models.edits import Edit, make_edit, refusal


@dataclass(frozen=True)
class LeftAlone:
    module: str
    what: str
    """The activation, or squeeze-excite."""
    reason: str

    def __str__(self) -> str:
        return f"{self.module or 'the network'} keeps {self.what}: {self.reason}"


@dataclass(frozen=True)
class MeanGate:
    """One factor per channel in place of a squeeze-and-excitation block."""

    block: str
    reader: str
    """The convolution whose input weights are multiplied by the factors."""
    factors: tuple[float, ...]


@dataclass(frozen=True)
class SurgeryPlan:
    edits: tuple[Edit, ...]
    left: tuple[LeftAlone, ...]
    gates: tuple[MeanGate, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    def __str__(self) -> str:
        readers = {gate.block: f", its mean gate goes into {gate.reader}" for gate in self.gates}
        made = [f"{edit.module} -> {edit.becomes}{readers.get(edit.module, '')}" for edit in self.edits]
        return "\n".join([*made, *map(str, self.left)])


def apply_plan(model: nn.Module, plan: SurgeryPlan) -> nn.Module:
    """A copy of `model` with the edits made; raises EdgeLatheError when the plan was made for another network."""
    edited = copy.deepcopy(model)
    for edit in plan.edits:
        if why := refusal(edited, edit):
            raise errors.surgery.foreign_surgery(why)
        make_edit(edited, edit)
    layers = dict(edited.named_modules())
    for gate in plan.gates:
        reader = layers.get(gate.reader)
        if not isinstance(reader, nn.Conv2d) or reader.in_channels != len(gate.factors):
            raise errors.surgery.foreign_surgery(f"{gate.reader} is no convolution of {len(gate.factors)} channels")
        with torch.no_grad():
            reader.weight.mul_(torch.tensor(gate.factors).to(reader.weight).view(1, -1, 1, 1))
    return edited


def check_names(key: str, names: Sequence[str], model: nn.Module, candidates: Iterable[str], what: str) -> None:
    """Refuse names in `only` or `ignore` that the network does not have, and those that hold none of `candidates`."""
    modules = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    found = list(candidates)
    for name in names:
        if name not in modules:
            raise errors.inputs.unknown_choice(f"module in {key}", name, modules)
        if not any(holds(name, candidate) for candidate in found):
            raise errors.surgery.name_without_effect(key, name, what)


def holds(outer: str, inner: str) -> bool:
    """Whether the module `inner` is `outer` or lies in it."""
    return f"{inner}.".startswith(f"{outer}.")
