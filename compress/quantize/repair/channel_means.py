"""Means per channel over calibration images, reduced inside the graph so that no activation leaves the runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir
import onnxruntime

from ....models.onnx_graph import add_initializer
from ..calibration.imagechunks import Images, as_sliceable, check_images, chunk_of, chunk_size
from ..session import open_session

Progress = Callable[[int, int], None]

CHUNK_BYTES = 4 * 2**20
"""As many images run at a time as keep the largest activation below this size, and at least one."""
AXES_ARE_INPUTS = 18
"""The opset from which ReduceMean takes its axes as an input."""


def mean_of_channels(model: ir.Model, value: ir.Value, dimensions: int) -> ir.Value:
    """A new value of the graph, float32 [1, C, 1, ...]: the mean of `value` [N, C, ...] over all axes but channels."""
    axes = [axis for axis in range(dimensions) if axis != 1]
    name = f"mean of {value.name}"
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
    source = as_sliceable(images)
    check_images(model, source)
    size = chunk_size(model, [_largest(model)], CHUNK_BYTES)
    model.graph.outputs.clear()
    model.graph.outputs.extend(means)
    model.graph.sort()
    session = unfused_session(model)
    sums = [np.zeros(1) for _ in means]
    for start in range(0, len(source), size):
        batch = chunk_of(source, start, size)
        fetched = session.run(None, {str(model.graph.inputs[0].name): batch})
        sums = [total + mean.ravel().astype(np.float64) * len(batch) for total, mean in zip(sums, fetched, strict=True)]
        if on_progress:
            on_progress(start + len(batch), len(source))
    return [total / len(source) for total in sums]


def _largest(model: ir.Model) -> str:
    def size(value: ir.Value) -> int:
        return int(np.prod([dim for dim in value.shape or () if isinstance(dim, int)]))

    return str(max((value for node in model.graph for value in node.outputs), key=size).name)


def unfused_session(model: ir.Model) -> onnxruntime.InferenceSession:
    """Fused int8 kernels would leave no float result behind to compare and to put right."""
    return open_session(model, {"session.intra_op.allow_spinning": "0", "session.disable_quant_qdq": "1"})
