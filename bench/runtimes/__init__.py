"""Runtimes that models are measured under, by name. Importing this loads none of them."""

from __future__ import annotations

from ... import errors
from . import onnxruntime
from .adapter import Adapter

RUNTIMES: dict[str, Adapter] = {"onnxruntime": onnxruntime}


def find_runtime(name: str) -> Adapter:
    """The adapter called `name`. Raises EdgeLatheError for an unknown or missing runtime."""
    if name not in RUNTIMES:
        raise errors.inputs.unknown_choice("runtime", name, RUNTIMES)
    adapter = RUNTIMES[name]
    if adapter.reason_why_not() is not None:
        raise errors.bench.missing_runtime(name, adapter.PACKAGE)
    return adapter
