"""One network through all tools: quantize, then measure the files against float and each other."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from edgelathe.bench.accuracy import accuracy, agreement, paired, predict_logits
from edgelathe.bench.environment import usable_cores
from edgelathe.bench.graph import inspect_graph
from edgelathe.bench.latency import measure_latency
from edgelathe.bench.records import GraphFacts
from edgelathe.data import Preprocess
from edgelathe.errors import EdgeLatheError

from .cost import Cost, ToolError, run_measured
from .images import Images
from .parts import Entry
from .peers import BAR, Job, Tool

FLOAT = "float"
WIDTH = 0.01
"""Latency is measured until every interval is this narrow, or the time is spent."""

Say = Callable[[str], None]
Predictions = Mapping[str, np.ndarray]
"""Logits [N, classes] by name of the test set."""


@dataclass(frozen=True)
class Limits:
    seconds: float
    """Budget of the latency measurement, all files together."""
    repeats: int
    """How often each tool quantizes, for its time and memory."""
    memory_bytes: int
    """A tool that takes more is stopped."""


def measure_tools(job: Job, images: Images, tools: Sequence[Tool], limits: Limits, say: Say) -> tuple[Entry, ...]:
    """Float (`job.model`) and then every tool; their files and logs are written beside it."""
    jobs = {tool.name: dataclasses.replace(job, output=output_of(job, tool)) for tool in tools}
    costs, failures = quantize_all(tools, jobs, limits, job.seed, say)
    files = {FLOAT: job.model, **{name: made.output for name, made in jobs.items() if name not in failures}}
    facts: dict[str, GraphFacts] = {}
    predictions: dict[str, Predictions] = {}
    first: dict[str, str] = {}
    for name, path in files.items():
        say(f"  predictions of {name}")
        try:
            facts[name] = inspect_graph(path)
            twin = first.setdefault(facts[name].sha256, name)
            predictions[name] = predict_sets(path, images, job.preprocess) if twin == name else predictions[twin]
        except EdgeLatheError as reason:
            failures[name] = str(reason)
    distinct = {name: files[name] for name in predictions if first[facts[name].sha256] == name}
    say(f"  latency of {len(distinct)} files, up to {limits.seconds:.0f} s")
    latency = measure_latency(distinct, reference=FLOAT, seconds=limits.seconds, target_width=WIDTH, seed=job.seed)

    def measured(name: str) -> dict[str, object]:
        found = {"facts": facts[name], "latency": latency[first[facts[name].sha256]]}
        return {**found, **judge(name, predictions, images)}

    entries = [Entry.model_validate({"tool": FLOAT, "settings": "", "versions": {}, **measured(FLOAT)})]
    for tool in tools:
        about = {"tool": tool.name, "settings": tool.settings, "versions": dict(tool.versions)}
        failed = tool.name in failures
        rest = {"failure": failures[tool.name]} if failed else {"costs": costs[tool.name], **measured(tool.name)}
        entries.append(Entry.model_validate({**about, **rest}))
    return tuple(entries)


def output_of(job: Job, tool: Tool) -> Path:
    return job.model.with_name(f"{tool.name.replace(' ', '-')}.onnx")


def quantize_all(
    tools: Sequence[Tool], jobs: Mapping[str, Job], limits: Limits, seed: int, say: Say
) -> tuple[dict[str, tuple[Cost, ...]], dict[str, str]]:
    """(costs by tool, why tools failed): in each repetition every tool once, in a new order."""
    costs: dict[str, tuple[Cost, ...]] = {tool.name: () for tool in tools}
    failures: dict[str, str] = {}
    order = random.Random(seed)
    for repeat in range(1, limits.repeats + 1):
        for tool in order.sample(list(tools), len(tools)):
            if tool.name in failures:
                continue
            try:
                cost = quantize_once(tool, jobs[tool.name], limits.memory_bytes)
            except ToolError as reason:
                failures[tool.name] = str(reason)
                say(f"  {tool.name}: {reason}")
                continue
            costs[tool.name] += (cost,)
            said = f"{cost.seconds:.1f} s, {cost.peak_bytes / 1e6:.0f} MB"
            say(f"  {tool.name} ({repeat} of {limits.repeats}): {said}")
    return costs, failures


def quantize_once(tool: Tool, job: Job, limit_bytes: int) -> Cost:
    """Raises ToolError when there is no file afterwards, whatever the tool says."""
    job.output.unlink(missing_ok=True)
    cost = run_measured(tool.command(job), job.output.with_suffix(".log"), limit_bytes=limit_bytes)
    if not job.output.is_file():
        raise ToolError("it ended well but wrote no file")
    return cost


def predict_sets(path: Path, images: Images, preprocess: Preprocess) -> Predictions:
    sets = {test.name: test.images.x for test in (images.top1, images.agreement) if test is not None}
    return {name: predict_logits(path, x, preprocess, threads=usable_cores()) for name, x in sets.items()}


def judge(name: str, predictions: Mapping[str, Predictions], images: Images) -> dict[str, object]:
    """Accuracy, agreement with float and signal to noise of the file `name`, as far as the labels mean anything."""
    judged: dict[str, object] = {}
    if images.top1 is not None:
        judged["top1"] = accuracy(classes(predictions[name][images.top1.name]), images.top1.images.y)
    if images.agreement is None:
        return judged
    which, labels = images.agreement.name, images.agreement.images.y
    own, reference = predictions[name][which], predictions[FLOAT][which]
    if images.top1 is not None:
        judged["hard_top1"] = accuracy(classes(own), labels)
    if name != FLOAT:
        judged["agreement"] = agreement(classes(own), classes(reference))
        judged["snr_db"] = decibels(reference, own)
    if name not in (FLOAT, BAR) and BAR in predictions:
        judged["against_bar"] = paired(classes(own), classes(predictions[BAR][which]), classes(reference))
    return judged


def classes(logits: np.ndarray) -> np.ndarray:
    return np.argmax(logits, axis=1)


def decibels(reference: np.ndarray, other: np.ndarray) -> float | None:
    """Power of the float logits over that of their difference; None where there is no difference."""
    noise = float(np.square(reference - other, dtype=np.float64).sum())
    return 10 * float(np.log10(np.square(reference, dtype=np.float64).sum() / noise)) if noise else None
