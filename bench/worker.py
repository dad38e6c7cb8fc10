"""The child process in which a model is loaded and run: `python -P -m edgelathe.bench.worker`.

Speaks JSON lines: one request on standard input, one answer on standard output. Requests, by their "do":

    start   {runtime, cores}                           import the runtime, pin this process
            -> {version, before_load}
    load    {path, threads, batch, seed, shapes}       open the model, run it once
            -> {load_ms, first_ms, after_load, after_first, doubts: [...] why its answers are not to be trusted}
    burst   {runs}                                     one run to warm up, then `runs` timed ones
            -> {ns: [...] of the clock, held_ns: [...] of processor time, busy: share of the clock that the
                calling thread was running}
    memory  {}                                         -> {resident, peak} in bytes
    modules {}                                         -> {modules: [...]} what is imported

An answer with "error" carries the sentence for the user. The end of standard input ends the process, so that
it never outlives the one that started it.

What is imported here is part of every memory figure: the runtime, numpy and little else.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import errors
from .resident import peak_resident, resident

if TYPE_CHECKING:
    import numpy as np

    from .runtimes.adapter import Adapter, Loaded


class Bench:
    """The state of one worker: its runtime, its model and that model's inputs."""

    def __init__(self) -> None:
        self.adapter: Adapter | None = None
        self.model: Loaded | None = None
        self.inputs: dict[str, np.ndarray] = {}

    def start(self, runtime: str, cores: list[int]) -> dict[str, object]:
        from .runtimes import find_runtime

        self.adapter = find_runtime(runtime)
        version = self.adapter.version()
        # Used by `load`; imported here so that it counts as Python's share, not as the model's.
        from . import inputs  # noqa: F401

        # Before the model's threads are made, which inherit it; after the imports, which may use every core.
        if cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)
        return {"version": version, "before_load": resident()}

    def load(self, path: str, threads: int, batch: int, seed: int, shapes: dict[str, list[int]]) -> dict[str, object]:
        from .inputs import random_inputs

        assert self.adapter is not None
        begun = time.perf_counter_ns()
        self.model = self.adapter.load(Path(path), threads)
        loaded = time.perf_counter_ns()
        after_load = resident()
        self.inputs = random_inputs(Path(path), self.model.inputs, batch=batch, seed=seed, shapes=shapes)
        first = time.perf_counter_ns()
        self.model.run(self.inputs)
        done = time.perf_counter_ns()
        return {
            "load_ms": (loaded - begun) / 1e6,
            "first_ms": (done - first) / 1e6,
            "after_load": after_load,
            "after_first": resident(),
            "doubts": list(self.model.doubts),
        }

    def burst(self, runs: int) -> dict[str, object]:
        assert self.model is not None
        run, inputs, clock = self.model.run, self.inputs, time.perf_counter_ns
        times, held = [0] * runs, [0] * runs
        processor = time.process_time_ns
        gc.disable()
        try:
            # Other candidates ran since: this one's code and weights have left the caches.
            run(inputs)
            cpu, begun = time.thread_time_ns(), clock()
            for i in range(runs):
                # The clock is read around the processor's time: whatever stops this process in between counts as
                # waiting, never as work.
                start, used = clock(), processor()
                run(inputs)
                held[i], times[i] = processor() - used, clock() - start
            wall, cpu = clock() - begun, time.thread_time_ns() - cpu
        finally:
            gc.enable()
        return {"ns": times, "held_ns": held, "busy": min(1.0, cpu / wall) if wall else 1.0}

    def memory(self) -> dict[str, object]:
        return {"resident": resident(), "peak": peak_resident()}

    def modules(self) -> dict[str, object]:
        return {"modules": sorted(sys.modules)}


def answer(bench: Bench, line: str) -> dict[str, object]:
    request: dict[str, Any] = json.loads(line)
    do = {
        "start": bench.start,
        "load": bench.load,
        "burst": bench.burst,
        "memory": bench.memory,
        "modules": bench.modules,
    }[request.pop("do")]
    try:
        return do(**request)  # type: ignore[operator]
    except errors.EdgeLatheError as sentence:
        return {"error": str(sentence)}


def main() -> None:
    # Runtimes print to standard output when they please, which would tear the protocol: they get the
    # standard error instead.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    bench = Bench()
    for line in sys.stdin:
        channel.write(json.dumps(answer(bench, line)) + "\n")
        channel.flush()


if __name__ == "__main__":
    main()
