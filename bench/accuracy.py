"""Accuracy of a deployed file: its predictions, and what they are worth against labels or another model's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .. import errors
from ..files import sha256_bytes
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
    return np.concatenate(
        [np.empty(0, np.int64)]
        + [np.argmax(part, axis=1) for part in _batches(path, images, preprocess, runtime, threads, batch)]
    )


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
    parts = _batches(path, images, preprocess, runtime, threads, batch)
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


def _batches(
    path: Path,
    images: np.ndarray,
    preprocess: Callable[[np.ndarray], np.ndarray],
    runtime: str,
    threads: int,
    batch: int,
) -> list[np.ndarray]:
    if batch < 1:
        raise errors.inputs.bad_setting("batch", batch, "at least 1")
    model = find_runtime(runtime).load(path, threads)
    for doubt in model.doubts:
        warnings.warn(f"{path}: {doubt}", stacklevel=3)
    fixed = model.inputs[0].shape[0] if model.inputs and model.inputs[0].shape else None
    size = fixed if isinstance(fixed, int) and fixed > 0 else batch
    return [
        _run(path, model, preprocess(images[at : at + size]), at, size if size == fixed else None)
        for at in range(0, len(images), size)
    ]


def _run(path: Path, model: Loaded, inputs: np.ndarray, at: int, fixed: int | None) -> np.ndarray:
    count = len(inputs)
    if fixed is not None and count < fixed:
        # A model exported for a fixed batch takes no fewer; what the copies predict is cut off again.
        inputs = np.concatenate([inputs, np.repeat(inputs[-1:], fixed - count, axis=0)])
    logits = model.run({model.inputs[0].name: inputs})[0]
    if logits.ndim > 2 and logits.size == logits.shape[0] * logits.shape[1]:
        logits = logits.reshape(logits.shape[:2])
    if logits.ndim != 2 or len(logits) != len(inputs):
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
