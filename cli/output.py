"""What verbs print: records, lines of a run, progress."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ..bench.latency import Progress


def print_record(record: BaseModel, as_json: bool, quiet: bool) -> None:
    if as_json:
        typer.echo(record.model_dump_json(indent=1))
    elif not quiet:
        from .. import printing

        printing.print_record(record)


def say_unless(silent: bool) -> Callable[[str], None]:
    return (lambda _: None) if silent else typer.echo


@contextlib.contextmanager
def progress_bar(title: str, silent: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar that is told (done, total)."""
    if silent or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextlib.contextmanager
def latency_line(silent: bool) -> Iterator[Callable[[Progress], None] | None]:
    """A line that says how far a latency measurement is and how narrow its interval."""
    if silent or not sys.stderr.isatty():
        yield None
        return

    def show(now: Progress) -> None:
        line = f"  {now.seconds:.0f} of {now.budget:.0f} s, {now.rounds} rounds, interval ±{50 * now.width:.1f} %"
        done = now.seconds >= now.budget
        sys.stderr.write(f"\r\033[K{'' if done else line}")
        sys.stderr.flush()

    yield show
    sys.stderr.write("\r\033[K")
