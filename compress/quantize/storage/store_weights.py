"""Weights stored in int8, int4 or float16, computed in float32 all the same: a smaller file and nothing else.

Each weight becomes codes and the operators that decode them: Cast, for int8 and int4 a product with the scales,
for blocks a Reshape. Runtimes fold these into float32 weights when they open the file, so it then takes the time and
memory of the float model. (DequantizeLinear would say the same, but ONNX Runtime does not fold it and decodes the
weights again for every image.) No images are needed, because activations are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveUnusedNodesPass

from .... import errors
from ....files import sha256_file, write_atomic
from ....models.onnx_file import load_onnx
from ....models.onnx_graph import add_initializer, constant, integer
from ....models.onnx_opset import RAISED, modernize
from ..audit import optimised_graph
from .float16 import float16
from .weight_only import Encoded, int4_blocks, int8_channels

Format = Literal["int8", "int4", "float16"]

FORMATS: dict[Format, Callable[[np.ndarray, int], Encoded | str]] = {
    "int8": int8_channels,
    "int4": int4_blocks,
    "float16": float16,
}
"""Each takes float32 weights and the axis of their output channels; returns the codes, or why there are none."""

ADVICE: dict[Format, str] = {
    "int8": "int8 calibrated on images is as small and faster as well",
    "int4": "convolution networks can lose much of their accuracy by it, so measure that",
    "float16": "int8 calibrated on images is half as large and faster as well",
}

OLDEST_OPSET: dict[Format, int] = {"int8": 7, "int4": 21, "float16": 7}
"""Products broadcast as numpy's do from opset 7; int4 tensors exist from opset 21."""

WITH_WEIGHTS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": -1}
"""Operators whose second input is encoded, with the axis of its output channels (0 for a transposed Gemm)."""

SMALLEST = 256
"""Fewer weights than this cost more in operators than they save."""


@dataclass(frozen=True)
class StoredWeight:
    node: str
    op: str
    stored: str
    """int8, int4, float16, or float32 where it was left alone."""
    error: float
    """Root mean square of the rounding error as a share of that of the weights."""
    reason: str
    """Why it was left alone; empty where it was encoded."""


@dataclass(frozen=True)
class StoredWeights:
    format: Format
    weights: tuple[StoredWeight, ...]
    bytes_before: int
    bytes_after: int
    decoded_each_run: int
    """Weights that ONNX Runtime decodes for every image instead of once, when it opens the file; 0 when all is well."""
    opset_raised: str
    """As "11 to 21"; empty when the file was new enough."""

    def as_dict(self) -> dict[str, Any]:
        return {"summary": self.summary(), **asdict(self)}

    def summary(self) -> str:
        """One sentence: what was stored how, how much that saves, and what it does not save."""
        encoded = [weight for weight in self.weights if not weight.reason]
        sentence = (
            f"{len(encoded)} of {len(self.weights)} weights stored as {self.format}, the file is"
            f" {self.bytes_after / self.bytes_before:.2f} x as large and weights differ by"
            f" {max(weight.error for weight in encoded):.2g} of their size at most; everything is computed in float32,"
            f" in the time and memory of the float model, so this helps where files are sent or stored;"
            f" {ADVICE[self.format]}"
        )
        if self.opset_raised:
            sentence += f"; opset raised from {self.opset_raised}"
        if self.decoded_each_run:
            sentence += f"; {self.decoded_each_run} weights are decoded anew for every image, which takes time"
        return sentence


def store_weights(
    model: Path | str, output: Path | str, *, format: Format = "int8", keep_float: Sequence[str] = ()
) -> StoredWeights:
    """Write `model` with the weights of its convolutions and matrix products stored in `format`.

    "int8" has one scale per output channel; "int4" one per block of 16 to 32 weights, and int8 where an output channel
    has fewer; "float16" none. `keep_float` names nodes, or values they compute, whose weights stay float32. Names,
    operators and metadata of the model stay; outputs differ by the rounding of the weights.

    Raises EdgeLatheError for unreadable models, unknown formats and names, names that change nothing, models with no
    weight to encode, and models whose opset cannot be raised to what the format needs.
    """
    if format not in FORMATS:
        raise errors.inputs.unknown_choice("format of weights", format, FORMATS)
    path = Path(model)
    proto = modernize(load_onnx(path), path, oldest=OLDEST_OPSET[format], need=f"weights stored as {format} need")
    changed = ir.from_proto(proto)
    LiftConstantsToInitializersPass(size_limit=SMALLEST)(changed)
    readers = [node for node in changed.graph if node.op_type in WITH_WEIGHTS and node.domain in ("", "ai.onnx")]
    refusals = {node: _refusal(node) for node in readers}
    kept = _kept(changed, keep_float, refusals)
    done: dict[ir.Value, Encoded] = {}
    weights = []
    for node in readers:
        why = "asked to stay float" if node in kept else refusals[node]
        weights.append(_left(node, why) if why else _store(changed, node, format, done))
    if all(weight.reason for weight in weights):
        raise errors.quantize.nothing_to_store(path, format, [weight.reason for weight in weights])
    RemoveUnusedNodesPass()(changed)
    changed.metadata_props.update({"edgelathe.weights": format, "edgelathe.parent_sha256": sha256_file(path)})
    file = ir.to_proto(changed).SerializeToString(deterministic=True)
    result = StoredWeights(
        format,
        tuple(weights),
        path.stat().st_size,
        len(file),
        _decoded_each_run(file),
        changed.metadata_props.get(RAISED, ""),
    )
    write_atomic(Path(output), file, f"the model with weights in {format}")
    return result


def _kept(model: ir.Model, names: Sequence[str], refusals: dict[ir.Node, str]) -> set[ir.Node]:
    known: dict[str, ir.Node] = {}
    for node in model.graph:
        known |= {str(value.name): node for value in node.outputs} | {str(node.name): node}
    if unknown := [name for name in names if name not in known]:
        raise errors.quantize.unknown_nodes(unknown, known)
    for name in names:
        if why := refusals.get(known[name], "it has no weights"):
            raise errors.quantize.stays_float_anyway(name, why)
    return {known[name] for name in names}


def _refusal(node: ir.Node) -> str:
    value = node.inputs[1]
    weight = constant(value)
    if value is None or weight is None:
        return "its weights are computed and not stored"
    if weight.dtype != np.float32:
        return f"its weights are {weight.dtype} and not float32"
    if weight.size < SMALLEST:
        return f"it has fewer than {SMALLEST} weights"
    for reader, position in value.uses():
        if reader.op_type not in WITH_WEIGHTS or position != 1:
            return f"{reader.name} ({reader.op_type}) reads the same weights for something else"
        if _channel_axis(reader, weight.ndim) != _channel_axis(node, weight.ndim):
            return f"{reader.name} ({reader.op_type}) has the channels of the same weights along another axis"
    return ""


def _left(node: ir.Node, reason: str) -> StoredWeight:
    return StoredWeight(str(node.name), node.op_type, "float32", 0.0, reason)


def _channel_axis(node: ir.Node, ndim: int) -> int:
    if node.op_type == "Gemm" and integer(node, "transB", 0):
        return 0
    return WITH_WEIGHTS[node.op_type] % ndim


def _store(model: ir.Model, node: ir.Node, format: Format, done: dict[ir.Value, Encoded]) -> StoredWeight:
    """`done` holds decoded weights that another operator shares."""
    value = node.inputs[1]
    assert value is not None
    if value not in done:
        weight = constant(value)
        assert weight is not None
        encoded = FORMATS[format](weight, _channel_axis(node, weight.ndim))
        if isinstance(encoded, str):
            return _left(node, encoded)
        value = _decode(model, value, encoded)
        done[value] = encoded
    return StoredWeight(str(node.name), node.op_type, done[value].codes.dtype.name, done[value].error, "")


def _decode(model: ir.Model, stored: ir.Value, encoded: Encoded) -> ir.Value:
    """Let operators compute what the initializer `stored` holds; their result takes its name."""
    graph, name = model.graph, str(stored.name)
    steps: list[tuple[str, str, np.ndarray | None]] = [("Cast", "codes", None)]
    if encoded.scales is not None:
        steps.append(("Mul", "scales", encoded.scales))
    if encoded.codes.shape != encoded.shape:
        steps.append(("Reshape", "shape", np.array(encoded.shape, np.int64)))
    value = add_initializer(graph, f"{name}_codes", encoded.codes)
    first = graph[0]
    for op, operand, array in steps:
        inputs = [value] if array is None else [value, add_initializer(graph, f"{name}_{operand}", array)]
        attributes = [ir.AttrInt64("to", ir.DataType.FLOAT)] if op == "Cast" else []
        node = ir.Node("", op, inputs, attributes, name=f"{name}_{op.lower()}")
        (value,) = node.outputs
        value.name, value.dtype = f"{name}_{op.lower()}", ir.DataType.FLOAT
        graph.insert_before(first, node)
    stored.replace_all_uses_with(value)
    del graph.initializers[name]
    value.name, value.shape = name, ir.Shape(encoded.shape)
    return value


def _decoded_each_run(file: bytes) -> int:
    graph = optimised_graph(file)
    codes = {tensor.name for tensor in graph.initializer}
    return sum(node.op_type == "Cast" and node.input[0] in codes for node in graph.node)
