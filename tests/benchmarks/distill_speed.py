"""Images per second of distilling ResNet-20 from ResNet-56 on CIFAR-10: EdgeLathe, a plain loop, each measure alone.

    EDGELATHE_TEST_DATA=DATA python -m tests.benchmarks.distill_speed
    EDGELATHE_TEST_DATA=DATA python -m tests.benchmarks.distill_speed --out results/distill_speed.json

The plain loop is float32, PIL transforms in a DataLoader with as many workers as suit it best, and the teacher run in
every step. All contenders have the same networks, batch, loss and threads; each is a process that waits for its turn,
and turns are taken in rounds, so that a ratio compares steps that were made seconds apart. EdgeLathe's speed over a
whole training of 50,000 images counts the time in which the teacher answers and in which the network is compiled.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from edgelathe.bench.environment import environment, usable_cores
from edgelathe.bench.stats import bootstrap_median, quartiles
from edgelathe.files import write_atomic

from .command import data_folder, end_well, now, portable_command, say
from .distill_contenders import ANSWERS, CONTENDERS, EAGER, FULL, PLAIN, Contender, Settings, contend
from .table import markdown_table

AIM = 4.0
"""Times the images per second of the plain loop."""
_TRIED = 2
"""Turns with each number of workers."""
_REST = 1.0
"""Seconds before each turn, in which the DataLoader of the last one fills its queue, at nobody's expense."""
_PATIENCE = 600
"""Seconds for one turn; a contender compiles in its first."""
_IMAGES = 50_000
"""Of one epoch of CIFAR-10."""
_MEASURED = (PLAIN, FULL, EAGER, ANSWERS)
"""What speeds of whole trainings take."""

Speeds = Mapping[str, Sequence[float]]
"""Images per second of every contender, by round."""


class Runner:
    """A contender in its process."""

    def __init__(self, contender: Contender, settings: Settings) -> None:
        began = time.perf_counter()
        context = multiprocessing.get_context("spawn")
        self.name = contender.name
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=contend, args=(contender, settings, theirs))
        self._process.start()
        theirs.close()
        self._answer()
        self.ready_after = time.perf_counter() - began

    def turn(self) -> float:
        """Images per second."""
        self._pipe.send("go")
        images, seconds = self._answer()
        return float(images / seconds)

    def end(self) -> None:
        _send_end(self._pipe)
        self._process.join(timeout=20)
        self._process.terminate()

    def _answer(self) -> Any:
        if not self._pipe.poll(_PATIENCE):
            raise TimeoutError(f"{self.name} took more than {_PATIENCE} s")
        return self._pipe.recv()


def _send_end(pipe: Connection) -> None:
    try:
        pipe.send(None)
    except OSError:
        return  # it has ended already


@contextmanager
def running(contenders: Sequence[Contender], settings: Settings) -> Iterator[list[Runner]]:
    runners: list[Runner] = []
    try:
        for contender in contenders:
            say(f"getting ready: {contender.name}")
            runners.append(Runner(contender, settings))
        yield runners
    finally:
        for runner in runners:
            runner.end()


def best_workers(settings: Settings) -> dict[int, float]:
    """Images per second of the plain loop by number of workers, each the median of a few turns."""
    found = {}
    for workers in range(usable_cores() + 1):
        with running([PLAIN], replace(settings, workers=workers)) as (runner,):
            found[workers] = float(np.median([runner.turn() for _ in range(_TRIED)]))
        say(f"plain loop with {workers} workers: {found[workers]:.0f} images/s")
    return found


def measure(contenders: Sequence[Contender], settings: Settings) -> tuple[dict[str, list[float]], float]:
    """Speeds by round, and the seconds that compiling takes: what EdgeLathe needs longer to be ready for it."""
    order = random.Random(settings.seed)
    speeds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    with running(contenders, settings) as runners:
        ready = {runner.name: runner.ready_after for runner in runners}
        for number in range(settings.rounds):
            for runner in order.sample(runners, len(runners)):
                time.sleep(_REST)
                speeds[runner.name].append(runner.turn())
            made = speeds[FULL.name][-1] / speeds[PLAIN.name][-1]
            say(f"round {number + 1} of {settings.rounds}: {made:.2f} times the plain loop")
    return speeds, max(0.0, ready[FULL.name] - ready[EAGER.name])


def whole_run(speeds: Speeds, compiling: float, *, epochs: int, views: int) -> list[float]:
    """Images per second by round, of a training of so many epochs with all that comes before it."""
    pairs = zip(speeds[FULL.name], speeds[ANSWERS.name], strict=True)
    before = compiling / (epochs * _IMAGES)
    return [1 / (1 / steps + views / epochs / answers + before) for steps, answers in pairs]


def ratio(speeds: Sequence[float], reference: Sequence[float], seed: int) -> tuple[float, float, float]:
    """Median over rounds, and its 95 % interval."""
    return bootstrap_median(np.divide(speeds, reference), seed=seed)


def as_markdown(record: Mapping[str, Any]) -> str:
    speeds, settings = record["images_per_second"], record["settings"]
    seed, epochs = settings["seed"], record["epochs"]
    plain, full = speeds[PLAIN.name], speeds[FULL.name]
    taught = {contender.name for contender in CONTENDERS if contender.kind == "teacher"}
    trained = {name: made for name, made in speeds.items() if name not in taught}
    whole = {
        f"{FULL.name}, all of {epochs} epochs over {views} views": whole_run(
            speeds, record["compiling_seconds"], epochs=epochs, views=views
        )
        for views in record["views"]
    }
    rows = [
        [name, f"{quartiles(made)[1]:.0f}", _times(made, plain, seed), _times(made, full, seed)]
        for name, made in {**trained, **whole}.items()
    ]
    answers = [
        [name, f"{quartiles(made)[1]:.0f}", _times(made, speeds[ANSWERS.name], seed)]
        for name, made in speeds.items()
        if name in taught
    ]
    where, workers = record["environment"], record["plain_images_per_second_by_workers"]
    tried = ", ".join(f"{count} workers {speed:.0f}" for count, speed in workers.items())
    notes = (
        f"{where['cpu']}, {settings['threads']} threads, batch {settings['batch']}, {settings['rounds']} rounds of "
        f"{settings['steps']} steps; medians, and 95 % intervals of "
        "medians of ratios by round.",
        f"Plain loop, images/s: {tried}; it runs with {settings['workers']}.",
        f"Compiling took {record['compiling_seconds']:.0f} s.",
        f"Load of the machine before the first round: {record['load_before']:.2f}.",
        f"`{record['command']}`",
    )
    return (
        "\n\n".join(
            [
                markdown_table(["network", "images/s", "times the plain loop", "times EdgeLathe"], rows),
                markdown_table(["network", "images/s", "times the first"], answers),
                "\n".join(f"- {note}" for note in notes),
            ]
        ).replace("| network |", "| |")
        + "\n"
    )


def _times(speeds: Sequence[float], reference: Sequence[float], seed: int) -> str:
    if speeds == reference:
        return "1"
    middle, low, high = ratio(speeds, reference, seed)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def run(arguments: argparse.Namespace, given: Sequence[str]) -> int:
    load_before = os.getloadavg()[0]
    settings = Settings(
        data_folder(), arguments.batch, arguments.steps, arguments.rounds, arguments.threads, 0, arguments.seed
    )
    workers = {arguments.workers: float("nan")} if arguments.workers is not None else best_workers(settings)
    settings = replace(settings, workers=max(workers, key=lambda count: workers[count]))
    chosen = [one for one in CONTENDERS if one in _MEASURED or not arguments.brief]
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # so that the first compilation is one
        speeds, compiling = measure(chosen, settings)
    record = {
        "command": portable_command("tests.benchmarks.distill_speed", given),
        "date": now(),
        "environment": environment().model_dump(mode="json"),
        "load_before": load_before,
        "settings": {**asdict(settings), "folder": "DATA"},
        "plain_images_per_second_by_workers": workers,
        "epochs": arguments.epochs,
        "views": arguments.views,
        "compiling_seconds": compiling,
        "images_per_second": speeds,
    }
    text = as_markdown(record)
    sys.stdout.write(text)
    if arguments.out:
        write_atomic(arguments.out, json.dumps(record, indent=1) + "\n", "the record")
        write_atomic(arguments.out.with_suffix(".md"), text, "the table")
    whole = whole_run(speeds, compiling, epochs=arguments.epochs, views=max(arguments.views))
    reached = ratio(whole, speeds[PLAIN.name], settings.seed)
    met = "" if reached[0] >= AIM else " not"
    sys.stdout.write(
        f"{reached[0]:.2f} times the plain loop with {max(arguments.views)} views, all included: the aim of {AIM:g} "
        f"is{met} met\n"
    )
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.distill_speed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=8, help="of a turn")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--workers", type=int, help="of the DataLoader; default: whatever is fastest here")
    parser.add_argument("--epochs", type=int, default=100, help="of the training whose speed is told")
    parser.add_argument("--views", type=int, nargs="+", default=[5, 10], help="that it takes in turns")
    parser.add_argument("--brief", action="store_true", help="without the measures one by one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON record; the table is written beside it")
    parsed = parser.parse_args(given)
    return end_well(lambda: run(parsed, given))


if __name__ == "__main__":
    sys.exit(main())
