"""ONNX Runtime on a graph in memory."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir
import onnxruntime

from ... import errors

_OBLIVIOUS_OF_OUTPUTS = ["ConvAddActivationFusion"]
"""Fuses a convolution into the addition that reads it even where it is an output too, which is then missing."""


def open_session(model: ir.Model, settings: Mapping[str, str] | None = None) -> onnxruntime.InferenceSession:
    """A session on the CPU, with `settings` as its configuration entries; the runtime logs nothing.

    Outputs may be tensors that other nodes read.

    Raises EdgeLatheError where no temporary file can be written.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for key, word in (settings or {}).items():
        options.add_session_config_entry(key, word)
    with tempfile.TemporaryDirectory() as folder:
        # From files: a session opened from bytes keeps them, beside its own copy of all weights, as long as it lives,
        # and a message that holds the weights takes them twice while it is written.
        file = Path(folder) / "model.onnx"
        try:
            ir.save(model, file, external_data="weights.bin")
        except OSError as reason:
            raise errors.inputs.unwritable_file("a working copy of the model", file, str(reason.strerror)) from reason
        _return_memory()
        session = onnxruntime.InferenceSession(
            file,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=_OBLIVIOUS_OF_OUTPUTS if any(output.uses() for output in model.graph.outputs) else None,
        )
    _return_memory()
    return session


def _return_memory() -> None:
    """Give back what was freed: glibc would hold on to the copies of all weights that reading a model leaves behind."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
