"""Open a quantized file in ONNX Runtime and see what the runtime made of it.

A plan says what should run in int8; only the runtime's own optimised graph says what does.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime

from ... import errors
from .placement import SAME_CODES, NodePlan

INT8_OPERATORS = (
    "QLinearConv",
    "QGemm",
    "QLinearMatMul",
    "MatMulIntegerToFloat",
    "QLinearAdd",
    "QLinearMul",
    "QLinearConcat",
    "QLinearGlobalAveragePool",
    "QLinearAveragePool",
    "QLinearSigmoid",
    "QLinearLeakyRelu",
    "NhwcMaxPool",
)
MOVES_CODES = (*SAME_CODES, "NhwcMaxPool")


@dataclass(frozen=True)
class Survivor:
    """A QuantizeLinear or DequantizeLinear that the runtime did not fuse."""

    op: str
    name: str
    before: str
    """Operator that computes its input, or the model's input."""
    after: tuple[str, ...]
    """Operators that read its output, or the model's output."""


@dataclass(frozen=True)
class Audit:
    runtime: str
    nodes: tuple[NodePlan, ...]
    """The plan's nodes, those that the runtime runs in float corrected to say so."""
    survivors: tuple[Survivor, ...]
    """Conversions inside the graph; those at its input and output are not listed."""

    @property
    def broken_promises(self) -> tuple[NodePlan, ...]:
        return tuple(node for node in self.nodes if node.reason.startswith("ONNX Runtime"))


def audit(model: Path | bytes, planned: tuple[NodePlan, ...]) -> Audit:
    """Compare what `planned` promised with ONNX Runtime's optimised graph of the model, a file or its bytes.

    Raises EdgeLatheError when the runtime cannot open it.
    """
    graph = optimised_graph(model)
    made_of = {node.name.split("_token_")[0]: node.op_type for node in graph.node}
    nodes = tuple(_verified(node, made_of) for node in planned)
    return Audit(f"onnxruntime {onnxruntime.__version__}", nodes, tuple(_survivors(graph)))


def optimised_graph(model: Path | bytes) -> onnx.GraphProto:
    """The graph as ONNX Runtime executes it on this processor."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        try:
            source = model if isinstance(model, bytes) else str(model)
            onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as reason:
            name = "the quantized model" if isinstance(model, bytes) else model
            raise errors.runtime_refuses(name, str(reason).splitlines()[0]) from reason
        return onnx.load(options.optimized_model_filepath).graph


def _verified(node: NodePlan, made_of: dict[str, str]) -> NodePlan:
    if node.kind != "int8":
        return node
    op = made_of.get(node.name)
    if op in INT8_OPERATORS or (node.op in MOVES_CODES and op in (*MOVES_CODES, None)):
        return node
    runs = op or "it fused with another operator"
    return NodePlan(node.name, node.op, "float", f"ONNX Runtime has no int8 kernel for it here and runs {runs}")


def _survivors(graph: onnx.GraphProto) -> list[Survivor]:
    producers = {output: node for node in graph.node for output in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    inputs, outputs = {value.name for value in graph.input}, {value.name for value in graph.output}
    found = []
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        at_input, at_output = node.input[0] in inputs, node.output[0] in outputs
        if at_input or at_output:
            continue
        producer = producers.get(node.input[0])
        before = f"{producer.op_type} {producer.name}" if producer else "a constant"
        after = tuple(f"{reader.op_type} {reader.name}" for reader in readers.get(node.output[0], []))
        found.append(Survivor(node.op_type, node.name, before, after))
    return found
