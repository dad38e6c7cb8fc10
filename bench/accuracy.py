"""Accuracy of a deployed file: its predictions, and what they are worth against labels or another model's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .. import errors
from ..files import sha256_bytes
from ..models.exitnames import PREFIX
from .records import Accuracy
from .runtimes import find_runtime
from .runtimes.adapter import Loaded
from .stats import wilson


def predict(
    path: Path,
    images: np.ndarray,
    preprocess: Callable[[np.ndarray], np.ndarray],
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    batch: int = 64,
) -> np.ndarray:
    """Class of each image, int64 [N], by the file at `path`.

    `images` is uint8 [N,H,W,C]; `preprocess` turns a batch of it into what the model takes (float32
    [n,C,H,W]). Raises EdgeLatheError when the runtime refuses the file, the output is not [images, classes],
    or it is not finite (naming the first such image).
    """
    own, *_ = predict_outputs(path, images, preprocess, runtime=runtime, threads=threads, batch=batch).values()
    return own


def predict_outputs(
    path: Path,
    images: np.ndarray,
    preprocess: Callable[[np.ndarray], np.ndarray],
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    batch: int = 64,
) -> dict[str, np.ndarray]:
    """Class of each image, int64 [N], by the file's own answer, which is the first, and by each of its early exits.

    By the name of the output; otherwise as `predict`.
    """
    found = _batches(path, images, preprocess, runtime, threads, batch)
    return {
        name: np.concatenate([np.empty(0, np.int64), *(np.argmax(part, axis=1) for part in parts)])
        for name, parts in found.items()
    }


def predict_logits(
    path: Path,
    images: np.ndarray,
    preprocess: Callable[[np.ndarray], np.ndarray],
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    batch: int = 64,
) -> np.ndarray:
    """Logits [N, classes] of each image; otherwise as `predict`."""
    parts, *_ = _batches(path, images, preprocess, runtime, threads, batch).values()
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


def _batches(
    path: Path,
    images: np.ndarray,
    preprocess: Callable[[np.ndarray], np.ndarray],
    runtime: str,
    threads: int,
    batch: int,
) -> dict[str, list[np.ndarray]]:
    """Logits of the first output and of the early exits, by name, a batch after the other."""
    if batch < 1:
        raise errors.inputs.bad_setting("batch", batch, "at least 1")
    model = find_runtime(runtime).load(path, threads)
    for doubt in model.doubts:
        warnings.warn(f"{path}: {doubt}", stacklevel=3)
    fixed = model.inputs[0].shape[0] if model.inputs and model.inputs[0].shape else None
    size = fixed if isinstance(fixed, int) and fixed > 0 else batch
    names = [output.name for output in model.outputs]
    wanted = [number for number, name in enumerate(names) if not number or name.startswith(PREFIX)]
    found: dict[str, list[np.ndarray]] = {names[number]: [] for number in wanted}
    for at in range(0, len(images), size):
        outputs = _run(path, model, preprocess(images[at : at + size]), at, size if size == fixed else None, wanted)
        for number, logits in zip(wanted, outputs, strict=True):
            found[names[number]].append(logits)
    return found


def _run(
    path: Path, model: Loaded, inputs: np.ndarray, at: int, fixed: int | None, wanted: Sequence[int]
) -> list[np.ndarray]:
    count = len(inputs)
    if fixed is not None and count < fixed:
        # A model exported for a fixed batch takes no fewer; what the copies predict is cut off again.
        inputs = np.concatenate([inputs, np.repeat(inputs[-1:], fixed - count, axis=0)])
    outputs = model.run({model.inputs[0].name: inputs})
    return [_logits(path, outputs[number], len(inputs), count, at) for number in wanted]


def _logits(path: Path, logits: np.ndarray, given: int, count: int, at: int) -> np.ndarray:
    """The first `count` rows of an output for `given` images, of which the first is number `at` of all."""
    if logits.ndim > 2 and logits.size == logits.shape[0] * logits.shape[1]:
        logits = logits.reshape(logits.shape[:2])
    if logits.ndim != 2 or len(logits) != given:
        raise errors.bench.not_a_classifier(path, logits.shape)
    logits = logits[:count]
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        raise errors.bench.not_finite_output(path, at + int(np.argmin(finite)))
    return logits


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> Accuracy:
    """Top-1 of `predictions` (int [N]) against `labels` (int [N]) with its Wilson interval."""
    _check("predictions", predictions, "labels", labels)
    if len(labels) == 0:
        raise errors.bench.no_images()
    correct, total = int(np.sum(predictions == labels)), len(labels)
    low, high = wilson(correct, total)
    return Accuracy(
        correct=correct,
        total=total,
        top1=correct / total,
        low=low,
        high=high,
        predictions_sha256=sha256_bytes(np.ascontiguousarray(predictions, "<i8").tobytes()),
    )


def agreement(predictions: np.ndarray, reference: np.ndarray) -> Accuracy:
    """Share of images classified as the reference classifies them; `correct` counts the agreeing."""
    return accuracy(predictions, reference)


def paired(predictions: np.ndarray, reference: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
    """Images that only `predictions` has right (gained), and that only `reference` has right (lost)."""
    _check("predictions", predictions, "labels", labels)
    _check("reference predictions", reference, "labels", labels)
    own, other = predictions == labels, reference == labels
    return int(np.sum(own & ~other)), int(np.sum(other & ~own))


def _check(what: str, values: np.ndarray, other: str, others: np.ndarray) -> None:
    if len(values) != len(others):
        raise errors.data.unequal_lengths(what, other, len(values), len(others))
