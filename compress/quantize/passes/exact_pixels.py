"""Give the first convolution pixels instead of normalised inputs, so that quantizing the input loses nothing.

    conv(w, b)((p / 255 - mean) / std)  =  conv(v, b - sum(v (255 mean - c)))(p - c),   v = w / (255 std)

A pixel p is one of 256 codes already. One scale and zero point over three differently normalised channels does not
hit those codes, and costs a CIFAR ResNet-20 a quarter of its whole quantization noise. The zero point is the average
pixel c, because a convolution of p instead of p - c would add the rounding errors of its weights up over that
average. The border is padded before, where zero still means the average pixel of each channel.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ....models.onnx_graph import add_initializer, constant, integer, only_consumer

PIXELS = "pixels"
"""Name of the value that holds them, float32 -c..255 - c."""
CENTER = "edgelathe.pixel_center"
"""Key of the model's metadata that holds c."""
PADDING, GAIN, OFFSET = "pixels_pad", "pixels_gain", "pixels_offset"
"""Names of the nodes that pad inputs and turn them back into pixels, x * gain + offset - c: the quantizer of the input
does what they do."""
SAFE_FRACTION = 0.48
"""Of a step; inputs come within 1e-4 of a step of their pixels."""


def exact_pixels(prepared: ir.Model, mean: Sequence[float], std: Sequence[float]) -> ir.Model | None:
    """A graph that computes the same function through pixels, or None where no convolution alone reads the input.

    `mean` and `std` are what pixels / 255 are normalised by, per channel.
    """
    model = prepared.clone()
    (image,) = model.graph.inputs
    convolution = only_consumer(image)
    if convolution is None or convolution.op_type != "Conv" or integer(convolution, "group", 1) != 1:
        return None
    weight, bias = (constant(value) for value in (*convolution.inputs[1:], None)[:2])
    padding = _padding(convolution)
    if weight is None or weight.ndim != 4 or weight.shape[1] != len(mean) or padding is None:
        return None
    if bias is None and len(convolution.inputs) > 2 and convolution.inputs[2] is not None:
        return None
    gain, offset = 255.0 * np.array(std, np.float64), 255.0 * np.array(mean, np.float64)
    scaled = weight.astype(np.float64) / gain[:, None, None]
    center = np.floor(offset.mean() + 0.5)
    offset = offset - center
    shift = np.zeros(len(weight)) if bias is None else bias.astype(np.float64)
    shift -= (scaled * offset[:, None, None]).sum((1, 2, 3))
    source = _pad(model, convolution, image, padding) if any(padding) else image
    for name, op, values in ((GAIN, "Mul", gain), (OFFSET, "Add", offset)):
        operand = add_initializer(model.graph, f"{name}_values", values.astype(np.float32).reshape(1, -1, 1, 1))
        source = _before(convolution, ir.Node("", op, [source, operand], name=name), like=source)
    source.name = PIXELS
    convolution.replace_input_with(0, source)
    convolution.replace_input_with(1, add_initializer(model.graph, "pixels_weight", scaled.astype(np.float32)))
    if len(convolution.inputs) < 3:
        convolution.resize_inputs(3)
    convolution.replace_input_with(2, add_initializer(model.graph, "pixels_bias", shift.astype(np.float32)))
    model.metadata_props[CENTER] = str(int(center))
    ir.passes.common.RemoveUnusedNodesPass()(model)
    return model


def quantize_inputs_as_pixels(model: ir.Model) -> None:
    """Let one QuantizeLinear with a scale per channel do the work of gain, offset and QuantizeLinear, in place.

    code = round(x * gain + rest) + round(offset): the fraction of the offset is added before only where it is so near
    one half that rounding would go either way.
    """
    add = next((node for node in model.graph if node.name == OFFSET), None)
    if add is None:
        return
    quantize = only_consumer(add.outputs[0])
    multiply = add.inputs[0].producer() if add.inputs[0] is not None else None
    assert quantize is not None and multiply is not None and multiply.inputs[0] is not None
    source = multiply.inputs[0]
    gain, offset, zero = (
        constant(value).astype(np.float64).ravel()  # type: ignore[union-attr]
        for value in (multiply.inputs[1], add.inputs[1], quantize.inputs[2])
    )
    rest = offset - np.floor(offset + 0.5)
    if np.abs(rest).max() > SAFE_FRACTION:
        shift = add_initializer(model.graph, f"{OFFSET}_rest", (rest / gain).astype(np.float32).reshape(1, -1, 1, 1))
        source = _before(quantize, ir.Node("", "Add", [source, shift], name=f"{OFFSET}_fraction"), like=source)
    code_type = constant(quantize.inputs[2]).dtype  # type: ignore[union-attr]
    scales = add_initializer(model.graph, f"{PIXELS}_scales", (1.0 / gain).astype(np.float32))
    zero_points = add_initializer(
        model.graph, f"{PIXELS}_zero_points", (np.floor(offset + 0.5) + zero).astype(code_type)
    )
    quantize.replace_input_with(0, source)
    quantize.replace_input_with(1, scales)
    quantize.replace_input_with(2, zero_points)
    quantize.attributes["axis"] = ir.AttrInt64("axis", 1)
    for node in (add, multiply):
        model.graph.remove(node, safe=True)


def _padding(convolution: ir.Node) -> list[int] | None:
    """[top, left, bottom, right], or None where it depends on the size of the image."""
    automatic = convolution.attributes.get("auto_pad")
    if automatic is not None and automatic.as_string() not in ("NOTSET", "VALID"):
        return None
    return list(convolution.attributes.get_ints("pads", [0, 0, 0, 0]))


def _pad(model: ir.Model, convolution: ir.Node, image: ir.Value, padding: list[int]) -> ir.Value:
    top, left, bottom, right = padding
    amounts = add_initializer(model.graph, "pixels_padding", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
    convolution.attributes["pads"] = ir.AttrInt64s("pads", [0, 0, 0, 0])
    padded = _before(convolution, ir.Node("", "Pad", [image, amounts], name=PADDING), like=image)
    batch, channels, height, width = image.shape or (None,) * 4
    if isinstance(height, int) and isinstance(width, int):
        padded.shape = ir.Shape([batch, channels, height + top + bottom, width + left + right])
    return padded


def _before(convolution: ir.Node, node: ir.Node, *, like: ir.Value) -> ir.Value:
    """Put `node` before the convolution; its result has the type and shape of `like`."""
    assert convolution.graph is not None
    convolution.graph.insert_before(convolution, node)
    output = node.outputs[0]
    output.name, output.type, output.shape = f"{node.name}_output", copy.copy(like.type), like.shape
    return output
