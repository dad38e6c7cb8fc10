"""One way to write each thing: the exporter's graph with few ops, stable names, and no trace of this machine.

Names: a node that owns parameters is called as its module ("layer1.0.conv1"), any other "<module>/<Op>"; its
value has the node's name, its initializers "<node>.weight" or "<node>.<operand>". They depend on the module
tree only, so a layer keeps its name when the network is pruned.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import onnx
import onnx_ir as ir

from ..models.onnx_rewrites import rewrite_graph

SCOPES_KEY = "pkg.torch.onnx.name_scopes"
"""Node metadata of the exporter: the modules around a node, outermost first, the node itself last."""


def canonicalise(model: ir.Model, within: str = "") -> None:
    """Rewrite and rename `model` in place; the names of its inputs and outputs are kept.

    within -- module whose inside is named as if it were the whole, so that what stands beside it changes no name.
    """
    rewrite_graph(model)
    _drop_unused(model.graph)
    _rename(model, within)


def _drop_unused(graph: ir.Graph) -> None:
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


# --- names --------------------------------------------------------------------------------------------------


def _rename(model: ir.Model, within: str) -> None:
    graph = model.graph
    fixed = [value for value in (*graph.inputs, *graph.outputs) if value.name is not None]
    taken = {str(value.name) for value in fixed} | set(_inner_names(graph))
    keep = {id(value) for value in fixed}
    values = [*graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    parameters = {id(value): _inside(str(value.name), within) for value in graph.initializers.values()}
    # Everything gets a name nobody can want first, so that no new name collides with an old one on the way.
    for position, value in enumerate(value for value in values if id(value) not in keep):
        value.name = f"\0{position}"
    for node in graph:
        name = _free(_node_name(node, parameters, within), taken)
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


def _inside(name: str, module: str) -> str:
    return "" if name == module else name.removeprefix(f"{module}." if module else "")


def _node_name(node: ir.Node, parameters: dict[int, str], within: str) -> str:
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    if node.op_type in OPERANDS and weight is not None:
        module, dot, leaf = parameters.get(id(weight), "").rpartition(".")
        if dot and leaf == "weight":
            return module
    scope = _inside(_scope(node), within)
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
