"""The verbs about a recipe and its run: run, plan, gate, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import verbs
from ..compress.parallel import speaks
from .options import Json, Quiet
from .output import latency_line, print_record, progress_bar, say_unless


def run(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe file, or the name of a shipped one (default: digits).")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key.path=value, repeatable; stages count from 0.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds the runs.")] = Path("runs"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan with predicted figures; train nothing.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Carry out a recipe: train, prune, distil, export, quantize, measure, report, judge.

    A run that was interrupted continues when the same command is given again. Under `accelerate launch -m edgelathe`
    all processes train together.
    """
    as_json, quiet = as_json and speaks(), quiet or not speaks()
    if dry_run:
        print_record(verbs.plan(recipe, overrides=overrides or ()), as_json, quiet)
        return
    with latency_line(as_json or quiet) as on_round:
        report, folder = verbs.run(
            recipe,
            overrides=overrides or (),
            runs=runs,
            say=say_unless(as_json or quiet),
            progress=not (as_json or quiet),
            on_round=on_round,
        )
    print_record(report, as_json, quiet)
    if not (as_json or quiet):
        typer.echo(f"\nModels and reports are in {folder} (open {folder / 'report.html'})")
    raise typer.Exit(report.gate.exit_code if report.gate else 0)


def plan(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe file, or the name of a shipped one (default: digits).")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key.path=value, repeatable; stages count from 0.")
    ] = None,
    scan: Annotated[
        bool, typer.Option("--scan", help="Choose widths by what each group loses alone; trains what comes before.")
    ] = False,
    images: Annotated[int, typer.Option(help="Training images that the scan judges on.")] = 512,
    measure: Annotated[str, typer.Option(help="What the scan's widths lose evenly: loss or accuracy.")] = "loss",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for the widths, for the key widths of the stage.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds the runs.")] = Path("runs"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say what a recipe would do, with predicted figures and the widths of its pruning, as a file that can be edited.

    Without --scan nothing is trained. A scan that was interrupted continues when the same command is given again.
    """
    silent = as_json or quiet
    with progress_bar("scan", silent) as on_progress:
        made = verbs.plan(
            recipe,
            overrides=overrides or (),
            scan=scan,
            images=images,
            measure=measure,  # type: ignore[arg-type]
            output=output,
            runs=runs,
            say=say_unless(silent),
            on_progress=on_progress,
        )
    print_record(made, as_json, quiet)
    if output and not silent:
        typer.echo(f"\nThe widths are in {output}; to use them, set the key widths of the stage to that file.")


def gate(
    report: Annotated[Path, typer.Argument(help="A run's folder or its report.json.")],
    budget: Annotated[Path | None, typer.Option(help="TOML file of budgets (default: those of the recipe).")] = None,
    baseline: Annotated[Path | None, typer.Option(help="Report that relative budgets refer to.")] = None,
    candidate: Annotated[str | None, typer.Option(help="Which file to judge (default: the last).")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge a run by its budgets: exit code 0 all kept, 1 one broken, 2 cannot judge."""
    verdict = verbs.gate(report, budget=budget, baseline=baseline, candidate=candidate)
    print_record(verdict, as_json, quiet)
    raise typer.Exit(verdict.exit_code)


def report(
    run: Annotated[Path, typer.Argument(help="A run's folder or its report.json.")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show a run's report and write its Markdown and HTML pages anew."""
    print_record(verbs.report(run), as_json, quiet)
