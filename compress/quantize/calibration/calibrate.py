"""Statistics of activations over calibration images, in one streaming pass.

Memory does not grow with the number of images, and the statistics do not depend on how the images are handed
over, because they are always run in the same chunks, whose size follows from the graph alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx_ir as ir

from .... import errors
from ..session import open_session
from .histogram import Histogram
from .imagechunks import Images, Sliceable, as_sliceable, check_images, chunk_of, chunk_size
from .tally import Tally, sampling_step

__all__ = ["Histogram", "Images", "as_sliceable", "calibrate"]

CHUNK_BYTES = 8 * 2**20
"""A chunk holds as many images as keep the fetched activations below this size, which caches hold."""
SEVERAL, SEVERAL_BYTES = 4, 80 * 2**20
"""And so many as long as they stay below this size: alone, an image costs a third more. At least one."""

SAMPLES = 2**22
"""Of each tensor, so many values are counted at most, evenly from all images; extrema are those of all values."""


def calibrate(
    model: ir.Model,
    tensors: Sequence[str],
    images: Images,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Histogram]:
    """Range, histogram and channels' extrema of every named float tensor over all images.

    `on_progress(done, total)` counts images.
    Raises EdgeLatheError for no images, images of the wrong shape or type, and images that are not finite or
    drive an activation to NaN or infinity (the message names the image).
    """
    source = as_sliceable(images)
    check_images(model, source)
    size = max(chunk_size(model, tensors, CHUNK_BYTES), min(SEVERAL, chunk_size(model, tensors, SEVERAL_BYTES)))
    values = _values(model)
    tallies: dict[str, Tally] = {}
    for start, stop, fetched in _activations(_with_outputs(model, tensors), source, size):
        for name in tensors:
            array = fetched.pop(0)
            if name not in tallies:
                values_of_one = array.size // (stop - start)
                step = sampling_step(values_of_one * len(source), SAMPLES, values_of_one)
                tallies[name] = Tally(_channel_axis(values[name]), step)
            bad = tallies[name].add(array, stop - start)
            if bad is not None:
                raise errors.quantize.activation_not_finite(name, start + bad, 1)
        if on_progress:
            on_progress(stop, len(source))
    return {name: tally.result() for name, tally in tallies.items()}


def _activations(model: ir.Model, images: Sliceable, size: int) -> Iterator[tuple[int, int, list[np.ndarray]]]:
    """(first image, last image + 1, the model's outputs for them), chunk by chunk.

    A second thread is one chunk ahead, so that the runtime computes while what it computed is counted.
    """
    session = open_session(model, {"session.intra_op.allow_spinning": "0"})  # spinning would starve the counting
    input_name = session.get_inputs()[0].name

    def run(start: int) -> tuple[int, list[np.ndarray]]:
        batch = chunk_of(images, start, size)
        return start + len(batch), session.run(None, {input_name: batch})

    starts = range(0, len(images), size)
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(run, 0)
        for start in starts:
            stop, fetched = coming.result()
            if stop < len(images):
                coming = ahead.submit(run, stop)
            yield start, stop, fetched


def _channel_axis(value: ir.Value) -> int:
    """-1 for the [N, T, D] of transformers and whatever a matrix product or layer norm touches; else 1."""
    producer = value.producer()
    neighbours = {use.node.op_type for use in value.uses()} | ({producer.op_type} if producer is not None else set())
    rank = len(value.shape) if value.shape is not None else 4
    return -1 if rank in (1, 3) or neighbours & {"MatMul", "LayerNormalization"} else 1


def _with_outputs(model: ir.Model, tensors: Sequence[str]) -> ir.Model:
    copy = model.clone()
    values = _values(copy)
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(values[name] for name in tensors)
    return copy


def _values(model: ir.Model) -> dict[str, ir.Value]:
    computed = (value for node in model.graph for value in node.outputs)
    return {str(value.name): value for value in (*model.graph.inputs, *computed)}
