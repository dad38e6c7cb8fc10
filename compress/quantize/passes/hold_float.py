"""Keep ONNX Runtime from quantizing the operators that a plan leaves in float.

Since 1.22 the runtime gives a convolution or Gemm whose input comes from a DequantizeLinear and whose result goes,
through Relu and Clip at most, to a QuantizeLinear int8 weights of its own making: one scale for the whole tensor,
whatever the file says (its pass WeightBiasQuantization). A layer that was kept in float because of its weights would
get the worst of all quantizations. The pass asks for one scale at the input; the same scale written once per channel
means the same and is not taken.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....models.onnx_graph import add_initializer, constant, integer

REQUANTIZED = ("Conv", "ConvTranspose", "Gemm")


def hold_float(quantized: ir.Model) -> int:
    """Write the input scale of every float convolution and Gemm per channel, in place; returns how many there were."""
    held = 0
    for node in [node for node in quantized.graph if node.op_type in REQUANTIZED]:
        source = None if node.inputs[0] is None else node.inputs[0].producer()
        channels = _input_channels(node)
        if source is None or source.op_type != "DequantizeLinear" or channels is None:
            continue
        if "axis" not in source.attributes:
            _per_channel(quantized, source, channels)
            held += 1
    return held


def _input_channels(node: ir.Node) -> int | None:
    """None where the weights are not stored in float, or the axis of the channels depends on an attribute."""
    weight = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if weight is None or weight.dtype != np.float32:
        return None
    if node.op_type == "Conv":
        return int(weight.shape[1]) * integer(node, "group", 1)
    if node.op_type == "ConvTranspose":
        return int(weight.shape[0])
    if integer(node, "transA", 0):
        return None
    return int(weight.shape[1 if integer(node, "transB", 0) else 0])


def _per_channel(model: ir.Model, dequantize: ir.Node, channels: int) -> None:
    name = dequantize.outputs[0].name
    for position, what in ((1, "scales"), (2, "zero_points")):
        stored = constant(dequantize.inputs[position]) if position < len(dequantize.inputs) else None
        if stored is not None:
            repeated = np.full(channels, stored.item(), stored.dtype)
            dequantize.replace_input_with(position, add_initializer(model.graph, f"{name}_{what}", repeated))
    dequantize.attributes["axis"] = ir.AttrInt64("axis", 1)
