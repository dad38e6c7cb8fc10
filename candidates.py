"""Measure the files a run has made against each other: accuracy, size, latency, memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import errors
from .bench.accuracy import accuracy, agreement, paired, predict_outputs
from .bench.child import choose_cores
from .bench.classes import class_answers
from .bench.graph import inspect_graph
from .bench.latency import Progress, measure_latency
from .bench.memory import measure_memory
from .bench.records import Candidate, GraphFacts, Latency, Memory, NodeOutcome
from .bench.runtimes import find_runtime
from .data import Preprocess, Split
from .recipe import BenchSection


@dataclass(frozen=True)
class Deployable:
    """A file that could be shipped."""

    name: str
    path: Path
    preprocess: Preprocess
    nodes: tuple[NodeOutcome, ...] = ()


def check(bench: BenchSection) -> None:
    """Refuse at once what `measure` would refuse after hours of training: missing runtimes, too many threads."""
    for runtime in bench.runtimes:
        find_runtime(runtime)
    for threads in bench.threads:
        choose_cores(threads, None)


def measure(
    files: list[Deployable],
    bench: BenchSection,
    *,
    images: Split | None,
    classes: Sequence[str] = (),
    root: Path,
    seed: int,
    say: Callable[[str], None],
    on_round: Callable[[Progress], None] | None = None,
) -> tuple[Candidate, ...]:
    """One record per file, in order; the first is the reference. `images` None leaves accuracy out.

    classes -- names of the labels of `images`; without them answers are not counted class by class.

    Raises EdgeLatheError for files that a runtime refuses and for runtimes that are not installed.
    """
    check(bench)
    facts = {file.name: inspect_graph(file.path) for file in files}
    predictions, exits = {}, {}
    if images is not None:
        for file in files:
            _check_shape(file.path, facts[file.name], images)
        for file in files:
            say(f"Accuracy of {file.name}")
            (_, predictions[file.name]), *others = predict_outputs(file.path, images.x, file.preprocess).items()
            exits[file.name] = dict(others)
    latency = _latency({file.name: file.path for file in files}, bench, seed, say, on_round)
    memory: dict[str, list[Memory]] = {file.name: [] for file in files}
    for runtime in bench.runtimes if bench.memory else ():
        for file in files:
            say(f"Memory of {file.name} in {runtime}")
            memory[file.name].append(
                measure_memory(file.path, runtime=runtime, threads=bench.threads[0], batch=bench.batch, seed=seed)
            )
    first = files[0].name
    records = []
    for file in files:
        judged: dict[str, object] = {}
        if images is not None:
            judged["accuracy"] = accuracy(predictions[file.name], images.y)
            judged["exits"] = {name: accuracy(answers, images.y) for name, answers in exits[file.name].items()}
            if file.name != first:
                judged["agreement"] = agreement(predictions[file.name], predictions[first])
                gained, lost = paired(predictions[file.name], predictions[first], images.y)
                judged |= {"disagreement_gained": gained, "disagreement_lost": lost}
            compared = predictions[first] if file.name != first else None
            judged["classes"] = class_answers(predictions[file.name], images.y, classes, compared)
        records.append(
            Candidate.model_validate(
                {
                    "name": file.name,
                    "file": str(file.path.relative_to(root)) if file.path.is_relative_to(root) else file.path.name,
                    "facts": facts[file.name],
                    "latency": tuple(latency[file.name]),
                    "memory": tuple(memory[file.name]),
                    "nodes": file.nodes,
                    **judged,
                }
            )
        )
    return tuple(records)


def _check_shape(path: Path, facts: GraphFacts, images: Split) -> None:
    """Raises EdgeLatheError for a model that declares another size or number of channels than the images have."""
    count, height, width, channels = images.x.shape
    given = (count, channels, height, width)
    for name, declared in list(facts.inputs.items())[:1]:
        if declared and declared[1:] != given[1:]:
            raise errors.bench.wrong_input_shape(path, name, declared, str(list(given)))


def _latency(
    paths: Mapping[str, Path],
    bench: BenchSection,
    seed: int,
    say: Callable[[str], None],
    on_round: Callable[[Progress], None] | None,
) -> dict[str, list[Latency]]:
    records: dict[str, list[Latency]] = {name: [] for name in paths}
    for runtime in bench.runtimes:
        for threads in bench.threads:
            say(f"Latency in {runtime}, {threads} thread{'s' if threads > 1 else ''}, up to {bench.seconds:g} s")
            measured = measure_latency(
                paths,
                reference=next(iter(paths)),
                runtime=runtime,
                threads=threads,
                batch=bench.batch,
                seconds=bench.seconds,
                seed=seed,
                on_round=on_round,
            )
            for name, record in measured.items():
                records[name].append(record)
    return records
