"""Run a recipe: stages in order, one folder per stage, resumable at any moment, the same bytes every time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from .bench.budgets import Budget, parse_budgets
from .bench.gate import judge
from .bench.latency import Progress
from .bench.records import Candidate, Environment, Report
from .bench.report import write_report
from .candidates import check
from .compress.parallel import launched_alone, team
from .data import Dataset, load_data
from .export.metadata import without_folders
from .recipe import Recipe
from .runfolder import locked
from .steps.files import files_from, source_files
from .steps.measuring import benched
from .steps.networks import exported_networks
from .steps.steps import Steps
from .version import __version__


def run(
    recipe: Recipe,
    *,
    runs: Path | str = "runs",
    say: Callable[[str], None] = lambda _: None,
    progress: bool = False,
    on_round: Callable[[Progress], None] | None = None,
) -> tuple[Report, Path]:
    """Carry out `recipe` in `runs`/<name>, continuing whatever is there; returns the report and the folder.

    `say` is told what happens, a line at a time; `progress` shows bars in the terminal; `on_round` is called
    after each round of latency measurement. Raises EdgeLatheError for all that is wrong with the recipe, its
    data and its models; what was finished before stays and is used again by the next run.

    Of several processes of one launch (compress/parallel.py) all train together; the main one does everything else,
    is the only one to write and to speak, and the others wait for it and return the same.
    """
    together = team()
    if launched_alone():
        say(
            "Accelerate started one process: with --cpu it needs --mpirun_hostfile to start several, and "
            "with --multi_gpu it starts several on CPUs too"
        )
    budgets, data = begin(recipe)
    folder = Path(runs) / recipe.name
    with locked(folder) if together.is_main else nullcontext():
        steps = Steps(recipe, data, folder, say, progress, together)
        floats = source_files(steps) if recipe.model.is_onnx else exported_networks(steps)
        files = [*floats, *files_from(steps, floats[-1])]
        measured = benched(steps, files, on_round)
        candidates = tuple(Candidate.model_validate(candidate) for candidate in measured["candidates"])
        report = Report(
            name=recipe.name,
            created=measured["created"],
            tool_version=__version__,
            data=_data_facts(data),
            environment=Environment.model_validate(measured["environment"]),
            recipe={key: without_folders(value) for key, value in recipe.model_dump(mode="json").items()},
            stages=tuple(steps.records),
            candidates=candidates,
            reference=candidates[0].name,
        )
        if budgets:
            report = report.model_copy(update={"gate": judge(report, budgets)})
        if together.is_main:
            write_report(report, folder)
    return report, folder


def begin(recipe: Recipe) -> tuple[tuple[Budget, ...], Dataset]:
    """Budgets and data of a recipe. Raises EdgeLatheError for all that can be refused before anything is computed."""
    budgets = parse_budgets(recipe.gate) if recipe.gate else ()
    check(recipe.bench)
    keys = recipe.data.model_dump(exclude={"source", "root", "calibration"})
    return budgets, load_data(recipe.data.source, recipe.data.root, seed=recipe.seed, **keys)


def _data_facts(data: Dataset) -> dict[str, object]:
    return {
        "name": data.name,
        "classes": len(data.classes),
        "train": 0 if data.train is None else len(data.train),
        "test": len(data.test),
        "shape": list(data.shape),
        "fingerprint": data.fingerprint,
    }
