"""Old ONNX files brought up to date: a newer opset, and stored weights that are no inputs."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper, version_converter

from .. import errors

RAISED = "edgelathe.opset_raised"
"""Key of the metadata that tells of a raised opset, as "11 to 13"."""


def opset_of(proto: onnx.ModelProto) -> int:
    """Version of the standard domain that the model asks for."""
    return next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 1)


def modernize(proto: onnx.ModelProto, path: Path | str, *, oldest: int, need: str) -> onnx.ModelProto:
    """The same function in opset `oldest` or a newer one, its initializers no longer listed among its inputs.

    Files of IR version 3, as opset 9 and before are often written, list every weight as an input; the weight is then
    but a default. That the opset was raised is kept in the metadata `RAISED`. `need` says what the opset is for.
    Raises EdgeLatheError where ONNX's version converter cannot raise it.
    """
    found = opset_of(proto)
    told = {entry.key: entry.value for entry in proto.metadata_props}
    if found < oldest:
        try:
            proto = version_converter.convert_version(proto, oldest)
        except Exception as reason:  # of a third party: RuntimeError, ConvertError and others
            raise errors.quantize.opset_too_old(path, found, oldest, need, _why(proto, oldest, reason)) from reason
        helper.set_model_props(proto, {**told, RAISED: f"{found} to {oldest}"})
    weights = {tensor.name for tensor in proto.graph.initializer}
    if any(value.name in weights for value in proto.graph.input):
        free = [value for value in proto.graph.input if value.name not in weights]
        del proto.graph.input[:]
        proto.graph.input.extend(free)
    standard = [helper.make_opsetid("", opset_of(proto))]
    proto.ir_version = max(proto.ir_version, 4, helper.find_min_ir_version_for(standard))
    return proto


def _why(proto: onnx.ModelProto, oldest: int, reason: Exception) -> str:
    """What the version converter complains about, in a few words."""
    for node in proto.graph.node:
        if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type, max_inclusive_version=oldest):
            return f"it does not know the operator {node.op_type}"
    return str(reason).replace("\n", " ").rpartition("failed: ")[2].strip()[:120] or type(reason).__name__
