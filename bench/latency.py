"""Latency of several files against one of them, fair under drift.

Every candidate lives in its own pinned process. The parent visits them in a new random order each round and
has each run a short burst, so that whatever the machine does hits all alike: a fixed or alternating order
favours the last one. The ratio to the reference is taken round by round. After a few rounds all processes are
replaced, because two processes with the same file differ by about one percent for as long as they live (where
their memory landed), which no number of rounds inside them would show.

On one core a run is timed by the processor time of its process. With the core to itself that is the clock's
time; where other work takes the core away in between, the clock would count that work, and the more so the
longer a run takes: beside one busy program the ratio of a 2.4 ms network to a 0.8 ms one came out as 6
instead of 3. On several cores, where processor time adds up over threads, the clock counts.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import errors
from .child import Child, choose_cores
from .records import Latency
from .stability import reasons_for_doubt
from .stats import bootstrap_clusters, quartiles

VISIT_SECONDS = 0.03
"""What a burst should take: long against a timer tick and cold caches, short against the machine's drift."""
ROUNDS_PER_PROCESS = 8
MIN_PROCESSES = 5
"""Generations of processes before the measurement may end early."""
MIN_ROUNDS = 3
"""Rounds that each generation measures even when the time is spent."""
SETTLE_SECONDS = 0.1
"""Pause after a visit on several cores: ONNX Runtime's idle threads spin for about 0.04 s of processor time after a
run, on the cores of the next candidate."""


@dataclass(frozen=True)
class Progress:
    """Where a measurement stands, after each round."""

    seconds: float
    budget: float
    rounds: int
    width: float
    """Widest relative interval after the last whole generation of processes; infinite before there is one."""


@dataclass
class Samples:
    """What was measured of one candidate so far."""

    bursts: list[list[float]] = field(default_factory=list)
    """Median run of each burst in ms, by generation of processes and round."""
    runs: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    load_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    doubts: tuple[str, ...] = ()


def measure_latency(
    files: Mapping[str, Path],
    *,
    reference: str,
    runtime: str = "onnxruntime",
    threads: int = 1,
    batch: int = 1,
    seconds: float = 10.0,
    target_width: float = 0.03,
    seed: int = 0,
    cores: Sequence[int] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    on_round: Callable[[Progress], None] | None = None,
) -> dict[str, Latency]:
    """Measure all `files` (name -> ONNX file) interleaved; `reference` names the one that ratios refer to.

    `seconds` is the budget for everything; the measurement ends earlier once the 95 % interval of every ratio
    is narrower than `target_width` of it. Processes are pinned to `cores` (default: the last `threads` this
    process may use); `shapes` gives the shapes of inputs with more than the batch open. `on_round` is called
    after each round.

    Raises EdgeLatheError for an unknown reference, runtime or core, more threads than cores, or a file the
    runtime refuses.
    """
    _check(files, reference, batch=batch, seconds=seconds, target_width=target_width)
    pinned = choose_cores(threads, cores)
    order = random.Random(seed)
    samples = {name: Samples() for name in files}
    runs: dict[str, int] = {}
    begun = time.monotonic()
    width = float("inf")
    while True:
        started_at = time.monotonic()
        with contextlib.ExitStack() as stack:
            children = {
                name: stack.enter_context(Child(path, runtime=runtime, cores=pinned)) for name, path in files.items()
            }
            for name, child in children.items():
                started = child.load(threads=threads, batch=batch, seed=seed, shapes=shapes)
                samples[name].load_ms.append(started["load_ms"])
                samples[name].first_ms.append(started["first_ms"])
                samples[name].doubts = tuple(started["doubts"])
                samples[name].bursts.append([])
                runs.setdefault(name, _runs_per_visit(child))
            for _ in range(ROUNDS_PER_PROCESS):
                _round(children, samples, runs, order, one_core=len(pinned) == 1)
                spent = time.monotonic() - begun
                if on_round is not None:
                    on_round(Progress(spent, seconds, _rounds(samples[reference]), width))
                # Several generations of processes matter more than many rounds in the first.
                due = seconds * min(1.0, len(samples[reference].bursts) / MIN_PROCESSES)
                if len(samples[reference].bursts[-1]) >= MIN_ROUNDS and spent >= due:
                    break
        width = _widest(samples, reference, seed)
        now = time.monotonic()
        if (now - begun) + 0.75 * (now - started_at) > seconds:
            break  # another generation would end well after the budget
        if len(samples[reference].bursts) >= MIN_PROCESSES and width <= target_width:
            break
    return {
        name: _record(
            name,
            samples,
            reference,
            runtime=runtime,
            threads=threads,
            batch=batch,
            seed=seed,
            one_core=len(pinned) == 1,
        )
        for name in files
    }


def _check(
    files: Mapping[str, Path],
    reference: str,
    *,
    batch: int,
    seconds: float,
    target_width: float,
) -> None:
    if not files:
        raise errors.bench.nothing_to_measure()
    if reference not in files:
        raise errors.inputs.unknown_choice("reference model", reference, files)
    if batch < 1:
        raise errors.inputs.bad_setting("batch", batch, "at least 1")
    if not seconds > 0:
        raise errors.inputs.bad_setting("seconds", seconds, "more than 0")
    if not 0 < target_width < 1:
        raise errors.inputs.bad_setting("target_width", target_width, "between 0 and 1")


def _runs_per_visit(child: Child) -> int:
    per_run = max(float(np.median(child.burst(3).held)) / 1e9, 1e-6)
    return max(1, min(2000, round(VISIT_SECONDS / per_run)))


def _round(
    children: Mapping[str, Child],
    samples: Mapping[str, Samples],
    runs: Mapping[str, int],
    order: random.Random,
    *,
    one_core: bool,
) -> None:
    for name in order.sample(list(children), len(children)):
        burst = children[name].burst(runs[name])
        in_ms = [ns / 1e6 for ns in (burst.held if one_core else burst.wall)]
        samples[name].bursts[-1].append(float(np.median(in_ms)))
        samples[name].runs += in_ms
        samples[name].busy.append(burst.busy)
        if not one_core:
            time.sleep(SETTLE_SECONDS)


def _rounds(samples: Samples) -> int:
    return sum(len(generation) for generation in samples.bursts)


def _ratio(samples: Mapping[str, Samples], name: str, reference: str, seed: int) -> tuple[float, float, float]:
    """Ratio with its interval; of a lone reference its own spread around its median."""
    own, other = samples[name].bursts, samples[reference].bursts
    if name == reference:
        middle = float(np.median([value for generation in own for value in generation]))
        return bootstrap_clusters([[value / middle for value in generation] for generation in own], seed=seed)
    pairs = zip(own, other, strict=True)
    return bootstrap_clusters([[a / b for a, b in zip(x, y, strict=True)] for x, y in pairs], seed=seed)


def _widest(samples: Mapping[str, Samples], reference: str, seed: int) -> float:
    if len(samples[reference].bursts) < 2:
        return float("inf")
    names = [name for name in samples if name != reference] or [reference]
    return max(
        (high - low) / middle for middle, low, high in (_ratio(samples, name, reference, seed) for name in names)
    )


def _record(
    name: str,
    samples: Mapping[str, Samples],
    reference: str,
    *,
    runtime: str,
    threads: int,
    batch: int,
    seed: int,
    one_core: bool,
) -> Latency:
    own = samples[name]
    q1, median, q3 = quartiles(own.runs)
    spread = _ratio(samples, name, reference, seed)
    ratio, low, high = (1.0, 1.0, 1.0) if name == reference else spread
    return Latency(
        runtime=runtime,
        threads=threads,
        batch=batch,
        median_ms=median,
        q1_ms=q1,
        q3_ms=q3,
        runs=len(own.runs),
        bursts_ms=tuple(value for generation in own.bursts for value in generation),
        reference=reference,
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        load_ms=float(np.median(own.load_ms)),
        first_ms=float(np.median(own.first_ms)),
        unstable=(
            *own.doubts,
            *reasons_for_doubt(
                own.bursts,
                quartiles_ms=(q1, median, q3),
                busy=own.busy,
                relative_width=(spread[2] - spread[1]) / spread[0],
                one_core=one_core,
            ),
        ),
    )
