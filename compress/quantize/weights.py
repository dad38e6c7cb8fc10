"""Weights to int8 codes and biases to int32 codes.

w ~ s_w * q_w,  |q_w| <= limit;   b ~ s_x * s_w * q_b      (Jacob et al. 2018, symmetric weights)
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...models.onnx_graph import integer

BIAS_LIMIT = 2.0**30
"""Largest bias code, half of int32, so that the sum of products still fits beside it."""


def weight_scales(
    weight: np.ndarray, axis: int | None, *, limit: int, bias: np.ndarray | None, input_scale: float
) -> np.ndarray:
    """float32 scales, [channels] along `axis` or a scalar array when `axis` is None.

    Scales are widened where the bias would otherwise overflow its int32 code: channels whose weights are almost
    zero keep their bias and lose weights that do not matter beside it.
    """
    if axis is None:
        largest = np.abs(weight).max(initial=0.0, keepdims=False)
        bias_size = 0.0 if bias is None else np.abs(bias).max(initial=0.0)
    else:
        others = tuple(i for i in range(weight.ndim) if i != axis)
        largest = np.abs(weight).max(axis=others, initial=0.0)
        bias_size = np.zeros(()) if bias is None else np.abs(bias)
    scales = np.maximum(largest.astype(np.float64) / limit, bias_size / (BIAS_LIMIT * input_scale))
    return np.where(scales < np.finfo(np.float32).tiny, 1.0, scales).astype(np.float32)


def output_axis(node: ir.Node) -> int:
    """The axis of a Conv's, Gemm's or MatMul's weights that counts output channels."""
    if node.op_type == "Conv":
        return 0
    return 0 if node.op_type == "Gemm" and integer(node, "transB", 0) else 1


def quantize_weight(weight: np.ndarray, scales: np.ndarray, axis: int | None, *, limit: int) -> np.ndarray:
    """int8 codes of `weight`, rounded half to even."""
    shape = [1] * weight.ndim
    if axis is not None:
        shape[axis] = -1
    codes = np.round(weight.astype(np.float64) / scales.astype(np.float64).reshape(shape))
    return np.clip(codes, -limit, limit).astype(np.int8)


def quantize_bias(bias: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """int32 codes of `bias`; `scales` is input scale times weight scales."""
    return np.round(bias.astype(np.float64) / scales.astype(np.float64)).astype(np.int32)
