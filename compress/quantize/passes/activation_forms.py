"""Write activation functions as products of the input with a gate, because runtimes have int8 kernels for gates.

    HardSwish(x)                  -> x * HardSigmoid(x; 1/6, 1/2)
    Clip(x + a, 0, b) / b         -> HardSigmoid(x; 1/b, a/b)         exporters write MobileNetV3's gates so
    x * Clip(x + a, 0, b) / b     -> x * HardSigmoid(x; 1/b, a/b)
    Swish(x), x / (1 + exp(-x))   -> x * Sigmoid(x)                   SiLU, in opset 24 and before

A HardSigmoid is a clamp of the codes of x (value_codes.py) and costs next to nothing; a Sigmoid is a table of 256
entries. Equal up to the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ....models.onnx_graph import constant, only_consumer, real

Form = Callable[[ir.Node], "list[ir.Node] | None"]
"""The nodes that take the place of one node, or None; the last of them computes its result."""


def activation_forms(model: ir.Model) -> int:
    """Rewrite every node that has one of the forms above, in place; returns how many."""
    changed = 0
    for form in FORMS:
        for node in list(model.graph):
            found = form(node)
            if found is None:
                continue
            ir.convenience.replace_nodes_and_values(
                model.graph, node, [node], found, [node.outputs[0]], [found[-1].outputs[0]]
            )
            changed += 1
    ir.passes.common.RemoveUnusedNodesPass()(model)
    return changed


def hard_swish(node: ir.Node) -> list[ir.Node] | None:
    if node.op_type != "HardSwish" or node.inputs[0] is None:
        return None
    return _gated(node.inputs[0], _hard_sigmoid(node.inputs[0], 1 / 6, 0.5, f"{node.name}_gate"), node)


def shifted_clip(node: ir.Node) -> list[ir.Node] | None:
    """Clip(x + a, 0, b) / b, and the same with a factor x in the numerator."""
    numerator, divisor = _quotient(node)
    if numerator is None or divisor is None:
        return None
    clip = numerator.producer()
    factor = None
    if clip is not None and clip.op_type == "Mul" and only_consumer(numerator) is node:
        candidates = [(a, b) for a, b in (clip.inputs, clip.inputs[::-1]) if _clipped_sum(b, divisor) is not None]
        if not candidates:
            return None
        factor, numerator = candidates[0]
    found = _clipped_sum(numerator, divisor)
    if found is None:
        return None
    source, shift = found
    if factor is None:
        return [_hard_sigmoid(source, 1 / divisor, shift / divisor, node.name)]
    return _gated(factor, _hard_sigmoid(source, 1 / divisor, shift / divisor, f"{node.name}_gate"), node)


def swish(node: ir.Node) -> list[ir.Node] | None:
    """Swish with alpha 1, or x / (1 + exp(-x))."""
    source = node.inputs[0] if node.inputs else None
    if node.op_type == "Swish":
        if source is None or real(node, "alpha", 1.0) != 1.0:
            return None
    elif source is None or not _is_one_plus_exp_minus(node, source):
        return None
    return _gated(source, ir.Node("", "Sigmoid", [source], name=f"{node.name}_gate"), node)


FORMS: tuple[Form, ...] = (hard_swish, shifted_clip, swish)


def _gated(source: ir.Value, gate: ir.Node, old: ir.Node) -> list[ir.Node]:
    result = old.outputs[0]
    gate.outputs[0].name = f"{result.name}_gate"
    gate.outputs[0].shape = source.shape
    gate.outputs[0].type = None if result.dtype is None else ir.TensorType(result.dtype)
    return [gate, ir.Node("", "Mul", [source, gate.outputs[0]], name=old.name)]


def _hard_sigmoid(source: ir.Value, alpha: float, beta: float, name: str | None) -> ir.Node:
    return ir.Node(
        "", "HardSigmoid", [source], [ir.AttrFloat32("alpha", alpha), ir.AttrFloat32("beta", beta)], name=name
    )


def _quotient(node: ir.Node) -> tuple[ir.Value | None, float | None]:
    """(value, b) of value / b, also when it is written value * (1 / b)."""
    if node.op_type == "Div":
        divisor = _scalar(node.inputs[1])
        return (node.inputs[0], divisor) if divisor else (None, None)
    if node.op_type == "Mul":
        for value, other in (node.inputs, node.inputs[::-1]):
            factor = _scalar(other)
            if factor:
                return value, 1.0 / factor
    return None, None


def _clipped_sum(value: ir.Value | None, top: float) -> tuple[ir.Value, float] | None:
    """(x, a) of Clip(x + a, 0, top)."""
    clip = None if value is None else value.producer()
    if clip is None or clip.op_type != "Clip" or len(clip.inputs) != 3 or clip.inputs[0] is None:
        return None
    low, high, addition = _scalar(clip.inputs[1]), _scalar(clip.inputs[2]), clip.inputs[0].producer()
    if low != 0.0 or high is None or not np.isclose(high, top, rtol=1e-6) or addition is None:
        return None
    if addition.op_type != "Add":
        return None
    for source, other in (addition.inputs, addition.inputs[::-1]):
        shift = _scalar(other)
        if shift is not None and source is not None:
            return source, shift
    return None


def _is_one_plus_exp_minus(node: ir.Node, source: ir.Value) -> bool:
    addition = node.inputs[1].producer() if node.op_type == "Div" and node.inputs[1] is not None else None
    if addition is None or addition.op_type != "Add":
        return False
    for value, other in (addition.inputs, addition.inputs[::-1]):
        exponential = None if value is None else value.producer()
        if _scalar(other) == 1.0 and exponential is not None and exponential.op_type == "Exp":
            negated = exponential.inputs[0].producer() if exponential.inputs[0] is not None else None
            return negated is not None and negated.op_type == "Neg" and negated.inputs[0] is source
    return False


def _scalar(value: ir.Value | None) -> float | None:
    array = constant(value)
    return float(array.ravel()[0]) if array is not None and array.size == 1 else None
