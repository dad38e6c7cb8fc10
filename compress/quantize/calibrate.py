"""Statistics of activations, streamed: one pass for ranges, one for histograms.

Memory does not grow with the number of images, and the statistics do not depend on how the images are handed
over, because they are always run in the same chunks, whose size follows from the graph alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import onnx_ir as ir
import onnxruntime

from ... import errors

BINS = 2048
CHUNK_BYTES = 32 * 2**20
"""A chunk holds as many images as keep the fetched activations below this size, and at least one."""


@dataclass(frozen=True)
class Histogram:
    """Counts of one tensor's values in BINS equal bins between `low` and `high`."""

    low: float
    high: float
    counts: np.ndarray
    """int64 [BINS]; empty after the range pass alone."""

    @property
    def centers(self) -> np.ndarray:
        """float64 [BINS] middle of each bin."""
        width = (self.high - self.low) / len(self.counts)
        return self.low + width * (np.arange(len(self.counts)) + 0.5)


class Sliceable(Protocol):
    """Anything with a length whose slices are float32 [n, C, H, W]."""

    def __len__(self) -> int: ...

    def __getitem__(self, cut: slice, /) -> np.ndarray: ...


Images = Sliceable | Sequence[np.ndarray]
"""One array float32 [N, C, H, W], something that is sliced like one, or a list of batches."""


def calibrate(
    model: ir.Model,
    tensors: Sequence[str],
    images: Images,
    *,
    histograms: bool,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Histogram]:
    """Range, and if asked histogram, of every named float tensor over all images.

    `on_progress(done, total)` counts images over both passes.
    Raises EdgeLatheError for no images, images of the wrong shape or type, and images that are not finite or
    drive an activation to infinity (the message names the image).
    """
    source = as_sliceable(images)
    _check(model, source)
    total = len(source)
    chunk = _chunk_size(model, tensors)
    passes = 2 if histograms else 1

    def report(done: int) -> None:
        if on_progress:
            on_progress(done, passes * total)

    lows = np.full(len(tensors), np.inf)
    highs = np.full(len(tensors), -np.inf)
    session, input_name = _session(_with_extrema(model, tensors))
    for start, batch in _chunks(source, chunk):
        extrema = np.array(session.run(None, {input_name: batch}), np.float64).reshape(2, -1)
        if not np.isfinite(extrema).all():
            raise errors.activation_not_finite(tensors[int(np.argmax(~np.isfinite(extrema).all(0)))], start, len(batch))
        lows, highs = np.minimum(lows, extrema[0]), np.maximum(highs, extrema[1])
        report(start + len(batch))
    if not histograms:
        empty = np.zeros(0, np.int64)
        return {t: Histogram(float(lo), float(hi), empty) for t, lo, hi in zip(tensors, lows, highs, strict=True)}

    counts = np.zeros((len(tensors), BINS), np.int64)
    session, input_name = _session(_with_outputs(model, tensors))
    for start, batch in _chunks(source, chunk):
        for row, values in enumerate(session.run(None, {input_name: batch})):
            counts[row] += _count(values, lows[row], highs[row])
        report(total + start + len(batch))
    return {
        t: Histogram(float(lo), float(hi), row) for t, lo, hi, row in zip(tensors, lows, highs, counts, strict=True)
    }


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


def as_sliceable(images: Images) -> Sliceable:
    return _Batches(images) if isinstance(images, list | tuple) else cast(Sliceable, images)


def _check(model: ir.Model, images: Sliceable) -> None:
    if len(images) == 0:
        raise errors.no_calibration_images()
    (graph_input, *others) = model.graph.inputs
    if others:
        raise errors.several_inputs([str(value.name) for value in model.graph.inputs])
    wanted = [dim if isinstance(dim, int) else None for dim in graph_input.shape or ()]
    got = np.asarray(images[0:1]).shape
    if len(wanted) != len(got) or any(w is not None and w != g for w, g in zip(wanted[1:], got[1:], strict=True)):
        raise errors.calibration_shape(str(graph_input.name), wanted, got)


def _chunks(images: Sliceable, size: int) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(images), size):
        batch = np.ascontiguousarray(images[start : start + size], np.float32)
        finite = np.isfinite(batch).reshape(len(batch), -1).all(1)
        if not finite.all():
            raise errors.image_not_finite(start + int(np.argmin(finite)))
        yield start, batch


def _chunk_size(model: ir.Model, tensors: Sequence[str]) -> int:
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
    return max(1, CHUNK_BYTES // max(1, 4 * sum(sizes.values())))


def _with_outputs(model: ir.Model, tensors: Sequence[str]) -> ir.Model:
    copy = model.clone()
    values = _values(copy)
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(values[name] for name in tensors)
    return copy


def _with_extrema(model: ir.Model, tensors: Sequence[str]) -> ir.Model:
    copy = model.clone()
    values = _values(copy)
    copy.graph.outputs.clear()
    for op in ("ReduceMin", "ReduceMax"):
        for name in tensors:
            node = ir.Node("", op, [values[name]], [ir.AttrInt64("keepdims", 0)])
            node.outputs[0].name = f"{name}_{op}"
            node.outputs[0].dtype = ir.DataType.FLOAT
            copy.graph.append(node)
            copy.graph.outputs.append(node.outputs[0])
    return copy


def _values(model: ir.Model) -> dict[str, ir.Value]:
    computed = (value for node in model.graph for value in node.outputs)
    return {str(value.name): value for value in (*model.graph.inputs, *computed)}


def _session(model: ir.Model) -> tuple[onnxruntime.InferenceSession, str]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session, session.get_inputs()[0].name


def _count(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """int64 [BINS] histogram between low and high, both inclusive."""
    if high <= low:
        return np.eye(1, BINS, dtype=np.int64)[0] * values.size
    scaled = values.ravel() - np.float32(low)
    scaled *= np.float32(BINS / (high - low))
    bins = scaled.astype(np.int64)
    np.clip(bins, 0, BINS - 1, out=bins)
    return np.bincount(bins, minlength=BINS)
