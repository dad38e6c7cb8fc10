"""Sparse initializers in ONNX files: weights stored as their values and places where that takes fewer bytes.

    dense    4 n bytes
    sparse   (4 + 8) k bytes for k values that are not zero: ONNX stores places as int64

so it pays where less than a third of the weights are left. ONNX Runtime reads such files and makes the weights dense
as it loads them: the file is smaller, nothing else is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from ..files import write_atomic
from ..models.onnx_file import load_onnx

WEIGHT_POSITIONS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}
"""Operators and the input at which they read a weight."""


@dataclass(frozen=True)
class SparseFile:
    bytes_before: int
    bytes_after: int
    """As before where no weight is smaller as values and places; nothing is written then."""
    sparse: tuple[str, ...]
    """Initializers that became sparse."""


def write_sparse(source: Path, output: Path) -> SparseFile:
    """Write `source` to `output` with sparse initializers where these take fewer bytes; it computes the same.

    Raises EdgeLatheError for a source that cannot be read and an output that cannot be written.
    """
    model = load_onnx(source)
    before = source.stat().st_size
    names = {tensor.name for tensor, _ in float_weights(model)}
    sparse = {
        tensor.name: smaller
        for tensor in model.graph.initializer
        if tensor.name in names and (smaller := _smaller(tensor)) is not None
    }
    if not sparse:
        return SparseFile(before, before, ())
    dense = [tensor for tensor in model.graph.initializer if tensor.name not in sparse]
    del model.graph.initializer[:]
    model.graph.initializer.extend(dense)
    model.graph.sparse_initializer.extend(sparse.values())
    onnx.checker.check_model(model)
    content = model.SerializeToString(deterministic=True)
    write_atomic(output, content, "the sparse ONNX model")
    return SparseFile(before, len(content), tuple(sparse))


def float_weights(model: onnx.ModelProto) -> Iterator[tuple[onnx.TensorProto, np.ndarray]]:
    """The float32 initializers that convolutions and matrix products read as weights, each once."""
    read = {
        node.input[position]
        for node in model.graph.node
        if (position := WEIGHT_POSITIONS.get(node.op_type)) is not None and len(node.input) > position
    }
    for tensor in model.graph.initializer:
        if tensor.name in read and tensor.data_type == onnx.TensorProto.FLOAT:
            yield tensor, numpy_helper.to_array(tensor)


def int8_weights(model: onnx.ModelProto) -> Iterator[tuple[onnx.TensorProto, np.ndarray]]:
    """The int8 initializers of a quantized file: codes of weights, zero where the weight was."""
    read = {node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for tensor in model.graph.initializer:
        if tensor.name in read and tensor.data_type == onnx.TensorProto.INT8:
            yield tensor, numpy_helper.to_array(tensor)


def _smaller(tensor: onnx.TensorProto) -> onnx.SparseTensorProto | None:
    flat = numpy_helper.to_array(tensor).reshape(-1)
    places = np.flatnonzero(flat).astype(np.int64)
    if not len(places):
        return None  # runtimes differ over tensors without a value
    sparse = onnx.SparseTensorProto()
    sparse.values.CopyFrom(numpy_helper.from_array(flat[places], tensor.name))
    sparse.indices.CopyFrom(numpy_helper.from_array(places, f"{tensor.name}_indices"))
    sparse.dims.extend(tensor.dims)
    return sparse if sparse.ByteSize() < tensor.ByteSize() else None
