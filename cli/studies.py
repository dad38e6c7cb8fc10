"""The verb that compares kinds of pruning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import verbs
from .options import Json, Quiet
from .output import latency_line, say_unless


def study(
    study: Annotated[str, typer.Argument(help="A study file, or the name of a shipped one.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key.path=value, repeatable; students count from 0.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds the runs.")] = Path("runs"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare weight pruning with channel pruning on distilled students, at matched budgets.

    A study that was interrupted continues when the same command is given again.
    """
    with latency_line(as_json or quiet) as on_round:
        record, folder = verbs.study(
            study,
            overrides=overrides or (),
            runs=runs,
            say=say_unless(as_json or quiet),
            progress=not (as_json or quiet),
            on_round=on_round,
        )
    if as_json:
        typer.echo(record.model_dump_json(indent=1))
    elif not quiet:
        from ..printing import print_study

        print_study(record)
        typer.echo(f"\nThe table and the plot are {folder / 'study.md'} and {folder / 'study.svg'}")
