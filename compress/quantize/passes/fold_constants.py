"""Compute what is constant, and take batch norms into the convolutions before them."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, NameFixPass

from .folded_already import folded_already


def fold_constants(model: ir.Model) -> int:
    """Run onnxscript's optimizer in place where it has anything to do; returns by how many nodes the graph shrank.

    Its rules fold constants, take BatchNormalization into Conv, ConvTranspose and Gemm and Pad into Conv, turn Min and
    Max into Clip, and drop Identity, Dropout and operators that change nothing. The tests of `prepare` hold it to that.
    """
    before = model.graph.num_nodes()
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    if folded_already(model):
        NameFixPass()(model)
    else:
        from onnxscript.optimizer import optimize_ir  # slow to import

        optimize_ir(model, num_iterations=2)
    return before - model.graph.num_nodes()
