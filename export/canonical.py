"""One way to write each thing: the exporter's graph with few ops, stable names, and no trace of this machine.

Rewrites, each exact in value up to the order of a sum:

    ReduceMean(x, axes=[2, 3])                 -> GlobalAveragePool(x)  (then Flatten when keepdims=0)
    AveragePool(x, kernel = whole map)         -> GlobalAveragePool(x)
    Reshape(x, [-1, C]) or Squeeze to [N, C]   -> Flatten(x, axis=1)
    Slice(Slice(x, axes=a), axes=b)            -> Slice(x, axes=a+b)    for disjoint a and b

Runtimes have int8 kernels for GlobalAveragePool and treat Flatten as free, while ReduceMean falls back to
float; a spatial stride written as one Slice instead of two copies the map once.

Names: a node that owns parameters is called as its module ("layer1.0.conv1"), any other "<module>/<Op>"; its
value has the node's name, its initializers "<node>.weight" or "<node>.<operand>". They depend on the module
tree only, so a layer keeps its name when the network is pruned.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator

import numpy as np
import onnx
import onnx_ir as ir

SCOPES_KEY = "pkg.torch.onnx.name_scopes"
"""Node metadata of the exporter: the modules around a node, outermost first, the node itself last."""


def canonicalise(model: ir.Model) -> None:
    """Rewrite and rename `model` in place; the names of its inputs and outputs are kept."""
    for rewrite in REWRITES:
        for node in list(model.graph):
            rewrite(node)
    _drop_unused(model.graph)
    _rename(model)


# --- rewrites -----------------------------------------------------------------------------------------------


def merge_slices(outer: ir.Node) -> bool:
    """Slice(Slice(x, axes=a), axes=b) -> Slice(x, axes=a+b) when a and b are disjoint constants."""
    source = outer.inputs[0] if outer.op_type == "Slice" else None
    inner = None if source is None else source.producer()
    if inner is None or inner.op_type != "Slice" or not _only_feeds(inner, outer):
        return False
    first, second = _slice_arguments(inner), _slice_arguments(outer)
    if first is None or second is None or set(first[2]) & set(second[2]):
        return False
    graph = _graph_of(outer)
    merged = [
        _constant(graph, f"{outer.name}_{name}", np.concatenate([a, b]))
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
        axes = _array(node.inputs[1]) if len(node.inputs) > 1 else None
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
        new = ir.node(op, [value if operand is None else operand for operand in inputs], attributes=attributes)
        new.metadata_props.update(node.metadata_props)
        value = new.outputs[0]
        value.type, value.shape = old.type, old.shape if shape is None else shape
        graph.insert_before(node, new)
    assert value is not None
    old.replace_all_uses_with(value, replace_graph_outputs=True)
    value.name, old.name = old.name, f"{old.name}_replaced"
    graph.remove(node, safe=True)


def _only_feeds(node: ir.Node, consumer: ir.Node) -> bool:
    value = node.outputs[0]
    return not value.is_graph_output() and [use.node for use in value.uses()] == [consumer]


def _slice_arguments(node: ir.Node) -> list[np.ndarray] | None:
    """Starts, ends, non-negative axes and steps of a Slice, None where one is not constant or not given."""
    if len(node.inputs) != 5:
        return None
    arrays = [_array(value) for value in node.inputs[1:]]
    constant = [array for array in arrays if array is not None]
    return constant if len(constant) == 4 and (constant[2] >= 0).all() else None


def _array(value: ir.Value | None) -> np.ndarray | None:
    return None if value is None or value.const_value is None else value.const_value.numpy()


def _graph_of(node: ir.Node) -> ir.Graph:
    assert isinstance(node.graph, ir.Graph)
    return node.graph


def _constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.type, value.shape = ir.TensorType(ir.DataType.from_numpy(array.dtype)), ir.Shape(array.shape)
    graph.register_initializer(value)
    return value


def _drop_unused(graph: ir.Graph) -> None:
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


# --- names --------------------------------------------------------------------------------------------------


def _rename(model: ir.Model) -> None:
    graph = model.graph
    fixed = [value for value in (*graph.inputs, *graph.outputs) if value.name is not None]
    taken = {str(value.name) for value in fixed} | set(_inner_names(graph))
    keep = {id(value) for value in fixed}
    values = [*graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    parameters = {id(value): str(value.name) for value in graph.initializers.values()}
    # Everything gets a name nobody can want first, so that no new name collides with an old one on the way.
    for position, value in enumerate(value for value in values if id(value) not in keep):
        value.name = f"\0{position}"
    for node in graph:
        name = _free(_node_name(node, parameters), taken)
        node.name = name
        for position, value in enumerate(node.outputs):
            if id(value) not in keep:
                value.name = name if position == 0 else _free(f"{name}:{position}", taken)
    renamed = set(keep)

    def rename_initializer(value: ir.Value | None, name: str) -> None:
        if value is not None and id(value) in parameters and id(value) not in renamed:
            renamed.add(id(value))
            value.name = _free(name, taken)

    for node in graph:
        for name, operand in zip(_operands(node, graph.opset_imports), node.inputs, strict=False):
            rename_initializer(operand, f"{node.name}.{name}")
    for node in graph.all_nodes():
        for operand in node.inputs:
            rename_initializer(operand, parameters.get(id(operand), ""))


def _node_name(node: ir.Node, parameters: dict[int, str]) -> str:
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    if node.op_type in OPERANDS and weight is not None:
        module, dot, leaf = parameters.get(id(weight), "").rpartition(".")
        if dot and leaf == "weight":
            return module
    scope = _scope(node)
    return f"{scope}/{node.op_type}" if scope else node.op_type


def _scope(node: ir.Node) -> str:
    scopes = ast.literal_eval(node.metadata_props.get(SCOPES_KEY, "['', '']"))
    return str(scopes[-2]) if len(scopes) > 1 else ""


OPERANDS = {
    "Conv": ("input", "weight", "bias"),
    "ConvTranspose": ("input", "weight", "bias"),
    "Gemm": ("input", "weight", "bias"),
    "PRelu": ("input", "weight"),
    "BatchNormalization": ("input", "weight", "bias", "running_mean", "running_var"),
    "InstanceNormalization": ("input", "weight", "bias"),
    "LayerNormalization": ("input", "weight", "bias"),
}
"""PyTorch's names for the operands of ops that own parameters; other ops use the ONNX standard's."""


def _operands(node: ir.Node, opsets: dict[str, int]) -> tuple[str, ...]:
    if node.op_type in OPERANDS:
        return OPERANDS[node.op_type]
    formal = onnx.defs.get_schema(node.op_type, opsets.get("", 1), "").inputs
    names = [operand.name for operand in formal]
    extra = len(node.inputs) - len(names)
    return tuple(names + [f"{names[-1]}_{position}" for position in range(1, extra + 1)] if names else names)


def _free(name: str, taken: set[str]) -> str:
    free, count = name, 0
    while free in taken:
        count += 1
        free = f"{name}_{count}"
    taken.add(free)
    return free


def _inner_names(graph: ir.Graph) -> Iterator[str]:
    for node in graph.all_nodes():
        if node.graph is not graph:
            yield from (str(value.name) for value in node.outputs)


# --- what does not belong into a file -----------------------------------------------------------------------


def strip(model: onnx.ModelProto) -> None:
    """Remove doc strings and the exporter's metadata, which quotes source lines and paths of this machine."""
    model.ClearField("doc_string")
    model.ClearField("metadata_props")
    _strip_graph(model.graph)


def _strip_graph(graph: onnx.GraphProto) -> None:
    constants: list[onnx.TensorProto] = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            constants.extend([attribute.t, *attribute.tensors] if attribute.HasField("t") else attribute.tensors)
            attribute.ClearField("doc_string")
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                _strip_graph(inner)
    for holder in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *constants):
        holder.ClearField("doc_string")
        holder.ClearField("metadata_props")
