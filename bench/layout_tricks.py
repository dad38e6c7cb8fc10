"""Multiplications by zeros that a quantizer adds to suit a kernel, so that MACs stay those of the network.

EdgeLathe's quantizer fills up the input channels of a first convolution, folds its pixels into channels, and writes
a shortcut that only picks channels as a 1 x 1 convolution. None of this is work of the network. Weights that pruning
has set to zero are counted: a dense kernel multiplies by them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.numpy_helper

_FILLS = ("Pad", "SpaceToDepth")
_CODES = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)


def counted_taps(graph: onnx.GraphProto) -> dict[str, int]:
    """Multiplications per output element of the int8 convolutions behind such a rewrite, by the name of their output.

    Reads the codes of weights, so it must come before anything drops them from memory.
    """
    producers = {name: node for node in graph.node for name in node.output}
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    found: dict[str, int] = {}
    for node in graph.node:
        codes = initializers.get(_behind_dequantize(node.input[1], producers)) if node.op_type == "Conv" else None
        if codes is None or codes.data_type not in _CODES or len(codes.dims) != 4 or not codes.raw_data:
            continue
        source = producers.get(_behind_dequantize(node.input[0], producers))
        if _selects_by_shape(node, codes):
            taken = onnx.numpy_helper.to_array(codes).reshape(codes.dims[0], -1)
            if (np.count_nonzero(taken, axis=1) <= 1).all() and len(np.unique(taken[taken != 0])) == 1:
                found[node.output[0]] = 0
        elif source is not None and source.op_type in _FILLS:
            found[node.output[0]] = int(np.count_nonzero(onnx.numpy_helper.to_array(codes).any(axis=0)))
    return found


def _selects_by_shape(node: onnx.NodeProto, weight: onnx.TensorProto) -> bool:
    grouped = any(attribute.name == "group" and attribute.i != 1 for attribute in node.attribute)
    return not grouped and tuple(weight.dims[2:]) == (1, 1) and weight.dims[1] > 1 and len(node.input) == 2


def _behind_dequantize(name: str, producers: Mapping[str, onnx.NodeProto]) -> str:
    source = producers.get(name)
    return source.input[0] if source is not None and source.op_type == "DequantizeLinear" else name
