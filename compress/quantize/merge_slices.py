"""Merge a Slice into the Slice before it when they cut different axes: one copy of the data instead of two."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .graph import add_initializer, constant, only_consumer


def merge_slices(model: ir.Model) -> int:
    """Merge chains of constant Slices over distinct axes; returns how many were merged away."""
    merged = 0
    for second in [node for node in model.graph if node.op_type == "Slice"]:
        first = second.inputs[0].producer() if second.inputs[0] is not None else None
        if first is None or first.op_type != "Slice" or only_consumer(first.outputs[0]) is not second:
            continue
        before, after = _cut(first), _cut(second)
        if before is None or after is None or set(before[2].tolist()) & set(after[2].tolist()):
            continue
        for position, (name, left, right) in enumerate(
            zip(("starts", "ends", "axes", "steps"), before, after, strict=True), 1
        ):
            second.replace_input_with(
                position,
                add_initializer(model, f"{second.outputs[0].name}_{name}", np.concatenate([left, right])),
            )
        second.replace_input_with(0, first.inputs[0])
        model.graph.remove(first, safe=True)
        merged += 1
    return merged


def _cut(node: ir.Node) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """(starts, ends, axes, steps) of a Slice whose cut is constant and names its axes from the front."""
    if len(node.inputs) < 4:
        return None
    starts, ends, axes = (constant(value) for value in node.inputs[1:4])
    steps = constant(node.inputs[4]) if len(node.inputs) > 4 else None
    if starts is None or ends is None or axes is None or (axes < 0).any():
        return None
    if steps is None:
        steps = np.ones_like(starts)
        node.resize_inputs(5)
    return starts, ends, axes, steps
