"""A recipe carried out, judged and shown again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .saying import Say, silent

if TYPE_CHECKING:
    from ..bench.latency import Progress
    from ..bench.records import GateVerdict, Report
    from ..dryrun import Plan
    from ..recipe import Recipe


def run(
    recipe: Recipe | Path | str | None = None,
    *,
    overrides: Sequence[str] = (),
    runs: Path | str = "runs",
    say: Say = silent,
    progress: bool = False,
    on_round: Callable[[Progress], None] | None = None,
) -> tuple[Report, Path]:
    """Carry out a recipe: a file, the name of a shipped one, or a `Recipe`; default: digits.

    Returns the report and the run's folder. Raises EdgeLatheError for bad input.
    """
    from ..pipeline import run as run_recipe

    return run_recipe(_recipe(recipe, overrides), runs=runs, say=say, progress=progress, on_round=on_round)


def plan(
    recipe: Recipe | Path | str | None = None,
    *,
    overrides: Sequence[str] = (),
    scan: bool = False,
    images: int = 512,
    measure: Literal["loss", "accuracy"] = "loss",
    output: Path | str | None = None,
    runs: Path | str = "runs",
    say: Say = silent,
    progress: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Plan:
    """What `run` would do: predicted parameters, MACs, file sizes, and the widths of its first prune-channels stage.

    `output` is written with these widths: a file to edit, for the stage's key `widths`. Without `scan`, nothing is
    trained and nothing else kept. With it, the stages before that one are carried out in `runs`/<name> as `run` does,
    each group of channels is narrowed alone and judged on `images` training images, and the widths are those at which
    the loss (or accuracy, as `measure` says) is lost evenly. Raises EdgeLatheError for bad input.
    """
    from ..planning import plan as plan_recipe

    return plan_recipe(
        _recipe(recipe, overrides),
        scan=scan,
        images=images,
        measure=measure,
        output=None if output is None else Path(output),
        runs=runs,
        say=say,
        progress=progress,
        on_progress=on_progress,
    )


def _recipe(recipe: Recipe | Path | str | None, overrides: Sequence[str]) -> Recipe:
    from ..recipe import Recipe, load_recipe

    if not isinstance(recipe, Recipe):
        return load_recipe(recipe, overrides)
    if overrides:
        raise TypeError("overrides change the keys of a recipe file; a Recipe is changed with model_copy(update=...)")
    return recipe


def gate(
    report: Path | str | Report,
    *,
    budget: Path | str | None = None,
    baseline: Path | str | None = None,
    candidate: str | None = None,
) -> GateVerdict:
    """Judge a run's report by the budgets in `budget` (default: those of its recipe).

    Given a run's folder, the judged model must still be there with the bytes that were measured.
    Raises EdgeLatheError where nothing can be judged: missing or changed files, no budgets, unknown metrics.
    """
    from ..bench.budgets import parse_budgets, read_budgets
    from ..bench.gate import judge
    from ..bench.records import Report
    from ..bench.report import verify_file

    judged = report if isinstance(report, Report) else _report(Path(report))
    if not isinstance(report, Report) and Path(report).is_dir():
        verify_file(judged, Path(report), candidate)
    budgets = read_budgets(Path(budget)) if budget is not None else parse_budgets(_gate_of(judged), "its recipe")
    return judge(judged, budgets, candidate=candidate, baseline=None if baseline is None else _report(Path(baseline)))


def report(run: Path | str) -> Report:
    """Read a report, and write the Markdown and HTML pages of a run's folder or report.json anew.

    Raises EdgeLatheError for bad files.
    """
    from ..bench.report import JSON_NAME, write_report

    path = Path(run)
    found = _report(path)
    if path.is_dir() or path.name == JSON_NAME:  # beside a file of another name the pages may be another run's
        write_report(found, path if path.is_dir() else path.parent)
    return found


def _report(path: Path) -> Report:
    from ..bench.report import read_report

    return read_report(path / "report.json" if path.is_dir() else path)


def _gate_of(report: Report) -> dict[str, object]:
    gate = report.recipe.get("gate", {})
    return gate if isinstance(gate, dict) else {}
