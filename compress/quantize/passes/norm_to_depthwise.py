"""Write a batch normalisation that no convolution precedes as a depthwise 1 x 1 convolution.

    y_c = scale_c * x_c + shift_c  is a convolution with one 1 x 1 kernel per channel.

Runtimes have an int8 kernel for that and none for BatchNormalization, so the pre-activation blocks of DenseNet
stay in int8 from one end to the other; the ReLU behind it disappears into its output range.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....models.onnx_graph import add_initializer, constant, rank, real


def norm_to_depthwise(model: ir.Model) -> int:
    """Rewrite every constant BatchNormalization over an image; returns how many."""
    changed = 0
    for norm in [node for node in model.graph if node.op_type == "BatchNormalization"]:
        affine = affine_of(norm)
        if rank(norm.inputs[0]) != 4 or affine is None:
            continue
        scale, shift = affine
        output = norm.outputs[0]
        weight = add_initializer(
            model.graph, f"{output.name}_scale_weight", scale.astype(np.float32).reshape(-1, 1, 1, 1)
        )
        bias = add_initializer(model.graph, f"{output.name}_shift_bias", shift.astype(np.float32))
        depthwise = ir.Node(
            "", "Conv", [norm.inputs[0], weight, bias], [ir.AttrInt64("group", len(scale))], name=norm.name
        )
        ir.convenience.replace_nodes_and_values(
            model.graph, norm, [norm], [depthwise], [output], [depthwise.outputs[0]]
        )
        changed += 1
    return changed


def affine_of(norm: ir.Node) -> tuple[np.ndarray, np.ndarray] | None:
    """Per-channel (scale, shift) in float64 that a BatchNormalization applies, or None when it is not constant.

    scale = gamma / sqrt(var + eps),  shift = beta - mean * scale
    """
    gamma, beta, mean, variance = (constant(value) for value in norm.inputs[1:5])
    if gamma is None or beta is None or mean is None or variance is None:
        return None
    scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + real(norm, "epsilon", 1e-5))
    return scale, beta.astype(np.float64) - mean.astype(np.float64) * scale
