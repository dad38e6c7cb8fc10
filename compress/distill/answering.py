"""Running a teacher over a whole view of the training images, and what is said meanwhile."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import torch
from rich.console import Console
from rich.progress import TaskID
from torch import Tensor, nn

from ... import errors
from ...files import write_atomic
from ..augment import Draws, augment
from ..objective import network_inputs
from ..precision import ADVANTAGE, Precision, autocast
from ..progress import bar
from .frozen import folded
from .teachers import Teacher

AT_ONCE = 128
"""Images in a batch. Larger ones are no faster on a CPU: their feature maps leave the caches."""
_ROUNDS = 3
_BYTES = np.dtype(np.float16).itemsize


class AnsweringProgress:
    """Context manager showing views, images/s and time left; nothing unless `shown`."""

    def __init__(self, teacher: str, *, images: int, shown: bool) -> None:
        self._console = Console(stderr=True, quiet=not shown)
        self._title = f"answers of {teacher}"
        self._bar = bar(self._console, disable=not (shown and self._console.is_terminal))
        self._images = images
        self._task: TaskID | None = None
        self._began = 0.0
        self._done = 0

    def __enter__(self) -> AnsweringProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)

    def begin(self, view: int, views: int) -> None:
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task("", total=(views - view) * self._images, figures="")
            self._began = time.perf_counter()
        self._bar.update(self._task, description=f"{self._title} view {view + 1}/{views}")

    def step(self, images: int) -> None:
        self._done += images
        if self._task is not None:
            speed = self._done / (time.perf_counter() - self._began)
            self._bar.update(self._task, advance=images, figures=f"{speed:.0f} images/s")


@dataclass(frozen=True)
class Answering:
    teacher: Teacher
    images: Tensor
    """uint8 [N,H,W,C], all training images."""

    @cached_property
    def network(self) -> nn.Module:
        return folded(self.teacher.network, network_inputs(self.images[:2], self.teacher.preprocess))

    @cached_property
    def classes(self) -> int:
        return int(self.answers(self.images[:1], "float32").shape[1])

    def answers(self, images: Tensor, precision: Precision) -> Tensor:
        """float32 [n, classes] to uint8 [n,H,W,C], less the largest of each row."""
        with torch.inference_mode(), autocast(precision):
            logits = self.network(network_inputs(images, self.teacher.preprocess)).float()
        return logits - logits.amax(dim=1, keepdim=True)

    def write(self, path: Path, view: int, draws: Draws | None, precision: Precision, shown: AnsweringProgress) -> None:
        """Write the answers to all images, augmented as `draws` says, whole or not at all."""

        def fill(aside: Path) -> None:
            # Written and not memory-mapped: a full disk raises then, and does not kill the process.
            with aside.open("wb") as file:
                self._fill(file, view, draws, precision, shown)

        write_atomic(path, fill, "the teacher's answers")

    def _fill(
        self, file: BinaryIO, view: int, draws: Draws | None, precision: Precision, shown: AnsweringProgress
    ) -> None:
        count = len(self.images)
        header = {"descr": "<f2", "fortran_order": False, "shape": (count, self.classes)}
        np.lib.format.write_array_header_2_0(file, header)
        for first in range(0, count, AT_ONCE):
            part = slice(first, min(first + AT_ONCE, count))
            pixels = augment(self.images[part], draws.part(part.start, part.stop) if draws else None)
            stored = self.answers(pixels, precision).half()
            finite = stored.isfinite().all(dim=1)
            if not finite.all():
                raise errors.answers.not_finite(self.teacher.name, first + int((~finite).nonzero()[0]), view)
            file.write(stored.numpy().astype("<f2", copy=False).data)
            shown.step(len(stored))


def faster_precision(answering: Answering) -> Precision:
    """bf16 where it is clearly faster on a batch of the images, else float32, which is the more exact."""
    batch = answering.images[:AT_ONCE]
    best: dict[Precision, float] = {"float32": float("inf"), "bf16": float("inf")}
    for number in range(_ROUNDS + 1):
        for precision in best:
            began = time.perf_counter()
            answering.answers(batch, precision)
            if number:  # the first is warm-up
                best[precision] = min(best[precision], time.perf_counter() - began)
    return "bf16" if best["float32"] > ADVANTAGE * best["bf16"] else "float32"


def check_space(folder: Path, views: int, images: int, classes: int, shown: AnsweringProgress) -> None:
    """Say how much the answers to `views` views take on disk. Raises EdgeLatheError when there is not so much free."""
    needed = views * images * classes * _BYTES
    if not needed:
        return
    shown.say(
        f"Teacher's answers: {views} views x {images:,} images x {classes} classes x {_BYTES} bytes = "
        f"{errors.answers.megabytes(needed)} in {folder}"
    )
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise errors.answers.no_space(folder, needed, free)
