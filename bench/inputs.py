"""Inputs to time a model with: seeded, of the shapes and types it declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .. import errors
from .runtimes.adapter import Port


def random_inputs(
    path: Path,
    ports: Sequence[Port],
    *,
    batch: int,
    seed: int,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, np.ndarray]:
    """One array per port: floats from a standard normal distribution, integers 0 or 1 (valid as indices too).

    An open first dimension becomes `batch`. Raises EdgeLatheError for another open dimension that `shapes`
    does not give, and for a fixed first dimension that differs from `batch`.
    """
    random = np.random.default_rng(seed)
    return {port.name: _array(path, random, port, _shape(path, port, batch, shapes or {})) for port in ports}


def _shape(path: Path, port: Port, batch: int, shapes: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    if port.name in shapes:
        shape = tuple(shapes[port.name])
    else:
        if any(not isinstance(size, int) for size in port.shape[1:]):
            raise errors.bench.unknown_dimension(path, port.name, port.shape)
        shape = tuple(int(size) for size in (batch, *port.shape[1:])) if port.shape else ()
    if len(shape) != len(port.shape) or any(
        isinstance(was, int) and was != size for was, size in zip(port.shape, shape, strict=True)
    ):
        raise errors.bench.wrong_input_shape(path, port.name, port.shape, f"[{', '.join(map(str, shape))}]")
    return shape


def _array(path: Path, random: np.random.Generator, port: Port, shape: tuple[int, ...]) -> np.ndarray:
    try:
        dtype = np.dtype(port.dtype)
    except TypeError:
        raise errors.bench.unsupported_input_type(path, port.name, port.dtype) from None
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    return random.integers(0, 2, shape).astype(dtype)
