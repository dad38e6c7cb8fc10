"""The packed file: an ONNX file in pieces, each coded by what suits it. docs/pack.md describes it byte by byte.

A packed file may come from anybody. It is read as data: every length is checked before anything of that length is
made, nothing in it names a file, and what it becomes must have the SHA-256 that it states.
"""

from __future__ import annotations

import hashlib
import lzma
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from ... import errors
from .symbols import LARGEST_CODEBOOK

MAGIC = b"\x89ELP\r\n\x1a\n"
FORMAT = 1
PRELUDE = struct.Struct("<8sIQQQ32s")
"""Magic, format, lengths of the coded head, of the header and of the skeleton, SHA-256 of all else in the file."""
UNSIGNED = PRELUDE.size - hashlib.sha256().digest_size

LARGEST = 2**31 - 1
"""Bytes of an ONNX file: protobuf holds no more."""
LARGEST_HEADER = 64 * 2**20

DICTIONARY = 2**24
XZ = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": DICTIONARY}]
"""Fixed, so that a file cannot ask for more memory than this dictionary's."""

Coding = Literal["bytes", "nibbles", "codebook", "zeros", "planes"]
Count = Annotated[int, Field(ge=0, le=LARGEST)]


@dataclass(frozen=True)
class Entry:
    """One tensor that was taken out of the ONNX file."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    name: str
    shape: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**64)], ...], Field(max_length=64)]
    type: Count
    """TensorProto.DataType of ONNX."""
    start: Count
    bytes: Count
    """Where its values stand in the ONNX file: bytes start .. start + bytes - 1."""
    coding: Coding
    values: Annotated[int, Field(ge=0, le=LARGEST_CODEBOOK)]
    """Entries of its codebook; 0 where it has none."""
    payload: Count
    """Bytes of codebook and coded symbols."""
    planes: Count
    """Bytes of its values among the planes."""


@dataclass(frozen=True)
class Header:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    bytes: Count
    """Of the ONNX file."""
    sha256: Annotated[str, Field(max_length=64)]
    """Of the ONNX file, in hexadecimal."""
    coder: str
    """The library that coded the symbols."""
    tensors: tuple[Entry, ...]
    planes: Count
    """Bytes of the coded planes."""


@dataclass(frozen=True)
class Container:
    header: Header
    skeleton: bytes
    """The ONNX file without the values of the tensors."""
    payloads: tuple[bytes, ...]
    """One per tensor."""
    planes: bytes
    """Of all tensors, one after the other, not coded."""


_HEADER = TypeAdapter(Header)


def write_container(container: Container, coded_planes: bytes) -> bytes:
    header = _HEADER.dump_json(container.header)
    head = compress(header + container.skeleton)
    behind = b"".join([head, *container.payloads, coded_planes])
    lengths = PRELUDE.pack(MAGIC, FORMAT, len(head), len(header), len(container.skeleton), bytes(32))[:UNSIGNED]
    return lengths + hashlib.sha256(lengths + behind).digest() + behind


def read_container(data: bytes, source: Path, *, largest: int = LARGEST) -> Container:
    """The pieces of a packed file, their lengths checked. Raises EdgeLatheError for anything that is not one, and for
    an ONNX file of more than `largest` bytes."""
    if data[: len(MAGIC)] != MAGIC:
        raise errors.pack.damaged(source, "it is not a file that pack wrote")
    if len(data) < PRELUDE.size:
        raise errors.pack.damaged(source, "it is truncated")
    _, format_, head_length, header_length, skeleton_length, digest = PRELUDE.unpack_from(data)
    if format_ != FORMAT:
        raise errors.pack.damaged(source, f"its format is {format_}, and this version reads {FORMAT}")
    if hashlib.sha256(data[:UNSIGNED] + data[PRELUDE.size :]).digest() != digest:
        raise errors.pack.damaged(source, "its checksum does not match, so it is truncated or was changed")
    if header_length > LARGEST_HEADER or skeleton_length > largest:
        raise errors.pack.too_large(source, max(header_length, skeleton_length), largest)
    rest = memoryview(data)[PRELUDE.size :]
    try:
        head = decompress(_take(rest, 0, head_length), header_length + skeleton_length)
        header = _HEADER.validate_json(head[:header_length])
        if header.bytes > largest:
            raise errors.pack.too_large(source, header.bytes, largest)
        _check(header, skeleton_length)
        at, payloads = head_length, []
        for entry in header.tensors:
            payloads.append(_take(rest, at, entry.payload))
            at += entry.payload
        expected = sum(entry.planes for entry in header.tensors)
        planes = decompress(_take(rest, at, header.planes), expected)
        if at + header.planes != len(rest):
            raise ValueError(f"{len(rest) - at - header.planes} bytes follow what it describes")
    except ValidationError as reason:
        first = reason.errors()[0]
        raise errors.pack.damaged(source, f"its header is wrong at {'.'.join(map(str, first['loc']))}") from reason
    except (ValueError, lzma.LZMAError) as reason:
        raise errors.pack.damaged(source, str(reason)) from reason
    return Container(header, head[header_length:], tuple(payloads), planes)


def _check(header: Header, skeleton: int) -> None:
    """Tensors must lie one behind the other within the file, and fill with the skeleton exactly its bytes."""
    end = 0
    for entry in header.tensors:
        if entry.start < end:
            raise ValueError(f"tensor {entry.name!r} lies within the one before it")
        if entry.planes > entry.bytes:
            raise ValueError(f"tensor {entry.name!r} is longer than it says")
        end = entry.start + entry.bytes
    if end > header.bytes or skeleton + sum(entry.bytes for entry in header.tensors) != header.bytes:
        raise ValueError("the lengths of its pieces do not add up")


def _take(data: memoryview, start: int, length: int) -> bytes:
    if start + length > len(data):
        raise ValueError("it is shorter than it says")
    return bytes(data[start : start + length])


def compress(data: bytes) -> bytes:
    """In a dictionary no larger than the data, which is ready much sooner and makes the same bytes."""
    filters = [XZ[0] | {"dict_size": min(max(4096, len(data)), DICTIONARY)}]
    return lzma.compress(data, format=lzma.FORMAT_RAW, filters=filters)


def decompress(data: bytes, length: int) -> bytes:
    """Raises ValueError or LZMAError unless `data` becomes exactly `length` bytes; makes no more than that."""
    decoder = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=XZ)
    found = decoder.decompress(data, max_length=length + 1)
    if len(found) != length or not decoder.eof or decoder.unused_data:
        raise ValueError("the lengths of its pieces do not add up")
    return found
