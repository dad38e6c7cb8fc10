"""From any ONNX file to the canonical float graph that calibration and placement work on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, RemoveUnusedNodesPass

from ....models.onnx_file import load_onnx
from ....models.onnx_opset import modernize
from ....models.onnx_rewrites import rewrite_graph
from .activation_forms import activation_forms
from .fold_constants import fold_constants
from .fold_scales import fold_scales
from .infer_shapes import infer_shapes
from .matmul_to_gemm import matmul_to_gemm
from .norm_to_depthwise import norm_to_depthwise
from .shortcut_to_convolution import shortcut_to_convolution
from .split_to_slices import split_to_slices

OLDEST_OPSET = 13
"""QuantizeLinear learnt per-channel scales in opset 13."""

Pass = Callable[[ir.Model], int]
"""Rewrites the graph in place without changing what it computes; returns how many times it did."""


PASSES: tuple[Pass, ...] = (
    fold_constants,
    infer_shapes,
    rewrite_graph,
    activation_forms,
    split_to_slices,
    norm_to_depthwise,
    fold_scales,
    matmul_to_gemm,
    shortcut_to_convolution,
    infer_shapes,
)


def prepare(path: Path | str) -> ir.Model:
    """Load the model and bring it into canonical form: constants and batch norm folded, shapes known.

    The result computes the same function as the file, up to float32 rounding.
    Raises EdgeLatheError for files that cannot be read, and for those whose opset cannot be raised to 13.
    """
    proto = modernize(load_onnx(path), path, oldest=OLDEST_OPSET, need="scales per output channel need")
    told = {entry.key: entry.value for entry in proto.metadata_props}
    model = ir.from_proto(proto)
    ClearMetadataAndDocStringPass()(model)
    model.metadata_props.update(told)
    for rewrite in PASSES:
        rewrite(model)
    RemoveUnusedNodesPass()(model)
    return model
