"""Values whose codes follow from something else than their range, and stay as they were planned."""

from __future__ import annotations

import onnx_ir as ir

from ..passes.exact_pixels import PIXELS
from ..placing.targets import Target


def held_values(prepared: ir.Model, target: Target) -> set[str]:
    held = {PIXELS}
    for node in prepared.graph:
        if node.op_type in target.fixed_codes or node.op_type == "HardSigmoid":
            held.add(str(node.outputs[0].name))
        if node.op_type == "HardSigmoid" and node.inputs[0] is not None:  # the codes of its result follow from these
            held.add(str(node.inputs[0].name))
    return held
