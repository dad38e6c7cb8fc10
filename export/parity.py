"""Does the exported file compute what the network computes, at every batch size it will meet?

The error is judged relative to the spread of the reference's outputs, so that one tolerance serves logits of
any size: relative = max |exported - reference| / (max reference - min reference).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from .. import errors
from ..models.onnx_file import load_onnx

if TYPE_CHECKING:
    from torch import nn

Run = Callable[[np.ndarray], np.ndarray]
"""float32 inputs [N, C, H, W] -> outputs [N, ...]."""


@dataclass(frozen=True)
class BatchParity:
    """The comparison at one batch size."""

    batch: int
    inputs: int
    """Inputs compared: as many whole batches as there were."""
    worst_absolute: float
    agreement: float
    """Share of inputs with the same argmax over the outputs of an input."""
    reason: str = ""
    """Why this batch size fails; empty where it passes."""


@dataclass(frozen=True)
class Parity:
    """All batch sizes together; `reason` joins what is wrong, and is empty exactly when `passed`."""

    batches: tuple[BatchParity, ...]
    worst_absolute: float
    scale: float
    """Spread of the reference's outputs: max - min."""
    relative: float
    """worst_absolute / scale; infinite where an output is not finite or is missing."""
    agreement: float
    tolerance: float
    passed: bool
    reason: str


def check_parity(
    reference: Run,
    path: Path | str,
    inputs: np.ndarray,
    *,
    batches: tuple[int, ...],
    tolerance: float,
    threads: int = 1,
    output: int = 0,
) -> Parity:
    """Compare output number `output` of the ONNX file `path` in onnxruntime with `reference` on float32 `inputs`
    [N, C, H, W].

    `reference` runs once on all inputs; the file runs on them in batches of each size of `batches`. Fails not
    only on a relative error above `tolerance` but also on NaN or infinite outputs, and on outputs that are
    the same for all inputs although the inputs differ; what fails is a value, not an exception.

    Raises EdgeLatheError for a file that is no ONNX model, for fewer inputs than a batch, and for a reference
    whose output has not one row per input.
    """
    if not batches or min(batches) < 1:
        raise errors.inputs.impossible_setting("batches", batches, "batch sizes of at least 1")
    if not tolerance > 0:
        raise errors.inputs.impossible_setting("tolerance", tolerance, "a number greater than 0")
    if len(inputs) < max(batches):
        raise errors.export.too_few_inputs(len(inputs), max(batches))
    expected = np.asarray(reference(inputs))
    if expected.ndim < 1 or len(expected) != len(inputs):
        raise errors.export.wrong_reference_output(expected.shape, len(inputs))
    if not np.isfinite(expected).all():
        return _verdict((), 0.0, tolerance, "the reference itself gives NaN or infinite outputs")
    scale = float(np.ptp(expected))
    try:
        run = onnx_runner(path, threads=threads, output=output)
    except errors.EdgeLatheError:
        raise
    except Exception as reason:  # onnxruntime's errors share no base class below Exception
        return _verdict((), scale, tolerance, f"onnxruntime cannot load the file: {_first_line(reason)}")
    results = tuple(_compare(run, expected, inputs, batch, scale, tolerance) for batch in batches)
    return _verdict(results, scale, tolerance, "; ".join(r.reason for r in results if r.reason))


def onnx_runner(path: Path | str, *, threads: int = 1, output: int = 0) -> Run:
    """An output of the ONNX file `path`, the first by default, as a function of its first input, on the CPU."""
    load_onnx(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda inputs: session.run(None, {name: np.ascontiguousarray(inputs)})[output]


def torch_reference(model: nn.Module, *, batch: int = 64, output: int = 0) -> Run:
    """`model` in eval mode as a function on arrays, on the model's device, `batch` inputs at a time: its tensor, or
    the one of number `output` where it returns several.

    The model is put back into its mode after every call.
    """
    import torch

    def run(inputs: np.ndarray) -> np.ndarray:
        modes = {module: module.training for module in model.modules()}
        first = next(model.parameters(), None)
        device = torch.device("cpu") if first is None else first.device
        model.eval()
        try:
            with torch.no_grad():
                answers = [
                    model(torch.from_numpy(np.ascontiguousarray(inputs[start : start + batch])).to(device))
                    for start in range(0, len(inputs), batch)
                ]
        finally:
            for module, training in modes.items():
                module.training = training
        parts = [answer if isinstance(answer, torch.Tensor) else answer[output] for answer in answers]
        return torch.cat(parts).float().cpu().numpy()

    return run


def _compare(
    run: Run, expected: np.ndarray, inputs: np.ndarray, batch: int, scale: float, tolerance: float
) -> BatchParity:
    count = len(inputs) // batch * batch
    try:
        got = np.concatenate([run(inputs[start : start + batch]) for start in range(0, count, batch)])
    except Exception as reason:  # see check_parity
        return BatchParity(batch, count, np.inf, 0.0, f"batch {batch}: it does not run: {_first_line(reason)}")
    wanted = expected[:count]
    if got.shape != wanted.shape:
        why = f"batch {batch}: outputs have shape {list(got.shape)}, expected {list(wanted.shape)}"
        return BatchParity(batch, count, np.inf, 0.0, why)
    if not np.isfinite(got).all():
        image = int(np.argwhere(~np.isfinite(got))[0][0])
        return BatchParity(batch, count, np.inf, 0.0, f"batch {batch}: input {image} gives NaN or infinite outputs")
    worst = float(np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max())
    same = got.reshape(count, -1).argmax(axis=1) == wanted.reshape(count, -1).argmax(axis=1)
    agreement = float(same.mean())
    return BatchParity(batch, count, worst, agreement, _complaint(got, inputs[:count], batch, worst, scale, tolerance))


def _complaint(got: np.ndarray, inputs: np.ndarray, batch: int, worst: float, scale: float, tolerance: float) -> str:
    if _same_rows(got) and not _same_rows(inputs):
        return f"batch {batch}: the outputs are the same for all inputs"
    if worst > tolerance * scale:
        share = worst / scale if scale else np.inf
        return f"batch {batch}: outputs are off by {share:.2g} of their spread, more than {tolerance:g}"
    return ""


def _same_rows(array: np.ndarray) -> bool:
    return bool((array == array[:1]).all())


def _verdict(results: Sequence[BatchParity], scale: float, tolerance: float, reason: str) -> Parity:
    worst = max((result.worst_absolute for result in results), default=np.inf)
    relative = 0.0 if worst == 0 else (worst / scale if scale > 0 else np.inf)
    agreement = min((result.agreement for result in results), default=0.0)
    return Parity(tuple(results), float(worst), scale, float(relative), agreement, tolerance, not reason, reason)


def _first_line(reason: Exception) -> str:
    lines = str(reason).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(reason).__name__
