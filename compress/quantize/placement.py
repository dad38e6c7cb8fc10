"""Decide, operator by operator, what runs in int8 and why the rest does not.

A value is quantized when an int8 operator reads or writes it. Data movement (slices, pads, pooling by maximum,
concatenation) keeps the codes of its input, so the values on both of its sides are tied to one scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from ... import errors
from ...models.onnx_graph import constant, only_consumer, rank, real

Kind = Literal["int8", "absorbed", "float"]

WITH_WEIGHTS = ("Conv", "Gemm", "MatMul")
ELEMENTWISE = ("Add", "Mul")
ONE_TO_ONE = ("GlobalAveragePool", "AveragePool", "Sigmoid", "LeakyRelu")
SAME_CODES = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Pad", "Concat")
ON_CODES = ("Slice", "Pad")
"""Data movement written directly on the codes, because ONNX Runtime leaves it in float between Q and DQ."""


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

    @property
    def values(self) -> tuple[str, ...]:
        return tuple(name for group in self.tied for name in group)


def place(model: ir.Model, *, keep_float: Sequence[str] = ()) -> Placement:
    """Decide for every node of a prepared graph.

    `keep_float` names nodes, or values they compute, that stay float.
    Raises EdgeLatheError when a name in it matches nothing.
    """
    pinned = _match(model, keep_float)
    decisions: dict[ir.Node, NodePlan] = {}
    absorbed = {node: target for node in model.graph if (target := absorbing(node)) is not None}
    quantized: set[ir.Value] = set()

    for node in model.graph:
        if node in absorbed:
            producer = decisions[absorbed[node]]
            if producer.kind == "int8":
                decisions[node] = _decide(node, "absorbed", f"into the output range of {producer.name}")
                quantized.add(node.outputs[0])
                continue
        reason = "asked to stay float" if node in pinned else _refusal(node, quantized)
        if reason:
            decisions[node] = _decide(node, "float", reason)
            continue
        decisions[node] = _decide(node, "int8", "")
        if node.op_type in WITH_WEIGHTS:
            quantized.add(node.inputs[0])  # type: ignore[arg-type]
        quantized.add(node.outputs[0])

    _return_dead_ends(model, decisions, set(absorbed))
    values = _quantized_values(model, decisions)
    return Placement(tuple(decisions.values()), _tie(model, decisions, values))


def absorbing(node: ir.Node) -> ir.Node | None:
    """The node whose output range can express this Relu or Clip from 0: the one that it alone reads."""
    if node.op_type == "Clip":
        low = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if low is None or float(low) != 0.0:
            return None
    elif node.op_type != "Relu":
        return None
    source = node.inputs[0]
    producer = None if source is None else source.producer()
    if source is None or producer is None or only_consumer(source) is not node:
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
        raise errors.unknown_nodes(unknown, by_name)
    return {by_name[name] for name in names}


def _refusal(node: ir.Node, quantized: set[ir.Value]) -> str:
    """Why the node cannot run in int8, or an empty string."""
    if node.domain not in ("", "ai.onnx"):
        return f"{node.op_type} is no standard ONNX operator"
    if node.op_type in WITH_WEIGHTS:
        return _weights_refusal(node)
    if node.op_type not in (*ELEMENTWISE, *ONE_TO_ONE, *SAME_CODES):
        return f"there is no int8 kernel for {node.op_type}"
    data = _data(node)
    for value in data:
        if value is None or (value not in quantized and not _is_float_constant(value)):
            return f"its input {value.name if value else ''} is float"
    if not any(value in quantized for value in data):
        return "its inputs are constants"
    if node.op_type == "Pad" and not _pads_with_zero(node):
        return "it pads with a value other than 0"
    if node.op_type == "Concat" and any(value not in quantized for value in data):
        return "it joins a constant"
    if len([value for value in node.outputs if value.uses()]) > 1:
        return "its second output is used"
    return ""


def _data(node: ir.Node) -> Sequence[ir.Value | None]:
    """The inputs that carry activations; the others are weights, shapes and bounds."""
    return node.inputs if node.op_type in (*ELEMENTWISE, "Concat") else node.inputs[:1]


def _weights_refusal(node: ir.Node) -> str:
    weight = constant(node.inputs[1])
    if weight is None:
        return "its weights are computed at run time"
    if weight.dtype != np.float32:
        return f"its weights are {weight.dtype}"
    if not np.isfinite(weight).all():
        return "its weights are not finite"
    if len(node.inputs) > 2 and node.inputs[2] is not None and constant(node.inputs[2]) is None:
        return "its bias is computed at run time"
    if node.op_type == "Conv" and rank(node.inputs[0]) not in (None, 4):
        return "it is no two-dimensional convolution"
    if node.op_type == "Gemm" and (real(node, "alpha", 1.0) != 1.0 or real(node, "beta", 1.0) != 1.0):
        return "its alpha or beta is not 1"
    if node.op_type == "Gemm" and len(node.inputs) > 2 and rank(node.inputs[2]) != 1:
        return "its bias is no vector"
    if node.op_type == "MatMul" and weight.ndim != 2:
        return "its weights are no matrix"
    return ""


def _is_float_constant(value: ir.Value) -> bool:
    array = constant(value)
    return array is not None and array.dtype == np.float32


def _pads_with_zero(node: ir.Node) -> bool:
    mode = node.attributes.get("mode")
    if mode is not None and mode.as_string() != "constant":
        return False
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return True
    value = constant(node.inputs[2])
    return value is not None and float(value) == 0.0


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


def _quantized_values(model: ir.Model, decisions: dict[ir.Node, NodePlan]) -> list[ir.Value]:
    """Values that int8 nodes read or write, without constants, absorbed intermediates and float results."""
    values: dict[ir.Value, None] = {}
    for node in model.graph:
        kind = decisions[node].kind
        if kind == "int8":
            values.update({value: None for value in _data(node) if value is not None and constant(value) is None})
        if kind == "absorbed" or (
            kind == "int8" and not _writes_float(node, decisions) and not _is_absorbed_into(node, decisions)
        ):
            values[node.outputs[0]] = None
    return list(values)


def _is_absorbed_into(node: ir.Node, decisions: dict[ir.Node, NodePlan]) -> bool:
    reader = only_consumer(node.outputs[0])
    return reader is not None and decisions[reader].kind == "absorbed"


def _writes_float(node: ir.Node, decisions: dict[ir.Node, NodePlan]) -> bool:
    """A matrix product may leave its int32 sums as float, which logits deserve: no codes, no rounding."""
    if node.op_type not in ("Gemm", "MatMul"):
        return False
    return all(decisions[use.node].kind == "float" for use in node.outputs[0].uses())


def _tie(
    model: ir.Model, decisions: dict[ir.Node, NodePlan], values: Sequence[ir.Value]
) -> tuple[tuple[str, ...], ...]:
    group = {value: value for value in values}

    def root(value: ir.Value) -> ir.Value:
        while group[value] is not value:
            value = group[value]
        return value

    # An absorbed activation is nothing but the end of its range, so its scale must not be widened by values that
    # were clamped otherwise: those are joined by a concatenation that converts between scales.
    clamps: dict[ir.Value, str] = {}
    for node in model.graph:
        if decisions[node].kind == "absorbed":
            clamps[node.outputs[0]] = _clamp(node)
        if decisions[node].kind != "int8" or node.op_type not in SAME_CODES:
            continue
        moved = [value for value in _data(node) if value is not None]
        found = {clamps.get(value, "") for value in moved}
        if len(found) == 1:
            clamps[node.outputs[0]] = found.pop()
            for value in moved:
                group[root(value)] = root(node.outputs[0])
    tied: dict[ir.Value, list[str]] = {}
    for value in values:
        tied.setdefault(root(value), []).append(str(value.name))
    return tuple(tuple(names) for names in tied.values())


def _clamp(activation: ir.Node) -> str:
    high = constant(activation.inputs[2]) if len(activation.inputs) > 2 else None
    return "0.." if high is None else f"0..{float(high)}"


def int8_nodes(nodes: Iterable[NodePlan]) -> list[NodePlan]:
    return [node for node in nodes if node.kind == "int8"]
