"""Where the stored tensors of an ONNX file lie in its bytes.

Reads protobuf's wire format itself: a parsed and serialized model need not give the same bytes again, and what `pack`
takes out of a file must go back to exactly where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

MODEL_GRAPH, MODEL_FUNCTIONS = 7, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_SPARSE, FUNCTION_NODE = 1, 5, 15, 7
SPARSE_VALUES, SPARSE_INDICES = 1, 2
NODE_ATTRIBUTE = 5
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 5, 6, 10, 11
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW = 1, 2, 8, 9

INSIDE = {
    "model": {MODEL_GRAPH: "graph", MODEL_FUNCTIONS: "function"},
    "graph": {GRAPH_NODE: "node", GRAPH_INITIALIZER: "tensor", GRAPH_SPARSE: "sparse"},
    "sparse": {SPARSE_VALUES: "tensor", SPARSE_INDICES: "tensor"},
    "function": {FUNCTION_NODE: "node"},
    "node": {NODE_ATTRIBUTE: "attribute"},
    "attribute": {
        ATTRIBUTE_TENSOR: "tensor",
        ATTRIBUTE_GRAPH: "graph",
        ATTRIBUTE_TENSORS: "tensor",
        ATTRIBUTE_GRAPHS: "graph",
    },
}
"""Which fields of which message hold messages that may hold tensors (onnx.proto)."""

DEEPEST = 64
"""Graphs within graphs beyond this are no model that a runtime opens."""


@dataclass(frozen=True)
class StoredTensor:
    name: str
    shape: tuple[int, ...]
    type: int
    """A TensorProto.DataType."""
    start: int
    stop: int
    """Its values are bytes start..stop - 1 of the file: `raw_data`, little-endian."""


def find_tensors(file: bytes) -> list[StoredTensor]:
    """The tensors with raw data in the order of the file. Raises ValueError where the bytes are no protobuf message."""
    found = (_tensor(file, start, stop) for start, stop in _tensors(file, "model", 0, len(file), 0))
    return [tensor for tensor in found if tensor is not None]


def _tensors(file: bytes, kind: str, start: int, stop: int, depth: int) -> Iterator[tuple[int, int]]:
    if kind == "tensor":
        yield start, stop
        return
    if depth > DEEPEST:
        raise ValueError(f"messages are nested more than {DEEPEST} deep")
    for field, wire, first, last in _fields(file, start, stop):
        inner = INSIDE[kind].get(field)
        if inner is not None and wire == BYTES:
            yield from _tensors(file, inner, first, last, depth + 1)


def _tensor(file: bytes, start: int, stop: int) -> StoredTensor | None:
    name, type_, raw = "", 0, None
    shape: list[int] = []
    for field, wire, first, last in _fields(file, start, stop):
        if field == TENSOR_DIMS and wire in (VARINT, BYTES):
            while first < last:
                size, first = _varint(file, first, last)
                shape.append(size)
        elif field == TENSOR_TYPE and wire == VARINT:
            type_ = _varint(file, first, last)[0]
        elif field == TENSOR_NAME and wire == BYTES:
            name = file[first:last].decode("utf-8", "replace")
        elif field == TENSOR_RAW and wire == BYTES:
            raw = first, last
    return None if raw is None else StoredTensor(name, tuple(shape), type_, *raw)


def _fields(file: bytes, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, first byte and end of every field of a message."""
    while start < stop:
        key, start = _varint(file, start, stop)
        field, wire = key >> 3, key & 7
        if wire == VARINT:
            _, end = _varint(file, start, stop)
        elif wire == BYTES:
            length, start = _varint(file, start, stop)
            end = start + length
        elif wire in (FIXED32, FIXED64):
            end = start + (4 if wire == FIXED32 else 8)
        else:
            raise ValueError(f"wire type {wire} at byte {start} is none of protobuf's")
        if field == 0 or end > stop:
            raise ValueError(f"a field at byte {start} does not fit its message")
        yield field, wire, start, end
        start = end


def _varint(file: bytes, start: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while start < stop and shift < 70:
        byte = file[start]
        value |= (byte & 0x7F) << shift
        start, shift = start + 1, shift + 7
        if byte < 0x80:
            return value, start
    raise ValueError(f"a number at byte {start} has no end")
