"""From any ONNX file to the canonical float graph that calibration and placement work on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, RemoveUnusedNodesPass, ShapeInferencePass
from onnxscript.optimizer import optimize_ir

from ...models.onnx_file import load_onnx
from ...models.onnx_rewrites import rewrite_graph
from .norm_to_depthwise import norm_to_depthwise

OLDEST_OPSET = 13
"""QuantizeLinear learnt per-channel scales in opset 13."""

Pass = Callable[[ir.Model], int]
"""Rewrites the graph in place without changing what it computes; returns how many times it did."""


def fold_constants(model: ir.Model) -> int:
    """Fold constants, and batch norms into the convolutions before them, by onnxscript's optimizer."""
    before = model.graph.num_nodes()
    optimize_ir(model, num_iterations=2)
    return before - model.graph.num_nodes()


def infer_shapes(model: ir.Model) -> int:
    return int(ShapeInferencePass()(model).modified)


PASSES: tuple[Pass, ...] = (
    fold_constants,
    infer_shapes,
    rewrite_graph,
    norm_to_depthwise,
    infer_shapes,
)


def prepare(path: Path | str) -> ir.Model:
    """Load the model and bring it into canonical form: constants and batch norm folded, shapes known.

    The result computes the same function as the file, up to float32 rounding.
    Raises EdgeLatheError for files that cannot be read.
    """
    proto = load_onnx(path)
    if opset_of(proto) < OLDEST_OPSET:
        proto = onnx.version_converter.convert_version(proto, OLDEST_OPSET)
    model = ir.from_proto(proto)
    ClearMetadataAndDocStringPass()(model)
    model.metadata_props.update({entry.key: entry.value for entry in proto.metadata_props})
    for rewrite in PASSES:
        rewrite(model)
    RemoveUnusedNodesPass()(model)
    return model


def opset_of(proto: onnx.ModelProto) -> int:
    return next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 1)
