"""Give a convolution of a few input channels the multiple that ONNX Runtime's fast int8 kernel on x86 asks for.

The kernel that needs no copy of the image (MLAS ConvSym) takes input channels by four; three channels fall back to a
copy of every patch. A fourth channel of anything, on weights of zero, changes no sum: the results are the same bits,
and the first convolution of MobileNetV2 takes 0.6 of its time (python -m tests.benchmarks.stems).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....models.onnx_graph import add_initializer, constant, integer, only_consumer

MOST_CHANNELS = 4
"""Wider inputs that miss the multiple would pay for the copy of a whole map."""


def pad_stem_channels(model: ir.Model, multiple: int) -> int:
    """Fill up the codes that such convolutions of a Q/DQ graph read, in place; returns how many were."""
    return sum(_pad(model, node, multiple) for node in list(model.graph) if node.op_type == "Conv")


def _pad(model: ir.Model, convolution: ir.Node, multiple: int) -> bool:
    image, weight = (value.producer() if value is not None else None for value in convolution.inputs[:2])
    if image is None or weight is None or {image.op_type, weight.op_type} != {"DequantizeLinear"}:
        return False
    codes, stored = image.inputs[0], weight.inputs[0]
    weights = constant(stored)
    if codes is None or stored is None or weights is None or weights.ndim != 4 or integer(convolution, "group", 1) != 1:
        return False
    channels = weights.shape[1]
    missing = -channels % multiple
    if missing == 0 or channels > MOST_CHANNELS or weights.shape[2:] == (1, 1) or only_consumer(codes) is not image:
        return False
    graph, name = model.graph, str(codes.name)
    before = codes.producer()
    if before is not None and before.op_type == "Pad" and len(before.inputs) < 4:
        amounts = constant(before.inputs[1])
        if amounts is None:
            return False
        amounts = amounts.copy()
        amounts[weights.ndim + 1] += missing
        before.replace_input_with(1, add_initializer(graph, f"{name}_channel_pads", amounts))
        widened = codes
    else:
        amounts = np.array([0, 0, 0, 0, 0, missing, 0, 0], np.int64)
        pad = ir.Node(
            "", "Pad", [codes, add_initializer(graph, f"{name}_channel_pads", amounts), image.inputs[2]],
            name=f"{name}_channels",
        )  # fmt: skip
        graph.insert_before(image, pad)
        widened = pad.outputs[0]
        widened.name = f"{name}_widened"
        image.replace_input_with(0, widened)
    for value in (widened, image.outputs[0]):
        if value.shape is not None:
            value.shape = ir.Shape([value.shape[0], channels + missing, *value.shape[2:]])
    wider = np.pad(weights, ((0, 0), (0, missing), (0, 0), (0, 0)))
    stored.const_value, stored.shape = ir.tensor(wider, name=stored.name), ir.Shape(wider.shape)
    return True
