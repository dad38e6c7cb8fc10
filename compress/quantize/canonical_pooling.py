"""Write the mean over height and width as GlobalAveragePool, the form that runtimes have an int8 kernel for."""

from __future__ import annotations

import onnx_ir as ir

from .graph import constant, integer, rank


def canonical_pooling(model: ir.Model) -> int:
    """ReduceMean over the last two axes of an image becomes GlobalAveragePool; returns how many did."""
    changed = 0
    for node in [node for node in model.graph if node.op_type == "ReduceMean"]:
        if rank(node.inputs[0]) != 4 or _axes(node) != (2, 3):
            continue
        source, (output,) = node.inputs[0], node.outputs
        pooled = ir.Node("", "GlobalAveragePool", [source], name=node.name)
        model.graph.insert_before(node, pooled)
        if integer(node, "keepdims", 1):
            replacement = pooled
        else:
            pooled.outputs[0].name = f"{output.name}_pooled"
            replacement = ir.Node(
                "", "Flatten", [pooled.outputs[0]], [ir.AttrInt64("axis", 1)], name=f"{node.name}_flatten"
            )
            model.graph.insert_before(node, replacement)
        ir.convenience.replace_nodes_and_values(model.graph, node, [node], [], [output], [replacement.outputs[0]])
        changed += 1
    return changed


def _axes(node: ir.Node) -> tuple[int, ...]:
    attribute = node.attributes.get("axes")
    if attribute is not None:
        axes = attribute.as_ints()
    else:
        given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        axes = [] if given is None else given.tolist()
    return tuple(sorted(int(axis) % 4 for axis in axes))
