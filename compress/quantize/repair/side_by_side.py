"""One graph that runs the float and the quantized network on the same images.

What the two disagree in can then be reduced inside the graph to a number per channel, so that no activation ever
leaves the runtime, however many layers are compared.
"""

from __future__ import annotations

import onnx_ir as ir

REFERENCE = "reference of "


def side_by_side(quantized: ir.Model, reference: ir.Model) -> tuple[ir.Model, dict[str, tuple[ir.Node, ir.Node]]]:
    """(model without outputs, its nodes by name): (quantized, reference) for every name that both models have.

    Both must have one input, which becomes one.
    """
    joined, other = quantized.clone(), reference.clone()
    (image,), (shared,) = other.graph.inputs, joined.graph.inputs
    image.replace_all_uses_with(shared)
    other.graph.outputs.clear()
    joined.graph.outputs.clear()
    for value in list(other.graph.initializers.values()):
        del other.graph.initializers[str(value.name)]
        value.name = f"{REFERENCE}{value.name}"
        joined.graph.register_initializer(value)
    nodes = list(other.graph)
    other.graph.remove(nodes)
    own = {str(node.name): node for node in joined.graph}
    pairs = {str(node.name): (own[str(node.name)], node) for node in nodes if str(node.name) in own}
    for node in nodes:
        node.name = f"{REFERENCE}{node.name}"
        for value in node.outputs:
            value.name = f"{REFERENCE}{value.name}"
    joined.graph.insert_before(joined.graph[0], nodes)
    return joined, pairs
