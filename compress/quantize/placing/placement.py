"""Decide, operator by operator, what runs in int8 and why the rest does not.

A value is quantized when an int8 operator reads or writes it. Data movement (slices, pads, pooling by maximum,
concatenation) keeps the codes of its input, so the values on both of its sides are tied to one scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from .... import errors
from ....models.onnx_graph import constant, only_consumer
from ..passes.exact_pixels import PIXELS
from .refusals import CLAMPS as CLAMPS
from .refusals import ELEMENTWISE, WITH_WEIGHTS, clip_bounds, data_inputs, refusal
from .refusals import ON_CODES as ON_CODES
from .refusals import SAME_CODES as SAME_CODES
from .targets import TARGETS, Target
from .ties import moved, tie

Kind = Literal["int8", "absorbed", "float"]


@dataclass(frozen=True)
class NodePlan:
    name: str
    op: str
    kind: Kind
    reason: str
    """Why it stays float, or what it is absorbed into; empty for int8."""


@dataclass(frozen=True)
class Placement:
    nodes: tuple[NodePlan, ...]
    tied: tuple[tuple[str, ...], ...]
    """Quantized values in groups that share one scale and zero point, in graph order."""
    moved: frozenset[str]
    """Those that only repeat values of their group, such as a concatenation: they need no range of their own."""

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(name for group in self.tied for name in group)

    @property
    def measured(self) -> tuple[str, ...]:
        return tuple(name for name in self.values if name not in self.moved)


def place(model: ir.Model, *, keep_float: Sequence[str] = (), target: str = "x86-vnni") -> Placement:
    """Decide for every node of a prepared graph.

    `keep_float` names nodes, or values they compute, that stay float; `target` is a key of `TARGETS`.
    Raises EdgeLatheError when a name matches nothing.
    """
    if target not in TARGETS:
        raise errors.inputs.unknown_choice("target", target, TARGETS)
    wants = TARGETS[target]
    pinned = _match(model, keep_float)
    decisions: dict[ir.Node, NodePlan] = {}
    absorbed = {node: taker for node in model.graph if (taker := absorbing(node)) is not None}
    quantized: set[ir.Value] = {value for node in model.graph for value in node.outputs if value.name == PIXELS}

    for node in model.graph:
        if node in absorbed:
            producer = decisions[absorbed[node]]
            if producer.kind == "int8":
                decisions[node] = _decide(node, "absorbed", f"into the output range of {producer.name}")
                quantized.add(node.outputs[0])
                continue
        reason = "asked to stay float" if node in pinned else refusal(node, quantized, wants)
        if reason:
            decisions[node] = _decide(node, "float", reason)
            continue
        decisions[node] = _decide(node, "int8", "")
        if node.op_type in WITH_WEIGHTS:
            quantized.add(node.inputs[0])  # type: ignore[arg-type]
        quantized.add(node.outputs[0])

    _return_dead_ends(model, decisions, set(absorbed))
    values = _quantized_values(model, decisions, wants)
    kinds = {node: decision.kind for node, decision in decisions.items()}
    tied = tie(list(model.graph), kinds, values, wants)
    return Placement(tuple(decisions.values()), tied, moved(list(model.graph), kinds, tied, wants))


def absorbing(node: ir.Node) -> ir.Node | None:
    """The node whose output range can express this Relu or Clip around 0: the one that it alone reads."""
    if node.op_type not in ("Relu", "Clip"):
        return None
    bounds, source = clip_bounds(node), node.inputs[0]
    if bounds is None or source is None or not bounds[0] <= 0.0 <= bounds[1]:
        return None
    producer = source.producer()
    if producer is None or only_consumer(source) is not node:
        return None
    return producer if producer.op_type in (*WITH_WEIGHTS, *ELEMENTWISE) else None


def _decide(node: ir.Node, kind: Kind, reason: str) -> NodePlan:
    return NodePlan(str(node.name), node.op_type, kind, reason)


def _match(model: ir.Model, names: Sequence[str]) -> set[ir.Node]:
    by_name: dict[str, ir.Node] = {}
    for node in model.graph:
        by_name.update({str(value.name): node for value in node.outputs})
        by_name[str(node.name)] = node
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise errors.quantize.unknown_nodes(unknown, by_name)
    return {by_name[name] for name in names}


def _return_dead_ends(model: ir.Model, decisions: dict[ir.Node, NodePlan], absorbed: set[ir.Node]) -> None:
    """An operator without weights whose result is only read in float gains nothing from int8."""
    for node in reversed(list(model.graph)):
        decision = decisions[node]
        if decision.kind != "int8" or node.op_type in WITH_WEIGHTS:
            continue
        readers = [use.node for use in node.outputs[0].uses()]
        if len(readers) == 1 and readers[0] in absorbed:
            readers = [use.node for use in readers[0].outputs[0].uses()]
        if all(decisions[reader].kind == "float" for reader in readers):
            decisions[node] = _decide(node, "float", "its result is only read in float")
            for reader in model.graph:
                if decisions[reader].kind == "absorbed" and absorbing(reader) is node:
                    decisions[reader] = _decide(reader, "float", "the node before it is float")


def _quantized_values(model: ir.Model, decisions: Mapping[ir.Node, NodePlan], target: Target) -> list[ir.Value]:
    """Values that int8 nodes read or write, without constants, absorbed intermediates and float results."""
    values: dict[ir.Value, None] = {}
    for node in model.graph:
        kind = decisions[node].kind
        if kind == "int8":
            values.update({value: None for value in data_inputs(node) if value is not None and constant(value) is None})
        if kind == "absorbed" or (
            kind == "int8" and not _writes_float(node, decisions, target) and not _is_absorbed_into(node, decisions)
        ):
            values[node.outputs[0]] = None
    return list(values)


def _is_absorbed_into(node: ir.Node, decisions: Mapping[ir.Node, NodePlan]) -> bool:
    reader = only_consumer(node.outputs[0])
    return reader is not None and decisions[reader].kind == "absorbed"


def _writes_float(node: ir.Node, decisions: Mapping[ir.Node, NodePlan], target: Target) -> bool:
    """A matrix product may leave its int32 sums as float, which logits deserve: no codes, no rounding."""
    if node.op_type not in target.float_results:
        return False
    return all(decisions[use.node].kind == "float" for use in node.outputs[0].uses())


def int8_nodes(nodes: Iterable[NodePlan]) -> list[NodePlan]:
    return [node for node in nodes if node.kind == "int8"]
