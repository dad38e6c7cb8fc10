"""An ONNX file made small for sending and storing, and given back byte by byte (after Han et al. 2016).

Tensors of few values (int8 and int4 weights, weights that share values) are entropy-coded, and so are the places of the
zeros among the values of others, which xz codes; what is left of the file is coded by xz as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ... import errors
from ...files import sha256_bytes, write_atomic
from ...models.onnx_file import read_onnx, type_name
from .container import LARGEST, Container, Entry, Header, compress, read_container, write_container
from .contexts import Contexts
from .entropy import coder
from .onnx_tensors import StoredTensor, find_tensors
from .tensors import decode_tensor, encode_tensor

SMALLEST = 64
"""Bytes below which a tensor stays in the skeleton: describing it would cost more than it saves."""


@dataclass(frozen=True)
class PackedTensor:
    name: str
    type: str
    shape: tuple[int, ...]
    coding: str
    """bytes, nibbles, codebook, zeros or planes: docs/pack.md."""
    values: int
    """Different values in its codebook; 0 where it has none."""
    bytes_before: int
    bytes_after: int
    """Without its share of the planes, which xz codes for all tensors together."""


@dataclass(frozen=True)
class Packed:
    bytes_before: int
    bytes_after: int
    sha256: str
    """Of the ONNX file that `unpack` gives back."""
    tensors: tuple[PackedTensor, ...]
    structure_bytes: int
    """Of the packed file: the graph, names and small tensors, and the description of the others."""
    planes_bytes: int

    def as_dict(self) -> dict[str, Any]:
        return {"summary": self.summary(), **asdict(self)}

    def summary(self) -> str:
        """One sentence: how small the file became, and by what."""
        coded = [tensor for tensor in self.tensors if tensor.coding not in ("zeros", "planes")]
        before, after = sum(tensor.bytes_before for tensor in coded), sum(tensor.bytes_after for tensor in coded)
        others = self.bytes_after - after - self.structure_bytes
        return (
            f"{self.bytes_before} bytes packed into {self.bytes_after} ({self.bytes_after / self.bytes_before:.2f} x):"
            f" {len(coded)} tensors entropy-coded from {before} bytes to {after}, other tensors {others},"
            f" structure {self.structure_bytes}; unpack gives the same bytes back"
        )


@dataclass(frozen=True)
class Unpacked:
    bytes_before: int
    bytes_after: int
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        return {"summary": self.summary(), **asdict(self)}

    def summary(self) -> str:
        return f"{self.bytes_before} bytes unpacked into {self.bytes_after}, SHA-256 {self.sha256} as when packed"


def pack(model: Path | str, output: Path | str) -> Packed:
    """Write the ONNX file `model` as a packed file from which `unpack` makes the same bytes again.

    Raises EdgeLatheError for what is no ONNX file, for models with external data, and without `constriction`.
    """
    data, packed = pack_model(Path(model))
    write_atomic(Path(output), data, "the packed model")
    return packed


def packed_size(model: Path | str) -> int:
    """Bytes that `pack` would write: the encoded size of a model. Raises as `pack` does."""
    return pack_model(Path(model))[1].bytes_after


def pack_model(path: Path, file: bytes | None = None) -> tuple[bytes, Packed]:
    """What `pack` writes. `file` is packed in the place of what is at `path`, where it was made from that."""
    if file is None:
        if read_onnx(path).external:
            raise errors.pack.external_data(path)
        file = path.read_bytes()
    try:
        return pack_bytes(file)
    except ValueError as reason:
        raise errors.bench.broken_onnx(path, str(reason)) from reason


def pack_bytes(file: bytes) -> tuple[bytes, Packed]:
    """The packed file of the bytes of an ONNX file. Raises ValueError for bytes that are no protobuf message."""
    stored = [tensor for tensor in find_tensors(file) if tensor.stop - tensor.start >= SMALLEST]
    contexts = Contexts()
    entries, payloads, planes = [], [], []
    for tensor in stored:
        raw = file[tensor.start : tensor.stop]
        coded = encode_tensor(raw, tensor.shape, tensor.type, contexts)
        place = (tensor.name, tensor.shape, tensor.type, tensor.start, len(raw))
        entries.append(Entry(*place, coded.coding, coded.values, len(coded.payload), len(coded.planes)))
        payloads.append(coded.payload)
        planes.append(coded.planes)
    coded_planes = compress(b"".join(planes))
    header = Header(len(file), sha256_bytes(file), coder(), tuple(entries), len(coded_planes))
    container = Container(header, _skeleton(file, stored), tuple(payloads), b"".join(planes))
    data = write_container(container, coded_planes)
    tensors = tuple(
        PackedTensor(
            entry.name, type_name(entry.type), entry.shape, entry.coding, entry.values, entry.bytes, entry.payload
        )
        for entry in entries
    )
    structure = len(data) - len(coded_planes) - sum(map(len, payloads))
    return data, Packed(len(file), len(data), header.sha256, tensors, structure, len(coded_planes))


def unpack(packed: Path | str, output: Path | str, *, replace: bool = True, largest: int = LARGEST) -> Unpacked:
    """Write the ONNX file that `packed` was made from, byte by byte the same.

    Raises EdgeLatheError for anything that `pack` did not write or that was changed since, for models of more than
    `largest` bytes, without `constriction`, and unless `replace` where another file is at `output`; then nothing is
    written.
    """
    path, target = Path(packed), Path(output)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise errors.inputs.missing_file("the packed file", path) from None
    except OSError as reason:
        why = reason.strerror or str(reason)
        raise errors.inputs.unreadable_file("the packed file", path, why, "check the file") from reason
    file = unpack_bytes(data, path, largest=largest)
    if not replace and target.exists() and (not target.is_file() or target.read_bytes() != file):
        raise errors.pack.would_replace(target)
    write_atomic(target, file, "the unpacked model")
    return Unpacked(len(data), len(file), sha256_bytes(file))


def unpack_bytes(data: bytes, source: Path, *, largest: int = LARGEST) -> bytes:
    """The ONNX file in a packed file's bytes; `source` is what messages call it. Raises EdgeLatheError as `unpack`."""
    container = read_container(data, source, largest=largest)
    header, contexts = container.header, Contexts()
    pieces, taken, at, end = [], 0, 0, 0
    try:
        for entry, payload in zip(header.tensors, container.payloads, strict=True):
            between = entry.start - end
            pieces.append(container.skeleton[at : at + between])
            at, end = at + between, entry.start + entry.bytes
            planes = container.planes[taken : taken + entry.planes]
            taken += entry.planes
            pieces.append(decode_tensor(entry, payload, planes, contexts))
    except ValueError as reason:
        raise errors.pack.damaged(source, str(reason)) from reason
    file = b"".join([*pieces, container.skeleton[at:]])
    if hashlib.sha256(file).hexdigest() != header.sha256:
        raise errors.pack.other_bytes(source, header.coder, coder())
    return file


def _skeleton(file: bytes, tensors: Sequence[StoredTensor]) -> bytes:
    starts = [0, *(tensor.stop for tensor in tensors)]
    stops = [*(tensor.start for tensor in tensors), len(file)]
    return b"".join(file[start:stop] for start, stop in zip(starts, stops, strict=True))
