"""ONNX Runtime on the CPU, at its default graph optimisation, as it is deployed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from ... import errors
from ..processor import QUANTIZED, doubt_about, usable_flags
from .adapter import Port

PACKAGE = "onnxruntime"

_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(bool)": "bool"}


def reason_why_not() -> str | None:
    return None if importlib.util.find_spec("onnxruntime") else f"the package {PACKAGE} is not installed"


def version() -> str:
    import onnxruntime

    return onnxruntime.__version__


class Session:
    """A model opened by ONNX Runtime; `settings` are attributes of its SessionOptions."""

    def __init__(self, path: Path, threads: int, **settings: object) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        for name, value in settings.items():
            setattr(options, name, value)
        if not path.is_file():
            raise errors.inputs.missing_file("the model", path)
        # The runtime raises a dozen unrelated classes, all directly under Exception, for a file it refuses.
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as reason:
            raise errors.bench.runtime_refused("onnxruntime", path, _first_line(reason)) from reason
        self._path = path
        self.doubts = _doubts(self._session)
        self.inputs = tuple(_port(value) for value in self._session.get_inputs())
        self.outputs = tuple(_port(value) for value in self._session.get_outputs())

    def run(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return self._session.run(None, inputs)
        except Exception as reason:
            raise errors.bench.runtime_refused("onnxruntime", self._path, _first_line(reason)) from reason


def _doubts(session: Any) -> tuple[str, ...]:
    quantized = session.get_modelmeta().custom_metadata_map.get(QUANTIZED)
    doubt = None if quantized is None else doubt_about(quantized, usable_flags())
    return () if doubt is None else (doubt,)


def load(path: Path, threads: int) -> Session:
    return Session(path, threads)


def _port(value: Any) -> Port:
    kind = value.type
    dtype = _DTYPES.get(kind, kind.removeprefix("tensor(").removesuffix(")"))
    shape = tuple(size if isinstance(size, int) else (size or "?") for size in value.shape)
    return Port(value.name, shape, dtype)


def _first_line(reason: Exception) -> str:
    lines = str(reason).strip().splitlines()
    return (lines[0] if lines else type(reason).__name__).rstrip(".")
