"""Open a quantized file in ONNX Runtime and see what the runtime made of it.

A plan says what should run in int8; only the runtime's own optimised graph says what does.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from ... import errors
from ...models.onnx_file import load_onnx
from .passes.exact_pixels import GAIN, OFFSET, PADDING
from .placing.float_reasons import Wiring, mixed_types, why_float
from .placing.placement import NodePlan
from .placing.refusals import CLAMPS, SAME_CODES

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
    "QLinearSoftmax",
    "NhwcMaxPool",
)
BEFORE_CODES = ("Pad", "Add")
"""What a file does to its input before it is quantized (exact_pixels.py)."""
MOVES_CODES = (*SAME_CODES, *CLAMPS, "NhwcMaxPool")
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
DYNAMIC = ("DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul")


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


@dataclass(frozen=True)
class FloatNode:
    """A convolution or matrix product that the runtime computes in float."""

    name: str
    op: str
    reason: str


@dataclass(frozen=True)
class FileAudit:
    """What the runtime makes of a quantized file from anywhere, without its plan."""

    runtime: str
    weighted: dict[str, int]
    """How many convolutions and matrix products the file holds, by operator."""
    floats: tuple[FloatNode, ...]
    requantized: tuple[str, ...]
    """Convolutions and matrix products whose float weights the runtime turned into int8 of one scale, unasked."""
    survivors: tuple[Survivor, ...]
    dynamic: bool
    """Whether ranges are computed at run time."""
    signed: bool
    """Whether activations are int8, which x86 processors multiply slowly."""
    full_range: bool
    """Whether int8 weights use more than 7 bits, whose sums saturate on x86 without VNNI."""

    def in_int8(self, op: str) -> int:
        return self.weighted.get(op, 0) - sum(node.op == op for node in self.floats)


def audit_file(path: Path) -> FileAudit:
    """Open a quantized file of any origin in ONNX Runtime and name what stayed in float, with the reason.

    Raises EdgeLatheError for files that cannot be read or opened.
    """
    model = load_onnx(path)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    wiring = Wiring(model.graph)
    graph = optimised_graph(model.SerializeToString())
    made_of, optimised = _made_of(graph), Wiring(graph)
    left = {node.name: node for node in graph.node}

    def reason(node: onnx.NodeProto) -> str:
        mixed = mixed_types(left[node.name], optimised) if node.name in left else ""
        return why_float(node, wiring) or mixed or "the runtime does not fuse it here"

    weighted = [node for node in model.graph.node if node.op_type in WEIGHTED and node.domain in ("", "ai.onnx")]
    floats = tuple(
        FloatNode(node.name, node.op_type, reason(node))
        for node in weighted
        if made_of.get(node.name) not in INT8_OPERATORS
    )
    dequantize = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    stored = [node for node in dequantize if node.input[0] in wiring.stored]
    computed = [node for node in dequantize if node.input[0] not in wiring.stored]
    weights = [onnx.numpy_helper.to_array(wiring.stored[node.input[0]]) for node in stored]
    return FileAudit(
        runtime=_runtime(),
        weighted={op: sum(node.op_type == op for node in weighted) for op in {node.op_type for node in weighted}},
        floats=floats,
        requantized=tuple(
            node.name
            for node in weighted
            if made_of.get(node.name) in INT8_OPERATORS and wiring.is_float(node.input[1])
        ),
        survivors=tuple(_survivors(graph)),
        dynamic=any(node.op_type in DYNAMIC for node in model.graph.node),
        signed=any(wiring.codes_type(node) == "int8" for node in computed),
        full_range=any(array.dtype == np.int8 and np.abs(array.astype(np.int16)).max() > 64 for array in weights),
    )


def unaudited(planned: tuple[NodePlan, ...], runtime: str) -> Audit:
    """The plan as it stands, for a runtime that cannot be asked."""
    return Audit(f"planned for {runtime}, not audited", planned, ())


def audit(model: Path | bytes, planned: tuple[NodePlan, ...], *, signed: bool = False) -> Audit:
    """Compare what `planned` promised with ONNX Runtime's optimised graph of the model, a file or its bytes.

    `signed` optimises int8 activations as the runtime does on arm, where it keeps them; on x86 it turns some of them
    to uint8, so that a file for arm would be judged by what happens to it on the wrong processor.
    Raises EdgeLatheError when the runtime cannot open it.
    """
    graph = optimised_graph(model, signed=signed)
    made_of = _made_of(graph)
    nodes = tuple(_verified(node, made_of) for node in planned if node.name not in (PADDING, GAIN, OFFSET))
    return Audit(_runtime(), nodes, tuple(_survivors(graph)))


def _runtime() -> str:
    return f"onnxruntime {onnxruntime.__version__}"


def _made_of(graph: onnx.GraphProto) -> dict[str, str]:
    """Operator that each node of the file was turned into, by the node's name."""
    return {node.name.split("_token_")[0]: node.op_type for node in graph.node}


def optimised_graph(model: Path | bytes, *, signed: bool = False) -> onnx.GraphProto:
    """The graph as ONNX Runtime executes it on this processor, or, if `signed`, int8 activations as on arm."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.qdqisint8allowed", str(int(signed)))
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        try:
            source = model if isinstance(model, bytes) else str(model)
            onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as reason:
            name = "the quantized model" if isinstance(model, bytes) else model
            raise errors.quantize.runtime_refuses(name, str(reason).splitlines()[0]) from reason
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
    for node in graph.node:
        if node.op_type in BEFORE_CODES and node.input[0] in inputs:
            inputs.add(node.output[0])
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
