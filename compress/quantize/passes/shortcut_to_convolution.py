"""Write an option A shortcut as a convolution: Slice(x, steps = s) then Pad(channels) is a strided 1 x 1 selection.

    y[c] = x[c - before][::s, ::s]   is a convolution whose weights are 1 where c - before = channel, else 0

Runtimes copy slices and pads of codes element by element; the convolution takes a quarter of that time, and in int8
it is exact: a weight of 1 is the largest code, and input and output share one scale (`selects_channels`).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....models.onnx_graph import add_initializer, constant, integer, only_consumer


def shortcut_to_convolution(model: ir.Model) -> int:
    """Rewrite every Slice of an image's height and width that a Pad of channels alone reads; returns how many."""
    return sum(_rewrite(model, node) for node in list(model.graph) if node.op_type == "Pad")


def selects_channels(node: ir.Node) -> bool:
    """Whether a node is a convolution that only copies: one weight of 1 at most for every output channel."""
    if node.op_type != "Conv" or integer(node, "group", 1) != 1:
        return False
    weight = constant(node.inputs[1])
    if weight is None or weight.shape[2:] != (1, 1) or (len(node.inputs) > 2 and node.inputs[2] is not None):
        return False
    taken = weight.reshape(len(weight), -1)
    return bool(np.isin(taken, (0.0, 1.0)).all() and (taken.sum(1) <= 1).all() and taken.any())


def _rewrite(model: ir.Model, pad: ir.Node) -> bool:
    source = pad.inputs[0]
    cut = None if source is None else source.producer()
    if cut is None or source is None or cut.op_type != "Slice" or only_consumer(source) is not pad:
        return False
    image = cut.inputs[0]
    stride, added = _stride(cut), _added_channels(pad)
    if image is None or image.shape is None or len(image.shape) != 4 or stride is None or added is None:
        return False
    channels = image.shape[1]
    if not isinstance(channels, int):
        return False
    before, after = added
    weight = np.zeros((before + channels + after, channels, 1, 1), np.float32)
    weight[before : before + channels, :, 0, 0] = np.eye(channels, dtype=np.float32)
    output = pad.outputs[0]
    convolution = ir.Node(
        "",
        "Conv",
        [image, add_initializer(model.graph, f"{output.name}_selection", weight)],
        [ir.AttrInt64s("strides", [stride, stride])],
        name=pad.name,
    )
    ir.convenience.replace_nodes_and_values(
        model.graph, pad, [pad, cut], [convolution], [output], [convolution.outputs[0]]
    )
    return True


def _stride(cut: ir.Node) -> int | None:
    """The common step over the whole of height and width, or None for any other Slice."""
    if len(cut.inputs) != 5:
        return None
    starts, ends, axes, steps = (constant(value) for value in cut.inputs[1:])
    if starts is None or ends is None or axes is None or steps is None or sorted(axes.tolist()) != [2, 3]:
        return None
    image = cut.inputs[0]
    sizes = [image.shape[int(axis)] if image is not None and image.shape is not None else None for axis in axes]
    whole = all(isinstance(size, int) and end >= size for size, end in zip(sizes, ends.tolist(), strict=True))
    if starts.any() or not whole or len(set(steps.tolist())) != 1 or steps[0] < 1:
        return None
    return int(steps[0])


def _added_channels(pad: ir.Node) -> tuple[int, int] | None:
    """(before, after) for a Pad that adds channels of zeros and nothing else."""
    mode = pad.attributes.get("mode")
    amounts = constant(pad.inputs[1]) if len(pad.inputs) > 1 else None
    if amounts is None or amounts.size != 8 or (mode is not None and mode.as_string() != "constant"):
        return None
    value = constant(pad.inputs[2]) if len(pad.inputs) > 2 and pad.inputs[2] is not None else np.zeros(())
    others = [amounts[i] for i in (0, 2, 3, 4, 6, 7)]
    if value is None or value.any() or any(others) or amounts.min() < 0 or (len(pad.inputs) > 3 and pad.inputs[3]):
        return None
    return int(amounts[1]), int(amounts[5])
