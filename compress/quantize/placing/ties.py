"""Which quantized values must share one scale and zero point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from ..passes.shortcut_to_convolution import selects_channels
from .refusals import CLAMPS, SAME_CODES, clip_bounds, data_inputs
from .targets import Target


def tie(
    nodes: Sequence[ir.Node], kinds: Mapping[ir.Node, str], values: Sequence[ir.Value], target: Target
) -> tuple[tuple[str, ...], ...]:
    """Groups of the names of `values`, in graph order. `kinds` says of every node int8, absorbed or float."""
    group = {value: value for value in values}

    def root(value: ir.Value) -> ir.Value:
        while group[value] is not value:
            value = group[value]
        return value

    # Data movement keeps codes, so both of its sides are tied, unless it joins values whose codes follow from
    # something else than their range. An absorbed activation is nothing but the end of its range, so its scale must
    # not be widened by values that were clamped otherwise: those are joined by a concatenation that converts.
    origins: dict[ir.Value, str] = {}
    for node in nodes:
        result = node.outputs[0]
        if kinds[node] == "absorbed":
            origins[result] = f"clamped to {clip_bounds(node)}"
        if kinds[node] != "int8":
            continue
        if node.op_type in target.fixed_codes:
            origins[result] = f"codes of {node.op_type}"
        elif node.op_type == "HardSigmoid":
            origins[result] = f"codes of {node.name}"
        elif _keeps_codes(node, target):
            moved = [value for value in data_inputs(node) if value is not None]
            found = {origins.get(value, "") for value in moved}
            if len(found) == 1:
                origins[result] = found.pop()
                for value in moved:
                    group[root(value)] = root(result)
    tied: dict[ir.Value, list[str]] = {}
    for value in values:
        tied.setdefault(root(value), []).append(str(value.name))
    return tuple(tuple(names) for names in tied.values())


def moved(
    nodes: Sequence[ir.Node], kinds: Mapping[ir.Node, str], tied: Sequence[Sequence[str]], target: Target
) -> frozenset[str]:
    """Names of the values that data movement makes of values of their own group alone."""
    group = {name: number for number, names in enumerate(tied) for name in names}
    results = set()
    for node in nodes:
        if kinds[node] == "int8" and _keeps_codes(node, target):
            result, sources = str(node.outputs[0].name), [value for value in data_inputs(node) if value is not None]
            if result in group and all(group.get(str(value.name)) == group[result] for value in sources):
                results.add(result)
    return frozenset(results)


def _keeps_codes(node: ir.Node, target: Target) -> bool:
    return node.op_type in (*SAME_CODES, *CLAMPS, *target.same_codes) or selects_channels(node)
