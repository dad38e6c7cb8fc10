"""Write a Split as one Slice per part, which moves codes without converting them (ShuffleNet's channel halves)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....models.onnx_graph import add_initializer, constant, integer


def split_to_slices(model: ir.Model) -> int:
    """Rewrite every Split whose parts have known sizes, in place; returns how many."""
    return sum(_rewrite(model, node) for node in list(model.graph) if node.op_type == "Split")


def _rewrite(model: ir.Model, split: ir.Node) -> bool:
    source, axis = split.inputs[0], integer(split, "axis", 0)
    sizes = _sizes(split, axis)
    if source is None or sizes is None:
        return False
    slices, start = [], 0
    for part, size in zip(split.outputs, sizes, strict=True):
        bounds = [
            add_initializer(model.graph, f"{part.name}_{name}", np.array([number], np.int64))
            for name, number in (("start", start), ("end", start + size), ("axis", axis))
        ]
        slices.append(ir.Node("", "Slice", [source, *bounds], name=f"{split.name or 'split'}_{part.name}"))
        start += size
    ir.convenience.replace_nodes_and_values(
        model.graph, split, [split], slices, list(split.outputs), [node.outputs[0] for node in slices]
    )
    return True


def _sizes(split: ir.Node, axis: int) -> list[int] | None:
    if len(split.inputs) > 1 and split.inputs[1] is not None:
        given = constant(split.inputs[1])
        return None if given is None else [int(size) for size in given]
    source = split.inputs[0]
    length = None if source is None or source.shape is None else source.shape[axis]
    if not isinstance(length, int):
        return None
    part = -(-length // len(split.outputs))
    sizes = [min(part, length - part * number) for number in range(len(split.outputs))]
    return sizes if min(sizes) > 0 else None
