"""What a runtime must offer to be measured; each runtime is one module of this folder with these functions.

Adapters import their runtime inside the functions: a runtime that is not installed costs nothing, and a
worker's memory holds the one it measures. None imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Port:
    """An input or output of a loaded model."""

    name: str
    shape: tuple[int | str, ...]
    """Open dimensions by name, or "?"."""
    dtype: str
    """A numpy dtype name; for a type numpy lacks, the runtime's own name."""


class Loaded(Protocol):
    """A model that is ready to run."""

    @property
    def inputs(self) -> tuple[Port, ...]: ...

    @property
    def outputs(self) -> tuple[Port, ...]: ...

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why its answers on this processor should not be trusted, one clause each; empty when they may be."""
        ...

    def run(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """All outputs in the order of `outputs`."""
        ...


class Adapter(Protocol):
    """A runtime; satisfied by a module."""

    @property
    def PACKAGE(self) -> str:  # noqa: N802
        """The name under which pip installs it."""
        ...

    def reason_why_not(self) -> str | None:
        """Why it cannot be used here, or None; must not import the runtime."""
        ...

    def version(self) -> str:
        """Imports the runtime and returns its version."""
        ...

    def load(self, path: Path, threads: int) -> Loaded:
        """Open an ONNX file. Raises EdgeLatheError when the runtime refuses it."""
        ...
