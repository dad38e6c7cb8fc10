"""One scale for what a sum reads and writes, where that adds codes without rounding.

With one scale s, s (a - z_a) + s (b - z_b) lies on the grid of the result: only what is clipped is lost. Where the
three scales are about equal, that takes away one of the two roundings of every residual block. Sums that follow each
other through a residual stage share values, and so the scale of the whole stage; it is shared as far as that lowers

    noise = sum over the values that are rounded of scale^2,     all sums of a group exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from ..placing.placement import Placement
from ..placing.targets import TARGETS
from ..plan import QuantPlan, weight_codes
from ..value_codes import Codes
from .held_values import held_values


@dataclass(frozen=True)
class Shared:
    values: tuple[str, ...]
    """One name for each of the tied groups that share the scale."""
    exact: frozenset[str]
    """Those of them that are sums, and no longer rounded."""


def sums_to_share(
    prepared: ir.Model, placement: Placement, plan: QuantPlan, gains: Mapping[str, float]
) -> list[Shared]:
    """Groups of at least three values that one scale makes quieter than scales of their own; `gains` by value."""
    first = {name: names[0] for names in placement.tied for name in names}
    groups = {name: Shared((name,), frozenset()) for name in dict.fromkeys(first.values())}
    for operands, result in _sums(prepared, plan):
        names = [first[name] for name in (*operands, result)]
        parts = list({groups[name].values: groups[name] for name in names}.values())
        joined = Shared(
            tuple(name for part in parts for name in part.values),
            frozenset().union(*(part.exact for part in parts), [first[result]]),
        )
        if _noise(joined, plan, gains) < sum(_noise(part, plan, gains) for part in parts):
            groups.update(dict.fromkeys(joined.values, joined))
    return list({group.values: group for group in groups.values() if group.exact}.values())


def share_scales(prepared: ir.Model, placement: Placement, plan: QuantPlan, shared: Sequence[Shared]) -> QuantPlan:
    """The plan with one scale for each group, and zero points that keep the middle of every range where it was."""
    tied = {names[0]: names for names in placement.tied}
    target = TARGETS[plan.target]
    codes = dict(plan.codes)
    for group in shared:
        scale = _scale(group, plan)
        for first in group.values:
            old = plan.codes[first]
            code = _centred(old, scale, target.lowest_code, target.highest_code)
            codes.update(dict.fromkeys(tied[first], code))
    return with_codes(prepared, plan, codes)


def with_codes(prepared: ir.Model, plan: QuantPlan, codes: dict[str, Codes]) -> QuantPlan:
    """The plan with other codes of values; the scales of weights follow where a bias needs room."""
    nodes = {str(node.name): node for node in prepared.graph if str(node.name) in plan.weights}
    pair_max = TARGETS[plan.target].pair_max
    weights = {
        name: weight_codes(nodes[name], codes, planned.limit, planned.axis is not None, pair_max)
        for name, planned in plan.weights.items()
    }
    return replace(plan, codes=codes, weights=weights)


def _sums(prepared: ir.Model, plan: QuantPlan) -> list[tuple[list[str], str]]:
    """(operands, result) of every Add of two quantized values; the result after an activation that it absorbs."""
    kinds = {node.name: node.kind for node in plan.nodes}
    usable = plan.codes.keys() - held_values(prepared, TARGETS[plan.target])
    found = []
    for node in prepared.graph:
        if node.op_type != "Add" or kinds.get(str(node.name)) != "int8":
            continue
        result = node.outputs[0]
        readers = [use.node for use in result.uses()]
        if len(readers) == 1 and kinds.get(str(readers[0].name)) == "absorbed":
            result = readers[0].outputs[0]
        operands = [str(value.name) for value in node.inputs if value is not None]
        if usable.issuperset((*operands, str(result.name))):
            found.append((operands, str(result.name)))
    return found


def _scale(group: Shared, plan: QuantPlan) -> float:
    return float(np.float32(np.exp(np.mean([np.log(plan.codes[name].scale) for name in group.values]))))


def _noise(group: Shared, plan: QuantPlan, gains: Mapping[str, float]) -> float:
    """Of a group with one scale: the largest, because a smaller one clips."""
    scale = max(plan.codes[name].scale for name in group.values)
    return sum(gains[name] for name in group.values if name not in group.exact) * scale**2


def _centred(old: Codes, scale: float, lowest: int, highest: int) -> Codes:
    if old.zero_point in (lowest, highest):
        return Codes(scale, old.zero_point)
    middle = (lowest + highest) / 2
    zero_point = middle - (middle - old.zero_point) * old.scale / scale
    return Codes(scale, int(np.clip(round(zero_point), lowest, highest)))
