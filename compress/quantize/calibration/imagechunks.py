"""Calibration images in chunks that follow from the graph alone, however they are handed over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np
import onnx_ir as ir

from .... import errors


class Sliceable(Protocol):
    """Anything with a length whose slices are float32 [n, C, H, W]."""

    def __len__(self) -> int: ...

    def __getitem__(self, cut: slice, /) -> np.ndarray: ...


Images = Sliceable | Sequence[np.ndarray]
"""One array float32 [N, C, H, W], something that is sliced like one, or a list of batches."""


class _Batches:
    """A list of batches seen as one long array that can be sliced."""

    def __init__(self, batches: Sequence[np.ndarray]) -> None:
        self._batches = [np.asarray(batch) for batch in batches]
        self._ends = np.cumsum([len(batch) for batch in self._batches])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, cut: slice) -> np.ndarray:
        start, stop, _ = cut.indices(len(self))
        first, last = np.searchsorted(self._ends, [start, stop - 1], side="right")
        offset = int(self._ends[first]) - len(self._batches[first])
        pieces = self._batches[first : last + 1]
        joined = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return joined[start - offset : stop - offset]


class Spread:
    """At most `count` of many images, evenly spread over them."""

    def __init__(self, images: Sliceable, count: int) -> None:
        self._images = images
        self._chosen = np.arange(min(count, len(images))) * len(images) // max(1, min(count, len(images)))

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, cut: slice) -> np.ndarray:
        return np.concatenate([self._images[int(at) : int(at) + 1] for at in self._chosen[cut]])


def as_sliceable(images: Images) -> Sliceable:
    return _Batches(images) if isinstance(images, list | tuple) else cast(Sliceable, images)


def check_images(model: ir.Model, images: Sliceable) -> None:
    """Raises EdgeLatheError for no images, a model of several inputs, and images of a shape that it does not take."""
    if len(images) == 0:
        raise errors.quantize.no_calibration_images()
    (graph_input, *others) = model.graph.inputs
    if others:
        raise errors.quantize.several_inputs([str(value.name) for value in model.graph.inputs])
    wanted = [dim if isinstance(dim, int) else None for dim in graph_input.shape or ()]
    got = np.asarray(images[0:1]).shape
    if len(wanted) != len(got) or any(w is not None and w != g for w, g in zip(wanted[1:], got[1:], strict=True)):
        raise errors.quantize.calibration_shape(str(graph_input.name), wanted, got)


def chunk_of(images: Sliceable, start: int, size: int) -> np.ndarray:
    """Float32 [n, C, H, W], C-contiguous, n <= size. Raises EdgeLatheError for NaN and infinite pixels."""
    batch = np.ascontiguousarray(images[start : start + size], np.float32)
    finite = np.isfinite(batch).reshape(len(batch), -1).all(1)
    if not finite.all():
        raise errors.quantize.image_not_finite(start + int(np.argmin(finite)))
    return batch


def chunk_size(model: ir.Model, tensors: Sequence[str], chunk_bytes: int) -> int:
    """How many images keep the named float32 tensors together below `chunk_bytes`; at least one.

    Where the graph's batch size is fixed, that.
    """
    (graph_input,) = model.graph.inputs
    batch = graph_input.shape[0] if graph_input.shape else 1
    if isinstance(batch, int):
        return batch
    wanted = set(tensors)
    sizes = {
        value.name: int(np.prod([dim for dim in value.shape if isinstance(dim, int)]))
        for node in model.graph
        for value in node.outputs
        if value.name in wanted and value.shape is not None
    }
    return max(1, chunk_bytes // max(1, 4 * sum(sizes.values())))
