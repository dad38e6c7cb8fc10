"""ONNX Runtime on a graph in memory."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
import onnxruntime


def open_session(model: ir.Model, settings: Mapping[str, str] | None = None) -> onnxruntime.InferenceSession:
    """A session on the CPU, with `settings` as its configuration entries; the runtime logs nothing."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for key, word in (settings or {}).items():
        options.add_session_config_entry(key, word)
    file = ir.to_proto(model).SerializeToString()
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
