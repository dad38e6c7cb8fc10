"""Where the time of a file goes, operator by operator, by ONNX Runtime's own profiler.

The profiler times each operator of the optimised graph. Its figures add up to somewhat more than a run takes
without it, so shares and differences are what to read off them; `bench.latency` measures how long a run takes.
"""

from __future__ import annotations

import json
import random
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from .. import errors
from .inputs import random_inputs
from .kinds import kinds_of
from .records import Record
from .runtimes.onnxruntime import Session

RUNS_PER_VISIT = 5
WARM_UP = 2
"""Runs that are left out at the start."""
_SUFFIXES = re.compile(r"(_nchwc|_token_\d+|/QuickGeluFusion/|_quant)+$")


class NodeTime(Record):
    name: str
    """The operator's name in the file where the runtime kept it; convolutions that it reordered carry the name of
    the value they compute."""
    op: str
    kind: str
    microseconds: float
    """Median over the runs."""


class Profile(Record):
    nodes: tuple[NodeTime, ...]
    """In the order of execution."""
    runs: int

    @property
    def microseconds(self) -> float:
        return sum(node.microseconds for node in self.nodes)

    def slowest(self, count: int) -> tuple[NodeTime, ...]:
        return tuple(sorted(self.nodes, key=lambda node: -node.microseconds)[:count])

    def by_kind(self) -> dict[str, float]:
        """Microseconds of each kind of operator, most first."""
        return _summed((node.kind, node.microseconds) for node in self.nodes)

    def by_op(self) -> dict[str, float]:
        """Microseconds of each operator type, most first."""
        return _summed((node.op, node.microseconds) for node in self.nodes)


def profile(
    files: Mapping[str, Path],
    *,
    runs: int = 40,
    threads: int = 1,
    batch: int = 1,
    seed: int = 0,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, Profile]:
    """Profile `files` (name -> ONNX file) in ONNX Runtime, visiting them in random order `RUNS_PER_VISIT` runs at a
    time, so that a busy moment of the machine does not hit one of them alone.

    Raises EdgeLatheError for files that the runtime refuses and for inputs of unknown size.
    """
    if runs < 1:
        raise errors.inputs.bad_setting("runs", runs, "at least 1")
    with tempfile.TemporaryDirectory() as folder:
        sessions = {
            name: _Profiled(path, Path(folder) / f"{number}", threads)
            for number, (name, path) in enumerate(files.items())
        }
        inputs = {
            name: random_inputs(files[name], session.inputs, batch=batch, seed=seed, shapes=shapes)
            for name, session in sessions.items()
        }
        left = dict.fromkeys(files, runs + WARM_UP)
        order = random.Random(seed)
        while any(left.values()):
            for name in order.sample(list(files), len(files)):
                for _ in range(min(RUNS_PER_VISIT, left[name])):
                    sessions[name].run(inputs[name])
                left[name] -= min(RUNS_PER_VISIT, left[name])
        return {name: session.read(runs) for name, session in sessions.items()}


class _Profiled(Session):
    """A session that keeps its optimised graph and the times of its operators in files."""

    def __init__(self, path: Path, scratch: Path, threads: int) -> None:
        self._graph = scratch.with_suffix(".onnx")
        super().__init__(
            path,
            threads,
            enable_profiling=True,
            profile_file_prefix=str(scratch),
            optimized_model_filepath=str(self._graph),
        )

    def read(self, runs: int) -> Profile:
        events = json.loads(Path(self._session.end_profiling()).read_text(encoding="utf-8"))
        kinds = kinds_of(onnx.load(self._graph, load_external_data=False).graph)
        times: dict[tuple[str, str], list[float]] = defaultdict(list)
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                times[event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]].append(event["dur"])
        return Profile(
            nodes=tuple(
                NodeTime(
                    name=name_in_file(name),
                    op=op,
                    kind=kinds.get(name, op),
                    microseconds=float(np.median(spent[WARM_UP:] or spent)),
                )
                for (name, op), spent in times.items()
            ),
            runs=runs,
        )


def name_in_file(name: str) -> str:
    """The name before the runtime's optimiser appended to it."""
    return _SUFFIXES.sub("", name).removeprefix("fused ")


def _summed(parts: Iterable[tuple[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for name, value in parts:
        sums[name] += value
    return dict(sorted(sums.items(), key=lambda item: -item[1]))
