"""Reads an ONNX file as data: whole, inside its folder, without loading large external weights.

Nothing in the file is trusted: a truncated file, a graph that reads what nothing produces, and external data
that is missing, too short or outside the model's folder are refused with one sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import inliner

from .. import errors
from .onnx_sparse import make_dense

SMALL = 4096
"""Tensors of at most so many elements are read even from external files: shapes are computed from them."""


@dataclass(frozen=True)
class OnnxFile:
    path: Path
    model: onnx.ModelProto
    """Local functions are inlined; external tensors of more than `SMALL` elements hold no data."""
    external: tuple[Path, ...]
    """The files that hold external data, sorted; empty for a model in one file."""


def read_onnx(path: Path) -> OnnxFile:
    """Read the model at `path`. Raises EdgeLatheError when the file is missing, damaged or refers outside its
    folder."""
    model = _parse(path)
    external = tuple(
        sorted({_check_external(path, tensor) for tensor in stored_tensors(model) if _is_external(tensor)})
    )
    for tensor in stored_tensors(model):
        if _is_external(tensor) and elements(tensor.dims) <= SMALL:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.resolve().parent))
            tensor.data_location = onnx.TensorProto.DEFAULT
    if model.functions:
        model = inliner.inline_local_functions(model)
    _check_connected(path, model.graph, set())
    return OnnxFile(path, model, external)


def load_onnx(path: Path | str) -> onnx.ModelProto:
    """The whole model in memory, all external data included, sparse tensors dense, and checked against the standard.

    Raises EdgeLatheError as `read_onnx` does, and for models that break the standard.
    """
    file = read_onnx(Path(path))
    for tensor in stored_tensors(file.model):
        if _is_external(tensor):
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(file.path.resolve().parent))
            tensor.data_location = onnx.TensorProto.DEFAULT
    try:
        onnx.checker.check_model(file.model)
    except onnx.checker.ValidationError as reason:
        raise errors.bench.broken_onnx(file.path, f"it breaks the standard: {str(reason).splitlines()[0]}") from reason
    make_dense(file.model, file.path)
    return file.model


def _parse(path: Path) -> onnx.ModelProto:
    if path.is_dir():
        raise errors.inputs.unreadable_file("the model", path, "it is a folder", "name the .onnx file inside it")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise errors.inputs.missing_file("the model", path) from None
    except OSError as reason:
        raise errors.inputs.unreadable_file(
            "the model", path, reason.strerror or str(reason), "check the file"
        ) from reason
    if not data:
        raise errors.bench.broken_onnx(path, "it is empty")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError):
        raise errors.bench.broken_onnx(path, "it is truncated or no ONNX file") from None
    if not model.graph.output or not model.opset_import or not model.ir_version:
        raise errors.bench.broken_onnx(path, "it is truncated or no ONNX file")
    return model


def elements(dims: object) -> int:
    count = 1
    for size in dims:  # type: ignore[attr-defined]
        count *= int(size)
    return count


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def stored_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor the file stores: initializers and tensor attributes, those of inner graphs and functions
    included."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: object) -> Iterator[onnx.TensorProto]:
    for node in nodes:  # type: ignore[attr-defined]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
        for graph in subgraphs(node):
            yield from _tensors_of_graph(graph)


def _is_external(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def _check_external(path: Path, tensor: onnx.TensorProto) -> Path:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    folder = path.resolve().parent
    # A symbolic link may lead out of the folder as well as "..", hence the resolved path decides.
    file = (folder / location).resolve()
    if not location or not file.is_relative_to(folder) or file == folder:
        raise errors.bench.external_tensor(path, tensor.name, location, "which lies outside the model's folder")
    if not file.is_file():
        raise errors.bench.external_tensor(path, tensor.name, location, "and there is no such file")
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
    except ValueError:
        raise errors.bench.external_tensor(path, tensor.name, location, "at a place that is no number") from None
    size = file.stat().st_size
    if offset < 0 or length < 0 or offset + max(length, tensor_bytes(tensor)) > size:
        raise errors.bench.external_tensor(path, tensor.name, location, f"which ends before it ({size} bytes)")
    return file


_BITS = {
    "FLOAT": 32, "UINT8": 8, "INT8": 8, "UINT16": 16, "INT16": 16, "INT32": 32, "INT64": 64, "BOOL": 8,
    "FLOAT16": 16, "DOUBLE": 64, "UINT32": 32, "UINT64": 64,
    "COMPLEX64": 64, "COMPLEX128": 128, "BFLOAT16": 16,
    "FLOAT8E4M3FN": 8, "FLOAT8E4M3FNUZ": 8, "FLOAT8E5M2": 8, "FLOAT8E5M2FNUZ": 8, "FLOAT8E8M0": 8,
    "UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6,
}  # fmt: skip
_NAMES = {"FLOAT": "float32", "DOUBLE": "float64"}


def type_name(elem_type: int) -> str:
    """The element type in lower case with its width: float32, int8, uint4."""
    name = onnx.TensorProto.DataType.Name(elem_type) if elem_type in onnx.TensorProto.DataType.values() else "undefined"
    return _NAMES.get(name, name.lower())


def size_in_bytes(dims: object, elem_type: int) -> int:
    """Bytes of a tensor stored densely; types narrower than a byte are packed; strings count as nothing."""
    known = elem_type in onnx.TensorProto.DataType.values()
    bits = _BITS.get(onnx.TensorProto.DataType.Name(elem_type), 0) if known else 0
    return (elements(dims) * bits + 7) // 8


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    return size_in_bytes(tensor.dims, tensor.data_type)


def _check_connected(path: Path, graph: onnx.GraphProto, outer: set[str]) -> None:
    known = outer | {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    known |= {sparse.values.name for sparse in graph.sparse_initializer}
    for node in graph.node:
        for name in node.input:
            if name and name not in known:
                operator = f'its operator {node.op_type} "{node.name}"'
                raise errors.bench.broken_onnx(path, f'{operator} reads "{name}", which nothing before it produces')
        for inner in subgraphs(node):
            _check_connected(path, inner, known)
        known.update(node.output)
    for value in graph.output:
        if value.name not in known:
            raise errors.bench.broken_onnx(path, f'nothing produces its output "{value.name}"')
