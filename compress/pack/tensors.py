"""One stored tensor, coded by what makes the fewest bytes of it.

Few values are coded as symbols. All others stand among the planes, which xz codes for all tensors together: all first
bytes of a tensor's values, then all second ones, and so on, because those that hold signs and exponents resemble each
other. Where many values are zero, coded symbols say which, and only the others stand among the planes.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from ...models.onnx_file import size_in_bytes
from .container import Coding, Entry, compress
from .contexts import Contexts
from .entropy import decode, encode
from .symbols import NUMBERS, heights, kind_of, shape_of_symbols, to_bytes, to_symbols, width

ZERO_OR_NOT = np.array([0, 64])
"""Heights of what is zero and what is not."""
FEWEST_ZEROS = 0.02


@dataclass(frozen=True)
class Coded:
    coding: Coding
    values: int
    """Entries of its codebook; 0 where it has none."""
    payload: bytes
    planes: bytes


def encode_tensor(raw: bytes, shape: tuple[int, ...], type_: int, contexts: Contexts) -> Coded:
    """The smallest coding of `raw`; `contexts` have learnt from it if they were used."""
    best, learnt, least = Coded("planes", 0, b"", _planes(raw, type_)), contexts.counts, None
    for attempt in (_as_symbols, _as_zeros_and_others):
        learning = deepcopy(contexts)
        coded = attempt(raw, shape, type_, learning)
        if coded is None:
            continue
        least = len(compress(best.planes)) if least is None else least
        size = len(coded.payload) + (len(compress(coded.planes)) if coded.planes else 0)
        if size < least:
            best, learnt, least = coded, learning.counts, size
    contexts.counts = learnt
    return best


def _as_symbols(raw: bytes, shape: tuple[int, ...], type_: int, contexts: Contexts) -> Coded | None:
    found = to_symbols(raw, shape, type_)
    if found is None:
        return None
    payload = found.codebook + encode(found.values, found.heights, contexts)
    return Coded(found.kind, len(found.codebook) // width(found.kind, type_), payload, b"")


def _as_zeros_and_others(raw: bytes, shape: tuple[int, ...], type_: int, contexts: Contexts) -> Coded | None:
    if type_ not in NUMBERS or len(raw) % width("codebook", type_):
        return None
    numbers = np.frombuffer(raw, f"<u{width('codebook', type_)}")
    used = numbers != 0
    if used.mean() > 1 - FEWEST_ZEROS:
        return None
    which = used.astype(np.int64).reshape(shape_of_symbols("codebook", len(raw), shape, type_))
    return Coded("zeros", 0, encode(which, ZERO_OR_NOT, contexts), _planes(numbers[used].tobytes(), type_))


def decode_tensor(entry: Entry, payload: bytes, planes: bytes, contexts: Contexts) -> bytes:
    """What `encode_tensor` was given, from its share of the payloads and planes.

    Raises ValueError where they cannot be those of such a tensor.
    """
    if entry.coding == "planes":
        values = _from_planes(planes, entry.type)
    elif entry.coding == "zeros":
        values = _zeros_and_others(entry, payload, planes, contexts)
    else:
        values = _symbols(entry, payload, contexts)
    if len(values) != entry.bytes:
        raise ValueError(f"tensor {entry.name!r} is not of the length that it says")
    return values


def _symbols(entry: Entry, payload: bytes, contexts: Contexts) -> bytes:
    kind = kind_of(entry.type)
    if kind is None or kind != entry.coding or (kind == "codebook") != (entry.values > 0):
        raise ValueError(f"tensor {entry.name!r} cannot be coded as {entry.coding} with {entry.values} values")
    size = entry.values * width(kind, entry.type)
    if len(payload) < size:
        raise ValueError(f"tensor {entry.name!r} is shorter than it says")
    codebook, coded = payload[:size], payload[size:]
    shape = shape_of_symbols(kind, entry.bytes, entry.shape, entry.type)
    return to_bytes(kind, decode(coded, shape, heights(kind, entry.type, codebook), contexts), entry.type, codebook)


def _zeros_and_others(entry: Entry, payload: bytes, planes: bytes, contexts: Contexts) -> bytes:
    if entry.type not in NUMBERS:
        raise ValueError(f"tensor {entry.name!r} cannot be coded as zeros and others")
    shape = shape_of_symbols("codebook", entry.bytes, entry.shape, entry.type)
    which = decode(payload, shape, ZERO_OR_NOT, contexts).reshape(-1) == 1
    others = np.frombuffer(_from_planes(planes, entry.type), f"<u{width('codebook', entry.type)}")
    if len(others) != which.sum():
        raise ValueError(f"tensor {entry.name!r} has another number of values than it says")
    numbers = np.zeros(len(which), others.dtype)
    numbers[which] = others
    return numbers.tobytes()


def _planes(raw: bytes, type_: int) -> bytes:
    return np.frombuffer(raw, np.uint8).reshape(-1, _step(len(raw), type_)).T.tobytes()


def _from_planes(planes: bytes, type_: int) -> bytes:
    return np.frombuffer(planes, np.uint8).reshape(_step(len(planes), type_), -1).T.tobytes()


def _step(length: int, type_: int) -> int:
    step = max(1, size_in_bytes((1,), type_))
    return step if length % step == 0 else 1
