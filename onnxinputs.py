"""How pixels become the inputs of an ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .data import Dataset, Preprocess, normalisation
from .export.metadata import read_metadata


def onnx_preprocess(
    path: Path, data: Dataset, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Preprocess:
    """By `mean` and `std` where they are given, else by the file's metadata, else by the data set's figures.

    Raises EdgeLatheError for a missing or damaged file and for figures that cannot be used.
    """
    known, (channels, _, _) = read_metadata(path), data.shape
    return normalisation(channels, mean or known.mean or data.preprocess.mean, std or known.std or data.preprocess.std)
