"""The range coder of the `constriction` library, fed by contexts.py: symbols to bytes and back."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from types import ModuleType

import numpy as np

from ... import errors
from .contexts import Contexts

WORD = np.dtype("<u4")


def encode(symbols: np.ndarray, heights: np.ndarray, contexts: Contexts) -> bytes:
    """Bytes of `symbols` (int64, any shape, below len(heights)); `contexts` learns from them."""
    if len(heights) == 1:
        return b""
    stream = _constriction().stream
    encoder = stream.queue.RangeEncoder()

    def write(counts: np.ndarray, block: np.ndarray) -> np.ndarray:
        encoder.encode(block.astype(np.int32), stream.model.Categorical(counts.astype(np.float32), perfect=False))
        return block

    contexts.code(symbols.copy(), heights, write)
    return encoder.get_compressed().astype(WORD).tobytes()


def decode(data: bytes, shape: tuple[int, ...], heights: np.ndarray, contexts: Contexts) -> np.ndarray:
    """The symbols that `encode` was given, with the `contexts` it was given them with.

    Raises ValueError for bytes that encode no such symbols.
    """
    if len(heights) == 1 and not data:
        return np.zeros(shape, np.int64)
    stream = _constriction().stream
    if len(heights) == 1 or len(data) % WORD.itemsize:
        raise ValueError(f"{len(data)} coded bytes are none that an encoder writes")
    decoder = stream.queue.RangeDecoder(np.frombuffer(data, WORD).astype(np.uint32))

    def read(counts: np.ndarray, block: np.ndarray) -> np.ndarray:
        model = stream.model.Categorical(counts.astype(np.float32), perfect=False)
        return decoder.decode(model, len(block)).astype(np.int64)

    symbols = np.zeros(shape, np.int64)
    try:
        contexts.code(symbols, heights, read)
    except AssertionError as reason:  # constriction's word for bytes that no encoder writes
        raise ValueError("the coded bytes are not of these weights") from reason
    return symbols


def coder() -> str:
    """Name and version of the library that codes, as a file that it coded remembers it."""
    _constriction()
    return f"constriction {version('constriction')}"


def _constriction() -> ModuleType:
    try:
        return import_module("constriction")
    except ImportError as reason:
        raise errors.pack.no_coder() from reason
