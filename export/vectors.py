"""Test vectors: a few inputs and the outputs they must give, kept beside the model for whoever deploys it."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .. import errors, files
from .parity import Parity, check_parity

KEYS = ("inputs", "outputs")


def write_vectors(
    path: Path | str, inputs: np.ndarray, outputs: np.ndarray, others: Mapping[str, np.ndarray] | None = None
) -> None:
    """Write float32 `inputs` [N, C, H, W] and `outputs` [N, ...] as .npz; equal arrays, equal bytes.

    others -- what the file's other outputs must give, by name.

    Raises EdgeLatheError for arrays that do not belong together or are not finite, and when the file cannot
    be written.
    """
    path = Path(path)
    vectors = {"inputs": np.ascontiguousarray(inputs), "outputs": np.ascontiguousarray(outputs)}
    _check(path, vectors)
    vectors |= {name: np.ascontiguousarray(array) for name, array in (others or {}).items()}

    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            np.savez(file, allow_pickle=False, **vectors)

    files.write_atomic(path, write, "the test vectors")


def read_vectors(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """The inputs and outputs of a file of test vectors. Raises EdgeLatheError for anything else."""
    path = Path(path)
    if not path.is_file():
        raise errors.inputs.missing_file("the test vectors", path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            vectors = {key: archive[key] for key in KEYS}
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        AttributeError,
        TypeError,
    ) as reason:
        raise errors.export.bad_test_vectors(path, 'it is no .npz with arrays "inputs" and "outputs"') from reason
    _check(path, vectors)
    return vectors["inputs"], vectors["outputs"]


def check_vectors(vectors: Path | str, model: Path | str, *, tolerance: float, threads: int = 1) -> Parity:
    """Run the test vectors through an ONNX file, one by one and all at once (see `check_parity`)."""
    inputs, outputs = read_vectors(vectors)
    batches = tuple(sorted({1, len(inputs)}))
    return check_parity(lambda _: outputs, model, inputs, batches=batches, tolerance=tolerance, threads=threads)


def _check(path: Path, vectors: dict[str, np.ndarray]) -> None:
    inputs, outputs = (vectors[key] for key in KEYS)
    for key in KEYS:
        if vectors[key].dtype != np.float32:
            raise errors.export.bad_test_vectors(path, f"its {key} are {vectors[key].dtype}, not float32")
        if vectors[key].ndim < 2 or not np.isfinite(vectors[key]).all():
            raise errors.export.bad_test_vectors(path, f"its {key} are no batch of finite numbers")
    if len(inputs) != len(outputs) or not len(inputs):
        raise errors.export.bad_test_vectors(path, f"it has {len(inputs)} inputs and {len(outputs)} outputs")
