"""Which operators to keep in float for the least latency: sets of them, cheapest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from ....models.onnx_graph import only_consumer
from .knapsack import Option, frontier
from .sensitivity import Sensitivity

LEAST_GAIN = 0.9
"""A set is worth trying if it leaves at most this share of the noise of the one before it."""


def float_sets(
    prepared: ir.Model, ranking: Sequence[Sensitivity], costs: Mapping[str, float]
) -> tuple[tuple[str, ...], ...]:
    """Names in graph order of operators to keep in float, each set with notably less noise left than the one before.

    `costs` says what float costs an operator beyond int8; what it does not name costs 1.
    """
    items = [[Option(0.0, found.noise), Option(costs.get(found.name, 1.0), 0.0)] for found in ranking]
    left = sum(found.noise for found in ranking)
    sets = []
    for choice in frontier(items):
        names = {found.name for found, pick in zip(ranking, choice.picks, strict=True) if pick}
        if names and choice.loss <= LEAST_GAIN * left:
            sets.append(tuple(str(node.name) for node in prepared.graph if node.name in names))
            left = choice.loss
    return tuple(sets)


def float_costs(prepared: ir.Model, before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What float costs each operator of the graph beyond int8, in microseconds and at least one.

    `before` and `after` are the times of the float and the int8 file's operators. One that the runtime fused with
    another, so that its time is not known, is given the median.
    """
    costs = {}
    for node in prepared.graph:
        slow, fast = _time_of(node, before), _time_of(node, after)
        if slow is not None and fast is not None:
            costs[str(node.name)] = max(slow - fast, 1.0)
    usual = float(np.median(list(costs.values()))) if costs else 1.0
    return {str(node.name): costs.get(str(node.name), usual) for node in prepared.graph}


def _time_of(node: ir.Node, times: Mapping[str, float]) -> float | None:
    """By the operator's name, or that of the value that it or what is fused into it computes."""
    output = node.outputs[0]
    reader = only_consumer(output)
    names = [node.name, output.name, *([reader.outputs[0].name] if reader is not None else [])]
    return next((times[str(name)] for name in names if name in times), None)
