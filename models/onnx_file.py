"""Opening ONNX files that may come from anywhere: checked, never executed, no path followed out of their folder."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from .. import errors


def load_onnx(path: Path | str) -> onnx.ModelProto:
    """Read an ONNX model with its external data, after the checker's structural tests.

    Raises EdgeLatheError for a missing, truncated or invalid file, and for external data that is missing or
    lies outside the model's folder.
    """
    path = Path(path)
    if not path.is_file():
        raise errors.missing_file("the ONNX model", path)
    try:
        model = onnx.load(path)
    except DecodeError as reason:
        raise errors.unreadable_file(
            "the ONNX model", path, "it is truncated or is no ONNX file", "export or copy it again"
        ) from reason
    except (onnx.checker.ValidationError, OSError, ValueError) as reason:
        raise errors.unreadable_file(
            "the ONNX model",
            path,
            f"its external data cannot be used ({_first_line(reason)})",
            "put the data file beside the model, inside its folder",
        ) from reason
    if not model.graph.node or not model.graph.output:
        raise errors.unreadable_file(
            "the ONNX model", path, "it is truncated or holds no graph", "export or copy it again"
        )
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as reason:
        raise errors.unreadable_file(
            "the ONNX model", path, f"it breaks the ONNX standard ({_first_line(reason)})", "export it again"
        ) from reason
    return model


def _first_line(reason: Exception) -> str:
    lines = str(reason).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(reason).__name__
