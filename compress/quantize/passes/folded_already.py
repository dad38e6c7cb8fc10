"""Whether onnxscript's optimizer would find nothing to do, as with most exported networks.

It takes longer to import than all else that a small network needs, so it is worth asking first. The answer errs on the
side of running it: only operators of a literal list count, and of those only uses to which none of its rules applies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from ....models.onnx_graph import constant


def folded_already(model: ir.Model) -> bool:
    """True where every operator is known, computes something from the input, and would be left as it is."""
    return not model.functions and all(
        node.domain in ("", "ai.onnx")
        and node.op_type in LEFT_ALONE
        and not all(value is None or constant(value) is not None for value in node.inputs)
        and LEFT_ALONE[node.op_type](node)
        for node in model.graph
    )


def _always(_: ir.Node) -> bool:
    return True


def _read_from_none_of(*operators: str) -> Callable[[ir.Node], bool]:
    def holds(node: ir.Node) -> bool:
        producer = node.inputs[0].producer() if node.inputs[0] is not None else None
        return producer is None or producer.op_type not in operators

    return holds


def _changes_its_input(neutral: float) -> Callable[[ir.Node], bool]:
    """No constant operand of it is `neutral` all over."""

    def holds(node: ir.Node) -> bool:
        return not any(array is not None and bool(np.all(array == neutral)) for array in map(constant, node.inputs))

    return holds


def _skips_values(slice_: ir.Node) -> bool:
    steps = constant(slice_.inputs[4]) if len(slice_.inputs) > 4 else None
    return steps is not None and bool((steps != 1).any())


def _feeds_no_convolution(pad: ir.Node) -> bool:
    return all(use.node.op_type != "Conv" for use in pad.outputs[0].uses())


def _joins(concat: ir.Node) -> bool:
    return len(concat.inputs) > 1


LEFT_ALONE: Mapping[str, Callable[[ir.Node], bool]] = {
    "Add": _changes_its_input(0.0),
    "AveragePool": _always,
    "BatchNormalization": _read_from_none_of("Conv", "ConvTranspose", "Gemm"),
    "Clip": _read_from_none_of("Clip", "Relu"),
    "Concat": _joins,
    "Conv": _always,
    "Gemm": _always,
    "GlobalAveragePool": _always,
    "HardSigmoid": _always,
    "HardSwish": _always,
    "MaxPool": _always,
    "Mul": _changes_its_input(1.0),
    "Pad": _feeds_no_convolution,
    "ReduceMean": _always,
    "Relu": _read_from_none_of("Clip", "Relu"),
    "Reshape": _read_from_none_of("Reshape", "Flatten"),
    "Sigmoid": _always,
    "Slice": _skips_values,
}
"""By operator: whether this use of it is one that no rule applies to."""
