"""Resident memory of a process that does nothing but run one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from .. import errors
from .child import Child, choose_cores
from .records import Memory

STEADY_RUNS = 20
"""Runs after the first before the steady size is read."""


def measure_memory(
    path: Path,
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    batch: int = 1,
    processes: int = 3,
    seed: int = 0,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Memory:
    """Resident bytes before load, after it, after the first run, after `STEADY_RUNS` more, and the peak over
    all of it.

    Each figure is the median over `processes` fresh processes: where libraries and heap land differs from one
    to the next. Raises EdgeLatheError when the runtime refuses the model.
    """
    if processes < 1:
        raise errors.inputs.bad_setting("processes", processes, "at least 1")
    if batch < 1:
        raise errors.inputs.bad_setting("batch", batch, "at least 1")
    samples = [_once(path, runtime, threads, batch, seed, shapes) for _ in range(processes)]
    before, loaded, first, steady, peak = (int(median(column)) for column in zip(*samples, strict=True))
    return Memory(
        runtime=runtime,
        before_load=before,
        after_load=loaded,
        after_first=first,
        steady=steady,
        peak=peak,
        threads=threads,
        batch=batch,
    )


def _once(
    path: Path, runtime: str, threads: int, batch: int, seed: int, shapes: Mapping[str, Sequence[int]] | None
) -> tuple[int, int, int, int, int]:
    with Child(path, runtime=runtime, cores=choose_cores(threads, None)) as child:
        loaded = child.load(threads=threads, batch=batch, seed=seed, shapes=shapes)
        child.burst(STEADY_RUNS)
        steady, peak = child.memory()
        return child.started()["before_load"], loaded["after_load"], loaded["after_first"], steady, peak
