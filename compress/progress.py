"""What a person sees while a network trains: a bar on a terminal, a line per epoch in a log."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .checkpoint import Epoch


def bar(console: Console, *, disable: bool = False) -> Progress:
    """What is done, the field `figures`, the time it took and the time that is left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=disable,
        refresh_per_second=4,
    )


class TrainingProgress:
    """Context manager showing epoch, loss, accuracy, images/s and time left; nothing unless `shown`."""

    def __init__(self, title: str, *, epochs: int, steps: int, done: int, shown: bool) -> None:
        console = Console(stderr=True)
        self._title = title
        self._epochs = epochs
        self._lines = console if shown and not console.is_terminal else None
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if shown and console.is_terminal:
            self._bar = bar(console)
            self._task = self._bar.add_task(
                self._describe(done + 1), total=epochs * steps, completed=done * steps, figures=""
            )

    def __enter__(self) -> TrainingProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def step(self, epoch: int, loss: float, accuracy: float, images_per_second: float) -> None:
        if self._bar:
            figures = _figures(loss, accuracy, images_per_second)
            self._bar.update(self._task, advance=1, description=self._describe(epoch), figures=figures)

    def epoch(self, point: Epoch) -> None:
        if self._lines:
            figures = _figures(point.loss, point.train_accuracy, point.images_per_second)
            test = "" if point.test_accuracy is None else f"  test {point.test_accuracy:.2%}"
            self._lines.print(f"{self._describe(point.epoch)}  {figures}{test}", highlight=False)

    def _describe(self, epoch: int) -> str:
        return f"{self._title} epoch {min(epoch, self._epochs)}/{self._epochs}"


def _figures(loss: float, accuracy: float, images_per_second: float) -> str:
    return f"loss {loss:.3f}  accuracy {accuracy:.1%}  {images_per_second:.0f} images/s"
