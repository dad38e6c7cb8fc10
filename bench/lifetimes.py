"""The activation peak of a graph: the most bytes of activations that live at once, from tensor lifetimes.

The graph is executed operator by operator in its stored order. A tensor lives from the operator that produces
it to the last one that reads it; graph inputs live from the start, graph outputs to the end; weights are not
activations. Two things every runtime does are modelled, so that float and int8 graphs are counted alike:

- an elementwise operator or a change of shape overwrites an operand of the same size that nobody reads
  afterwards (never a graph input, which is the caller's);
- an operator between DequantizeLinear and QuantizeLinear that integer kernels exist for runs on integers: the
  float tensors around it never exist. Where no such kernel exists the float tensors count in full.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from .macs import is_dequantized
from .shapes import TensorType, graph_inputs

# Operators that runtimes execute on integers when every operand is dequantized and every result quantized.
INTEGER_KERNELS = frozenset(
    (
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Concat",
        "AveragePool",
        "GlobalAveragePool",
        "MaxPool",
        "GlobalMaxPool",
        "ReduceMean",
        "Relu",
        "Clip",
        "LeakyRelu",
        "Sigmoid",
        "HardSigmoid",
        "HardSwish",
        "Softmax",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Transpose",
        "Gather",
        "Split",
        "Resize",
        "Where",
    )
)
_FLOAT_RESULT = frozenset(("Gemm", "MatMul"))
"""Integer kernels that may also leave their result in float (the classifier's last layer)."""
_FOLDED = frozenset(("Relu", "Clip"))
"""Activations that a quantized result's range expresses, so that they vanish in front of QuantizeLinear."""
_IN_PLACE = frozenset(
    (
        "Relu",
        "Clip",
        "LeakyRelu",
        "PRelu",
        "Elu",
        "Selu",
        "Sigmoid",
        "HardSigmoid",
        "HardSwish",
        "Swish",
        "Mish",
        "Gelu",
        "Tanh",
        "Erf",
        "Sqrt",
        "Neg",
        "Abs",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "QLinearAdd",
        "QLinearMul",
        "BatchNormalization",
        "Softmax",
        "Dropout",
        "Identity",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
    )
)


@dataclass(frozen=True)
class Kernel:
    """One step of execution: the tensors it reads and writes (weights left out)."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    in_place: bool


def activation_peak(graph: onnx.GraphProto, types: Mapping[str, TensorType]) -> tuple[int, list[str]]:
    """Peak bytes at the batch size that `types` was made for, and notes on tensors whose size is unknown."""
    inputs = [value.name for value in graph_inputs(graph)]
    outputs = {value.name for value in graph.output}
    steps = kernels(graph, types)
    last_use = {name: at for at, step in enumerate(steps) for name in step.reads}
    last_use |= dict.fromkeys(outputs, len(steps))
    unknown = {name for step in steps for name in (*step.reads, *step.writes) if name not in types}
    size = {name: kind.bytes for name, kind in types.items()}

    live = sum(size.get(name, 0) for name in inputs if name in last_use)
    peak = live
    for at, step in enumerate(steps):
        new = sum(size.get(name, 0) for name in step.writes)
        dying = [name for name in step.reads if last_use[name] == at]
        reused = 0
        if step.in_place and any(size.get(name, -1) == new for name in dying if name not in inputs):
            reused = new
        peak = max(peak, live + new - reused)
        live += sum(size.get(name, 0) for name in step.writes if name in last_use)
        live -= sum(size.get(name, 0) for name in dying)
    notes = [f"the activation peak leaves out {len(unknown)} tensors of unknown shape"] if unknown else []
    return peak, notes


def kernels(graph: onnx.GraphProto, types: Mapping[str, TensorType]) -> list[Kernel]:
    """The steps of execution: operators that compute constants are left out, quantized operators are merged
    with their DequantizeLinear and QuantizeLinear."""
    producers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in _reads(node):
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in graph.output}
    constants = _constants(graph)

    merged: dict[int, tuple[str, ...]] = {}  # id of a quantized operator -> the integer tensors it writes
    absorbed: set[int] = set()  # ids of the operators that vanish into another
    for node in graph.node:
        if id(node) in absorbed or node.op_type not in INTEGER_KERNELS:
            continue
        operands = [name for name in _reads(node) if name not in constants]
        if not operands or not all(is_dequantized(name, producers, types) for name in operands):
            continue
        followers = _quantized_results(node, readers, outputs)
        if followers is not None:
            absorbed |= {id(follower) for follower in followers}
            quantizers = [follower for follower in followers if follower.op_type == "QuantizeLinear"]
            merged[id(node)] = tuple(quantizer.output[0] for quantizer in quantizers)
        elif node.op_type in _FLOAT_RESULT:
            merged[id(node)] = tuple(node.output)

    steps: list[Kernel] = []
    for node in graph.node:
        if id(node) in absorbed or all(name in constants for name in node.output if name):
            continue
        reads = tuple(dict.fromkeys(name for name in _reads(node) if name not in constants))
        if id(node) in merged:
            integers = tuple(dict.fromkeys(producers[name].input[0] for name in reads))
            steps.append(Kernel(integers, merged[id(node)], node.op_type in _IN_PLACE))
        elif node.op_type == "DequantizeLinear" and _read_only_by(node.output[0], merged, readers, outputs):
            continue
        else:
            writes = tuple(name for name in node.output if name)
            steps.append(Kernel(reads, writes, node.op_type in _IN_PLACE))
    return steps


def _reads(node: onnx.NodeProto) -> list[str]:
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        inner = [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else list(attribute.graphs)
        for graph in inner:
            own = {name for child in graph.node for name in child.output} | {value.name for value in graph.input}
            own |= {tensor.name for tensor in graph.initializer}
            names += [name for child in graph.node for name in _reads(child) if name not in own]
    return names


def _constants(graph: onnx.GraphProto) -> set[str]:
    names = {tensor.name for tensor in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
    for node in graph.node:
        reads = _reads(node)
        if node.op_type == "Constant" or (reads and all(name in names for name in reads)):
            names.update(node.output)
    return names


def _quantized_results(
    node: onnx.NodeProto, readers: Mapping[str, list[onnx.NodeProto]], outputs: set[str]
) -> list[onnx.NodeProto] | None:
    """The operators that vanish behind `node` when its results are only ever quantized, else None."""
    followers: list[onnx.NodeProto] = []
    for name in node.output:
        if not name or (name not in readers and name not in outputs):
            continue
        while name not in outputs and len(readers[name]) == 1 and readers[name][0].op_type in _FOLDED:
            followers.append(readers[name][0])
            name = readers[name][0].output[0]
            if name not in readers:
                return None
        if name in outputs or any(reader.op_type != "QuantizeLinear" for reader in readers[name]):
            return None
        followers += readers[name]
    return followers or None


def _read_only_by(
    name: str, merged: Mapping[int, object], readers: Mapping[str, list[onnx.NodeProto]], outputs: set[str]
) -> bool:
    return name not in outputs and all(id(reader) in merged for reader in readers.get(name, []))
