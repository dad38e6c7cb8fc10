"""Where a graph can be cut in two: values through which everything after them flows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import onnx_ir as ir

from ....models.onnx_graph import constant


@dataclass(frozen=True)
class Unit:
    """A part of the graph between two cuts."""

    start: str
    end: str
    nodes: tuple[str, ...]
    """Names of those nodes inside that have weights, in graph order."""


def units(model: ir.Model, weighted: Collection[str], absorbed: Collection[str], *, least: int = 1) -> list[Unit]:
    """The graph in parts with at least `least` weighted nodes each, as small as they can be.

    No part ends before a node in `absorbed`, which is only the end of the range of the node before it. The first
    output is taken for the graph's result, and what no weighted node precedes it for part of the last unit.
    """
    cuts = _cuts(model, absorbed)
    found: list[Unit] = []
    start, inside = str(model.graph.inputs[0].name), list[str]()
    for node in model.graph:
        if str(node.name) in weighted:
            inside.append(str(node.name))
        end = str(node.outputs[0].name)
        if end in cuts and len(inside) >= least:
            found.append(Unit(start, end, tuple(inside)))
            start, inside = end, []
    result = str(model.graph.outputs[0].name)
    if found and (start == result or not inside):
        return found
    return [*found, Unit(start, result, tuple(inside))]


def result_of(model: ir.Model, node: str, absorbed: Collection[str]) -> str:
    """The name of what a node computes, after the activation that it takes in."""
    (output,) = (n.outputs[0] for n in model.graph if str(n.name) == node)
    readers = [use.node for use in output.uses()]
    if len(readers) == 1 and str(readers[0].name) in absorbed:
        return str(readers[0].outputs[0].name)
    return str(output.name)


def _cuts(model: ir.Model, absorbed: Collection[str]) -> set[str]:
    last = {value: number for number, node in enumerate(model.graph) for value in node.inputs}
    end = len(model.graph)
    last.update(dict.fromkeys(model.graph.outputs, end))
    alive: set[ir.Value] = set()
    cuts = set()
    for number, node in enumerate(model.graph):
        alive |= {value for value in node.outputs if last.get(value, -1) > number and constant(value) is None}
        alive |= {v for v in node.inputs if v is not None and constant(v) is None and last[v] > number}
        alive = {value for value in alive if last[value] > number}
        if alive == {node.outputs[0]} and not any(str(use.node.name) in absorbed for use in node.outputs[0].uses()):
            cuts.add(str(node.outputs[0].name))
    return cuts
