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


def counted_taps(
    node: onnx.NodeProto,
    producers: Mapping[str, onnx.NodeProto],
    initializers: Mapping[str, onnx.TensorProto],
) -> int | None:
    """Multiplications per output element of a Conv behind such a rewrite; None for any other operator."""
    if node.op_type != "Conv":
        return None
    weight = initializers.get(_behind_dequantize(node.input[1], producers))
    if weight is None or len(weight.dims) != 4:
        return None
    if _selects_by_shape(node, weight):
        taken = onnx.numpy_helper.to_array(weight).reshape(weight.dims[0], -1)
        if (np.count_nonzero(taken, axis=1) <= 1).all() and len(np.unique(taken[taken != 0])) == 1:
            return 0
    source = producers.get(_behind_dequantize(node.input[0], producers))
    if source is None or source.op_type not in _FILLS:
        return None
    return int(np.count_nonzero(onnx.numpy_helper.to_array(weight).any(axis=0)))


def _selects_by_shape(node: onnx.NodeProto, weight: onnx.TensorProto) -> bool:
    grouped = any(attribute.name == "group" and attribute.i != 1 for attribute in node.attribute)
    return not grouped and tuple(weight.dims[2:]) == (1, 1) and weight.dims[1] > 1 and len(node.input) == 2


def _behind_dequantize(name: str, producers: Mapping[str, onnx.NodeProto]) -> str:
    source = producers.get(name)
    return source.input[0] if source is not None and source.op_type == "DequantizeLinear" else name
