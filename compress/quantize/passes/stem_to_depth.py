"""Fold the pixels of a strided first convolution into channels, so that its int8 kernel copies less often.

    conv_k,stride 2(x)  =  conv_ceil(k/2),stride 1(SpaceToDepth_2(x))   with the weights spread over 4 C channels

ONNX Runtime's int8 kernel gathers rows of a kernel's width from the image. A large kernel over four channels does so
often; over twelve, with half the rows, seldom, which is worth the zeros that it then multiplies by: a 7 x 7 stem at
224 x 224 takes 0.86 of its time. Kernels of 3 x 3 gain nothing (python -m tests.benchmarks.stems).
"""

from __future__ import annotations

import copy

import numpy as np
import onnx_ir as ir

from ....models.onnx_graph import add_initializer, constant, integer, only_consumer

MOST_CHANNELS = 4
LEAST_KERNEL = 5


def stem_to_depth(model: ir.Model, name: str) -> bool:
    """Rewrite the convolution that alone reads the value `name`, in place; False where that is not possible.

    It must have a large kernel, stride 2, no padding and an input of even height and width.
    """
    image = next(value for node in model.graph for value in node.outputs if value.name == name)
    convolution = only_consumer(image)
    if convolution is None or not _is_strided_stem(convolution) or image.shape is None:
        return False
    batch, channels, height, width = image.shape
    weight = constant(convolution.inputs[1])
    if (
        weight is None
        or not isinstance(channels, int)
        or channels > MOST_CHANNELS
        or max(weight.shape[2:]) < LEAST_KERNEL
    ):
        return False
    if not isinstance(height, int) or not isinstance(width, int) or height % 2 or width % 2:
        return False
    fold = ir.Node("", "SpaceToDepth", [image], [ir.AttrInt64("blocksize", 2)], name=f"{name}_to_depth")
    folded = fold.outputs[0]
    folded.name, folded.type = f"{name}_in_depth", copy.copy(image.type)
    folded.shape = ir.Shape([batch, 4 * channels, height // 2, width // 2])
    assert convolution.graph is not None
    convolution.graph.insert_before(convolution, fold)
    convolution.replace_input_with(0, folded)
    convolution.replace_input_with(1, add_initializer(model.graph, f"{name}_depth_weight", spread(weight)))
    del convolution.attributes["strides"]
    convolution.attributes.pop("kernel_shape", None)
    ir.passes.common.RemoveUnusedNodesPass()(model)
    return True


def spread(weight: np.ndarray) -> np.ndarray:
    """float32 [O, C, k, l] -> [O, 4 C, ceil(k/2), ceil(l/2)], in the channel order of SpaceToDepth."""
    outputs, channels, tall, wide = weight.shape
    even = np.zeros((outputs, channels, tall + tall % 2, wide + wide % 2), weight.dtype)
    even[:, :, :tall, :wide] = weight
    parts = even.reshape(outputs, channels, even.shape[2] // 2, 2, even.shape[3] // 2, 2)
    return np.ascontiguousarray(parts.transpose(0, 3, 5, 1, 2, 4)).reshape(outputs, 4 * channels, *parts.shape[2:5:2])


def _is_strided_stem(convolution: ir.Node) -> bool:
    ints = convolution.attributes.get_ints
    automatic = convolution.attributes.get("auto_pad")
    return (
        convolution.op_type == "Conv"
        and integer(convolution, "group", 1) == 1
        and list(ints("strides", [1, 1])) == [2, 2]
        and not any(ints("pads", [0, 0, 0, 0]))
        and list(ints("dilations", [1, 1])) == [1, 1]
        and (automatic is None or automatic.as_string() in ("NOTSET", "VALID"))
    )
