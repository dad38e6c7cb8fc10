"""The parent's end of a bench worker."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from .. import errors


@dataclass(frozen=True)
class Burst:
    """Runs in a row, in nanoseconds."""

    wall: list[int]
    """By the clock."""
    held: list[int]
    """Processor time of the process: on one core, the clock less what other work took of it."""
    busy: float
    """Share of the clock that the calling thread was running."""


class Child:
    """One worker process with one model. Use as a context manager: leaving it ends the process.

    Every method raises EdgeLatheError when the runtime refuses the model or the process dies.
    """

    def __init__(self, path: Path, *, runtime: str, cores: Sequence[int]) -> None:
        if not path.is_file():
            raise errors.inputs.missing_file("the model", path)
        self.path, self.runtime = path, runtime
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        # -P: a file called numpy.py in the user's folder must not become the worker's numpy.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "edgelathe.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        # The answer is awaited with the first use, so that several children import their runtimes at once.
        self._send(do="start", runtime=runtime, cores=list(cores))
        self._started: dict[str, Any] | None = None

    def started(self) -> dict[str, Any]:
        """Wait until the runtime is imported -> version, before_load (resident bytes)."""
        if self._started is None:
            self._started = self._receive()
        return self._started

    def load(
        self, *, threads: int, batch: int, seed: int, shapes: Mapping[str, Sequence[int]] | None = None
    ) -> dict[str, Any]:
        """Open the model and run it once -> load_ms, first_ms, after_load, after_first (bytes), doubts."""
        lists = {name: list(shape) for name, shape in (shapes or {}).items()}
        path = str(self.path.absolute())
        return self._ask(do="load", path=path, threads=threads, batch=batch, seed=seed, shapes=lists)

    def burst(self, runs: int) -> Burst:
        """Time `runs` runs after one that is discarded."""
        reply = self._ask(do="burst", runs=runs)
        return Burst(reply["ns"], reply["held_ns"], reply["busy"])

    def memory(self) -> tuple[int, int]:
        """Resident bytes now, and the most ever."""
        reply = self._ask(do="memory")
        return reply["resident"], reply["peak"]

    def modules(self) -> list[str]:
        return self._ask(do="modules")["modules"]

    def _ask(self, **request: object) -> dict[str, Any]:
        self.started()
        self._send(**request)
        return self._receive()

    def _send(self, **request: object) -> None:
        assert self._process.stdin is not None
        # A dead worker shows when its answer is awaited, with its exit code.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise errors.bench.worker_died(self.runtime, self.path, self._process.wait(), self._last_words())
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise errors.EdgeLatheError(reply["error"])
        return reply

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def close(self) -> None:
        """End the process; safe to call twice."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stderr.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        self.close()


def choose_cores(threads: int, cores: Sequence[int] | None) -> tuple[int, ...]:
    """The processor cores to pin workers to: as asked, or the last `threads` that this process may use.

    The last ones, because interrupts and everything unpinned gather on the first.
    """
    available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    count = len(available) or (os.cpu_count() or 1)
    if not 1 <= threads <= count:
        raise errors.bench.too_many_threads(threads, count)
    if cores is None:
        return tuple(available[-threads:])
    if not set(cores) <= set(available) or not cores:
        raise errors.bench.unknown_cores(cores, available)
    return tuple(cores)
