"""A tensor's bytes as symbols of a small alphabet, and back: whole bytes, halves of bytes, or numbers of a codebook."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
from onnx import TensorProto

from ...models.onnx_file import size_in_bytes

Kind = Literal["bytes", "nibbles", "codebook"]

LARGEST_CODEBOOK = 512
"""Of 8-bit shared weights with their zero, and some more."""
NIBBLES: dict[int, int] = {TensorProto.INT4: 8, TensorProto.UINT4: 0}
"""Types with two values to a byte, and the bit that turns their order into that of the values."""
NUMBERS: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype("<f4"),
    TensorProto.DOUBLE: np.dtype("<f8"),
    TensorProto.FLOAT16: np.dtype("<f2"),
    TensorProto.INT16: np.dtype("<i2"),
    TensorProto.UINT16: np.dtype("<u2"),
    TensorProto.INT32: np.dtype("<i4"),
    TensorProto.UINT32: np.dtype("<u4"),
    TensorProto.INT64: np.dtype("<i8"),
    TensorProto.UINT64: np.dtype("<u8"),
}
"""Types wider than a byte whose values may be few."""


@dataclass(frozen=True)
class Symbols:
    kind: Kind
    values: np.ndarray
    """int64, in the shape of the tensor where its bytes fill that shape."""
    heights: np.ndarray
    """int64 [alphabet]: see contexts.py."""
    codebook: bytes
    """The alphabet of a codebook, in the tensor's type; empty for the other kinds."""


def to_symbols(raw: bytes, shape: tuple[int, ...], type_: int) -> Symbols | None:
    """None where the tensor has more than LARGEST_CODEBOOK different values, or is of a type that is not known."""
    kind = kind_of(type_)
    if kind is None or not raw or len(raw) % width(kind, type_):
        return None
    if kind == "bytes":
        values, codebook = np.frombuffer(raw, np.uint8).astype(np.int64), b""
    elif kind == "nibbles":
        packed = np.frombuffer(raw, np.uint8).astype(np.int64)
        values, codebook = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1), b""
    else:
        known, values = np.unique(np.frombuffer(raw, f"<u{width(kind, type_)}"), return_inverse=True)
        if len(known) > LARGEST_CODEBOOK:
            return None
        codebook = known.tobytes()
    shaped = values.astype(np.int64).reshape(shape_of_symbols(kind, len(raw), shape, type_))
    return Symbols(kind, shaped, heights(kind, type_, codebook), codebook)


def to_bytes(kind: Kind, values: np.ndarray, type_: int, codebook: bytes) -> bytes:
    """What `to_symbols` was given. `values` are below the length of the alphabet."""
    flat = values.reshape(-1)
    if kind == "bytes":
        return flat.astype(np.uint8).tobytes()
    if kind == "nibbles":
        return (flat[0::2] | flat[1::2] << 4).astype(np.uint8).tobytes()
    return np.frombuffer(codebook, f"<u{width(kind, type_)}")[flat].tobytes()


def kind_of(type_: int) -> Kind | None:
    if type_ in NIBBLES:
        return "nibbles"
    if type_ in NUMBERS:
        return "codebook"
    return "bytes" if size_in_bytes((1,), type_) == size_in_bytes((4,), type_) / 4 == 1 else None


def width(kind: Kind, type_: int) -> int:
    """Bytes of one entry of a codebook; 1 for what has none."""
    return NUMBERS[type_].itemsize if kind == "codebook" else 1


def shape_of_symbols(kind: Kind, length: int, shape: tuple[int, ...], type_: int) -> tuple[int, ...]:
    """The tensor's shape, or one dimension where `length` bytes do not fill it."""
    count = length * 2 if kind == "nibbles" else length // width(kind, type_)
    return shape if shape and prod(shape) == count else (count,)


def heights(kind: Kind, type_: int, codebook: bytes) -> np.ndarray:
    """int64 [alphabet] from -128 to 127, in proportion to the values."""
    if kind == "bytes":
        symbols = np.arange(256)
        return (symbols ^ 128) - 128 if type_ == TensorProto.INT8 else symbols - 128
    if kind == "nibbles":
        return ((np.arange(16) ^ NIBBLES[type_]) - 8) * 16
    values = np.frombuffer(codebook, NUMBERS[type_]).astype(np.float64)
    largest = np.abs(values).max()
    if not 0 < largest < np.inf:
        return np.zeros(len(values), np.int64)
    return np.rint(values / largest * 127).astype(np.int64)
