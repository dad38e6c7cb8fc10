"""Rewrites of an ONNX graph into the forms that runtimes have fast kernels for; exact up to the order of a sum.

    ReduceMean(x, axes=[2, 3])                 -> GlobalAveragePool(x)  (then Flatten when keepdims=0)
    AveragePool(x, kernel = whole map)         -> GlobalAveragePool(x)
    Reshape(x, [-1, C]) or Squeeze to [N, C]   -> Flatten(x, axis=1)
    Slice(Slice(x, axes=a), axes=b)            -> Slice(x, axes=a+b)    for disjoint a and b

Runtimes have int8 kernels for GlobalAveragePool and treat Flatten as free, while ReduceMean falls back to
float; a spatial stride written as one Slice instead of two copies the map once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from .onnx_graph import add_initializer, constant, only_consumer


def rewrite_graph(model: ir.Model) -> int:
    """Apply every rewrite to every node once, in place; the names of results are kept. Returns how many fired."""
    return sum(rewrite(node) for rewrite in REWRITES for node in list(model.graph))


def merge_slices(outer: ir.Node) -> bool:
    """Slice(Slice(x, axes=a), axes=b) -> Slice(x, axes=a+b) when a and b are disjoint constants."""
    source = outer.inputs[0] if outer.op_type == "Slice" else None
    inner = None if source is None else source.producer()
    if inner is None or inner.op_type != "Slice" or only_consumer(inner.outputs[0]) is not outer:
        return False
    first, second = _slice_arguments(inner), _slice_arguments(outer)
    if first is None or second is None or set(first[2]) & set(second[2]):
        return False
    graph = _graph_of(outer)
    merged = [
        add_initializer(graph, f"{outer.name}_{name}", np.concatenate([a, b]))
        for name, a, b in zip(("starts", "ends", "axes", "steps"), first, second, strict=True)
    ]
    _replace(outer, [("Slice", [inner.inputs[0], *merged], {}, None)])
    graph.remove(inner, safe=True)
    return True


def global_average_pool(node: ir.Node) -> bool:
    """ReduceMean over [2, 3], or AveragePool over the whole map -> GlobalAveragePool (and Flatten)."""
    if node.op_type not in ("ReduceMean", "AveragePool") or node.inputs[0] is None:
        return False
    shape, result = node.inputs[0].shape, node.outputs[0].shape
    if shape is None or result is None or len(shape) != 4:
        return False
    if node.op_type == "ReduceMean":
        axes = node.attributes.get_ints("axes") if "axes" in node.attributes else constant(_second_input(node))
        if axes is None or sorted(int(axis) % 4 for axis in axes) != [2, 3]:
            return False
        flat = node.attributes.get_int("keepdims", 1) == 0
    else:
        kernel = list(node.attributes.get_ints("kernel_shape"))
        padded = any(node.attributes.get_ints("pads", ()))
        if kernel != list(shape[2:]) or padded or list(result[2:]) != [1, 1]:
            return False
        flat = False
    pooled = ir.Shape([*shape[:2], 1, 1])
    steps: list[Step] = [("GlobalAveragePool", [node.inputs[0]], {}, pooled)]
    if flat:
        steps.append(("Flatten", [None], {"axis": 1}, None))
    _replace(node, steps)
    return True


def flatten(node: ir.Node) -> bool:
    """Reshape or Squeeze of [N, ...] to [N, the rest] -> Flatten(axis=1)."""
    if node.op_type not in ("Reshape", "Squeeze") or node.inputs[0] is None:
        return False
    shape, result = node.inputs[0].shape, node.outputs[0].shape
    if shape is None or result is None or len(result) != 2 or len(shape) < 3:
        return False
    rest = [dim for dim in shape[1:] if isinstance(dim, int)]
    if len(rest) != len(shape) - 1 or shape[0] != result[0] or math.prod(rest) != result[1]:
        return False
    _replace(node, [("Flatten", [node.inputs[0]], {"axis": 1}, None)])
    return True


REWRITES: list[Callable[[ir.Node], bool]] = [merge_slices, global_average_pool, flatten]


Step = tuple[str, list[ir.Value | None], dict[str, int], ir.Shape | None]
"""Op, inputs (None: the previous output), attributes, shape of the output (None: the replaced node's)."""


def _replace(node: ir.Node, steps: list[Step]) -> None:
    """Put a chain of new nodes in the place of `node`; the last one takes over its output."""
    graph, old = _graph_of(node), node.outputs[0]
    value: ir.Value | None = None
    for op, inputs, attributes, shape in steps:
        name = node.name if op == steps[-1][0] else f"{node.name}_{op}"
        new = ir.node(
            op, [value if operand is None else operand for operand in inputs], attributes=attributes, name=name
        )
        new.metadata_props.update(node.metadata_props)
        value = new.outputs[0]
        value.type, value.shape = old.type, old.shape if shape is None else shape
        graph.insert_before(node, new)
    assert value is not None
    old.replace_all_uses_with(value, replace_graph_outputs=True)
    value.name, old.name = old.name, f"{old.name}_replaced"
    graph.remove(node, safe=True)


def _slice_arguments(node: ir.Node) -> list[np.ndarray] | None:
    """Starts, ends, non-negative axes and steps of a Slice, None where one is not constant or not given."""
    if len(node.inputs) != 5:
        return None
    arrays = [constant(value) for value in node.inputs[1:]]
    known = [array for array in arrays if array is not None]
    return known if len(known) == 4 and (known[2] >= 0).all() else None


def _graph_of(node: ir.Node) -> ir.Graph:
    assert isinstance(node.graph, ir.Graph)
    return node.graph


def _second_input(node: ir.Node) -> ir.Value | None:
    return node.inputs[1] if len(node.inputs) > 1 else None
