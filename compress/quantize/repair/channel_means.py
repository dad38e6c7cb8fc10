"""Means per channel over calibration images, reduced inside the graph so that no activation leaves the runtime."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir
import onnxruntime

from ....models.onnx_graph import add_initializer
from ..calibration.imagechunks import Images, as_sliceable, check_images, chunk_of, chunk_size
from ..session import open_session

Progress = Callable[[int, int], None]
ChunkMeans = tuple[int, list[np.ndarray]]
"""How many images, and float32 [1, C, 1, ...] of every value."""

CHUNK_BYTES = 4 * 2**20
"""As many images run at a time as keep the largest activation below this size, and at least one."""
AXES_ARE_INPUTS = 18
"""The opset from which ReduceMean takes its axes as an input."""


def mean_of_channels(model: ir.Model, value: ir.Value, dimensions: int, *, name: str | None = None) -> ir.Value:
    """A new value of the graph, float32 [1, C, 1, ...]: the mean of `value` [N, C, ...] over all axes but channels."""
    axes = [axis for axis in range(dimensions) if axis != 1]
    name = name or f"mean of {value.name}"
    if model.graph.opset_imports.get("", AXES_ARE_INPUTS) < AXES_ARE_INPUTS:
        return append(model, "ReduceMean", [value], name, [ir.AttrInt64s("axes", axes), ir.AttrInt64("keepdims", 1)])
    given = add_initializer(model.graph, f"axes of {name}", np.array(axes, np.int64))
    return append(model, "ReduceMean", [value, given], name, [ir.AttrInt64("keepdims", 1)])


def append(
    model: ir.Model, op: str, inputs: Sequence[ir.Value | None], name: str, attributes: Sequence[ir.Attr] = ()
) -> ir.Value:
    """The float32 result, called `name`, of a new node at the graph's end."""
    node = ir.Node("", op, inputs, attributes, name=name)
    model.graph.append(node)
    (result,) = node.outputs
    result.name, result.dtype = name, ir.DataType.FLOAT
    return result


def average_over_images(
    model: ir.Model, means: Sequence[ir.Value], images: Images, on_progress: Progress | None
) -> list[np.ndarray]:
    """float64 [C] of every value that `mean_of_channels` made, averaged over all images; they become the outputs.

    The images run in the same chunks however they are handed over, and memory does not grow with their number.
    Raises EdgeLatheError for unusable images.
    """
    check_images(model, as_sliceable(images))
    return weighted(means_by_chunk(model, means, images, images_at_a_time(model), on_progress))


def means_by_chunk(
    model: ir.Model,
    means: Sequence[ir.Value],
    images: Images,
    size: int,
    on_progress: Progress | None,
    given: Iterable[Mapping[str, np.ndarray]] = itertools.repeat({}),
) -> Iterator[ChunkMeans]:
    """Of `size` images after the other, every value that `mean_of_channels` made; they become the outputs.

    `given` are the values of the graph's other inputs, chunk by chunk. Raises EdgeLatheError for unusable images.
    """
    source = as_sliceable(images)
    model.graph.outputs.clear()
    model.graph.outputs.extend(means)
    model.graph.sort()
    session = unfused_session(model)
    image = str(model.graph.inputs[0].name)
    for start, beside in zip(range(0, len(source), size), given, strict=False):
        batch = chunk_of(source, start, size)
        yield len(batch), session.run(None, {image: batch, **beside})
        if on_progress:
            on_progress(start + len(batch), len(source))


def weighted(chunks: Iterable[ChunkMeans]) -> list[np.ndarray]:
    """float64 [C] of every value: the mean over all images."""
    total, sums = 0, None
    for count, means in chunks:
        parts = [mean.ravel().astype(np.float64) * count for mean in means]
        sums = parts if sums is None else [one + other for one, other in zip(sums, parts, strict=True)]
        total += count
    return [] if sums is None else [one / total for one in sums]


def images_at_a_time(model: ir.Model) -> int:
    """How many images run at a time, whatever they are handed over in."""
    return chunk_size(model, [_largest(model)], CHUNK_BYTES)


def _largest(model: ir.Model) -> str:
    def size(value: ir.Value) -> int:
        return int(np.prod([dim for dim in value.shape or () if isinstance(dim, int)]))

    return str(max((value for node in model.graph for value in node.outputs), key=size).name)


def unfused_session(model: ir.Model) -> onnxruntime.InferenceSession:
    """Fused int8 kernels would leave no float result behind to compare and to put right."""
    return open_session(model, {"session.intra_op.allow_spinning": "0", "session.disable_quant_qdq": "1"})
