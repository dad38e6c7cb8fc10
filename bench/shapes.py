"""The shape and element type of every tensor of an ONNX graph, for one sample.

An open first dimension of a graph input is the batch and becomes 1; other open dimensions must be given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from .. import errors
from ..models.onnx_file import SMALL, elements, size_in_bytes, stored_tensors, subgraphs
from .vendor_ops import standardized


@dataclass(frozen=True)
class TensorType:
    shape: tuple[int, ...]
    elem_type: int
    """An onnx.TensorProto.DataType."""

    @property
    def bytes(self) -> int:
        return size_in_bytes(self.shape, self.elem_type)

    @property
    def elements(self) -> int:
        return elements(self.shape)


def graph_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs a caller must give (before IR version 4 the weights were listed among the inputs too)."""
    stored = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in stored]


def declared_shape(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    """The shape as the file declares it: open dimensions by their name, or "?"."""
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or "?")
        for dim in value.type.tensor_type.shape.dim
    )


def fix_inputs(
    path: Path, model: onnx.ModelProto, given: Mapping[str, Sequence[int]] | None
) -> tuple[int, dict[str, int]]:
    """Write one definite shape into every graph input, in place; return the batch size and what each open
    name became.

    Raises EdgeLatheError for an open dimension behind the first, an unknown input name and a shape that
    disagrees.
    """
    inputs = {value.name: value for value in graph_inputs(model.graph)}
    for name in given or {}:
        if name not in inputs:
            raise errors.inputs.unknown_choice(f"input of {path}", name, inputs)
    meaning: dict[str, int] = {}
    batch = 1
    for index, (name, value) in enumerate(inputs.items()):
        declared = declared_shape(value)
        wanted = tuple((given or {}).get(name, ()))
        if wanted and not _agree(declared, wanted):
            raise errors.bench.wrong_input_shape(path, name, declared, f"[{', '.join(map(str, wanted))}]")
        if not wanted:
            if any(isinstance(size, str) and (at > 0) and size not in meaning for at, size in enumerate(declared)):
                raise errors.bench.unknown_dimension(path, name, declared)
            wanted = tuple(
                size if isinstance(size, int) else (1 if at == 0 else meaning[size]) for at, size in enumerate(declared)
            )
        for dim, size, was in zip(value.type.tensor_type.shape.dim, wanted, declared, strict=True):
            if isinstance(was, str) and was != "?":
                meaning[was] = size
            dim.dim_value = size
        if index == 0 and wanted:
            batch = max(wanted[0], 1)
    return batch, meaning


def _agree(declared: Sequence[int | str], wanted: Sequence[int]) -> bool:
    return len(declared) == len(wanted) and all(
        size > 0 and (isinstance(was, str) or was == size) for was, size in zip(declared, wanted, strict=True)
    )


def infer_types(model: onnx.ModelProto, meaning: Mapping[str, int]) -> dict[str, TensorType]:
    """Types of all tensors whose shape can be told from the inputs (made definite by `fix_inputs`).

    The shapes stored in the file serve only where inference finds none (operators of a vendor's domain), with
    their open dimensions replaced by `meaning`: stored shapes may be stale. The weights of `model` are
    dropped from memory.
    """
    for tensor in stored_tensors(model):
        if elements(tensor.dims) > SMALL:
            # Only the shapes of weights matter here, and inference copies the whole model several times.
            for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                tensor.ClearField(field)
    stored = [_definite(value, meaning) for value in (*model.graph.value_info, *model.graph.output)]
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    types = _infer(model)
    missing = [value for value in stored if value is not None and value.name not in types]
    if missing:
        outputs = {value.name for value in model.graph.output}
        for value in missing:
            if value.name in outputs:
                next(v for v in model.graph.output if v.name == value.name).CopyFrom(value)
            else:
                model.graph.value_info.append(value)
        types = _infer(model)
    return types


def _definite(value: onnx.ValueInfoProto, meaning: Mapping[str, int]) -> onnx.ValueInfoProto | None:
    shape = declared_shape(value)
    if not value.type.tensor_type.HasField("shape") or any(isinstance(s, str) and s not in meaning for s in shape):
        return None
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    for dim, size in zip(copy.type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = size if isinstance(size, int) else meaning[size]
    return copy


def _infer(model: onnx.ModelProto) -> dict[str, TensorType]:
    readable, floats = standardized(model)
    inferred = onnx.shape_inference.infer_shapes(readable, data_prop=True)
    types: dict[str, TensorType] = {}
    _collect(inferred.graph, types)
    for name in floats & types.keys():
        types[name] = TensorType(types[name].shape, onnx.TensorProto.FLOAT)
    return types


def _collect(graph: onnx.GraphProto, types: dict[str, TensorType]) -> None:
    for tensor in graph.initializer:
        types[tensor.name] = TensorType(tuple(tensor.dims), tensor.data_type)
    for sparse in graph.sparse_initializer:
        types[sparse.values.name] = TensorType(tuple(sparse.dims), sparse.values.data_type)
    values: Iterable[onnx.ValueInfoProto] = (*graph.input, *graph.output, *graph.value_info)
    for value in values:
        shape = declared_shape(value)
        if value.type.tensor_type.HasField("shape") and all(isinstance(size, int) for size in shape):
            definite = tuple(int(size) for size in shape)
            types.setdefault(value.name, TensorType(definite, value.type.tensor_type.elem_type))
    for node in graph.node:
        for inner in subgraphs(node):
            _collect(inner, types)
