"""What `distill_speed` measures: a plain loop, EdgeLathe whole and without one of its measures, and the teacher alone.

Each runs in a process of its own, which waits for its turn: a line of settings in, images and seconds out.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from edgelathe.compress import batches
from edgelathe.compress import train as training
from edgelathe.compress.allocator import keeping_freed_memory
from edgelathe.compress.checkpoint import Epoch
from edgelathe.compress.distill.answering import AT_ONCE, Answering
from edgelathe.compress.distill.distill import distill
from edgelathe.compress.distill.teachers import as_teacher
from edgelathe.compress.precision import Precision
from edgelathe.data import Dataset, load_data
from edgelathe.models.weights import load_weights
from edgelathe.models.zoo import build
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms

from .networks import NETWORKS

STUDENT, TEACHER = NETWORKS["resnet20"], NETWORKS["resnet56"]
ALPHA, TEMPERATURE, LR = 0.9, 4.0, 0.05
_PREFETCHED = 2
"""Batches that every worker of a DataLoader has ready at the most: PyTorch's default."""
_EPOCHS_OF_A_TURN = 2
_JUDGED = 8
"""Test images: accuracy is none of this benchmark's business."""

Turn = Callable[[], tuple[int, float]]
"""Images seen and seconds spent."""


@dataclass(frozen=True)
class Contender:
    name: str
    kind: Literal["plain", "edgelathe", "teacher"]
    without: str = ""
    """The measure that is taken away."""


FULL = Contender("EdgeLathe", "edgelathe")
EAGER = Contender("without torch.compile", "edgelathe", "compiled")
PLAIN = Contender("plain loop", "plain")
ANSWERS = Contender("teacher's answers", "teacher")
CONTENDERS = (
    PLAIN,
    FULL,
    Contender("without stored answers", "edgelathe", "stored answers"),
    Contender("without bf16", "edgelathe", "bf16"),
    Contender("without channels-last", "edgelathe", "channels-last"),
    Contender("without whole-batch augmentation", "edgelathe", "augmentation"),
    Contender("without fused SGD", "edgelathe", "fused SGD"),
    Contender("without kept memory", "edgelathe", "kept memory"),
    EAGER,
    ANSWERS,
    Contender("teacher's answers without folded norms", "teacher", "folding"),
    Contender("teacher's answers without bf16", "teacher", "bf16"),
)


@dataclass(frozen=True)
class Settings:
    folder: Path
    """Of CIFAR-10 and published weights."""
    batch: int
    steps: int
    """Of one turn."""
    rounds: int
    threads: int
    workers: int
    """Of the DataLoader, in the processes that have one."""
    seed: int


def contend(contender: Contender, settings: Settings, pipe: Connection) -> None:
    """Get ready, and then answer every word from `pipe` with a turn; None ends."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    if contender.kind == "edgelathe":
        _edgelathe(contender.without, settings, pipe)
        return
    turn = _plain(settings) if contender.kind == "plain" else _teacher(contender.without, settings)
    turn()
    pipe.send(None)
    while pipe.recv() is not None:
        pipe.send(turn())


def _networks(settings: Settings) -> tuple[nn.Module, nn.Module]:
    """An untrained student and the published teacher."""
    student, teacher = (build(network.source, num_classes=10, in_channels=3) for network in (STUDENT, TEACHER))
    assert TEACHER.weights is not None
    load_weights(teacher, settings.folder / TEACHER.weights)
    return student, teacher.eval()


def _data(settings: Settings) -> Dataset:
    return load_data("cifar10", settings.folder / "cifar10", limit_test=_JUDGED, seed=settings.seed)


# --- the plain loop -------------------------------------------------------------------------------------------


class _Images(torch.utils.data.Dataset[tuple[Any, int]]):
    def __init__(self, data: Dataset, transform: Callable[[Image.Image], Any]) -> None:
        assert data.train is not None
        self.x, self.y, self.transform = data.train.x, data.train.y, transform

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.x[index])), int(self.y[index])


_CROPPED = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]


def _loaded(data: Dataset, settings: Settings, *after: Callable[[Any], Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end, transformed image by image in worker processes, as tutorials do it."""
    loader = DataLoader(
        _Images(data, transforms.Compose([*_CROPPED, *after])),
        batch_size=settings.batch,
        shuffle=True,
        drop_last=True,
        num_workers=settings.workers,
        prefetch_factor=_PREFETCHED if settings.workers else None,
        persistent_workers=settings.workers > 0,
    )
    return itertools.chain.from_iterable(itertools.repeat(loader))


def _plain(settings: Settings) -> Turn:
    student, teacher = _networks(settings)
    student.train()
    normalise = transforms.Normalize(STUDENT.preprocess.mean, STUDENT.preprocess.std)
    loader = _loaded(_data(settings), settings, transforms.ToTensor(), normalise)
    optimizer = torch.optim.SGD(student.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        images, labels = next(loader)
        with torch.no_grad():
            answers = teacher(images)
        logits = student(images)
        soft = F.kl_div(
            F.log_softmax(logits / TEMPERATURE, dim=1), F.softmax(answers / TEMPERATURE, dim=1), reduction="batchmean"
        )
        loss = ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    def turn() -> tuple[int, float]:
        for _ in range(1 + settings.workers * _PREFETCHED):
            step()  # uses up what workers made ready while nobody asked: in a long run they have no such time
        began = time.perf_counter()
        for _ in range(settings.steps):
            step()
        return settings.steps * settings.batch, time.perf_counter() - began

    return turn


# --- EdgeLathe ------------------------------------------------------------------------------------------------


class _RowMajor(nn.Module):
    """A network that stays in PyTorch's default memory layout."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def to(self, *_: Any, **__: Any) -> _RowMajor:  # type: ignore[override]
        return self

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images.contiguous())
        return logits


def _edgelathe(without: str, settings: Settings, pipe: Connection) -> None:
    """`distill` itself, held up after every second epoch; one that nobody times and one that counts are a turn."""
    student, teacher = _networks(settings)
    data = _data(settings)
    assert data.train is not None
    if without == "channels-last":
        student = _RowMajor(student)
    if without == "augmentation":
        loader = _loaded(data, settings, np.array)
        batches.augment = lambda *_: next(loader)[0]  # type: ignore[attr-defined]
    if without == "kept memory":
        training.keeping_freed_memory = nullcontext  # type: ignore[attr-defined]
    if without == "fused SGD":
        torch.optim.SGD = _unfused  # type: ignore[misc]
    data = replace(data, train=data.train.take(settings.steps * settings.batch, settings.seed))

    def hold(epoch: Epoch) -> None:
        if epoch.epoch % _EPOCHS_OF_A_TURN:
            return
        pipe.send((settings.steps * settings.batch, settings.steps * settings.batch / epoch.images_per_second))
        if pipe.recv() is None:
            raise SystemExit(0)

    epochs = (settings.rounds + 2) * _EPOCHS_OF_A_TURN
    with tempfile.TemporaryDirectory() as folder:
        distill(
            student, teacher, data, preprocess=STUDENT.preprocess, teacher_preprocess=TEACHER.preprocess,
            alpha=ALPHA, temperature=TEMPERATURE, epochs=epochs, batch=settings.batch, lr=LR,
            augment="crop-flip", views=2, store_answers=without != "stored answers", answers_in=Path(folder),
            precision="float32" if without == "bf16" else "bf16", compiled=without != "compiled",
            threads=settings.threads, seed=settings.seed, progress=False, on_epoch=hold,
        )  # fmt: skip


_SGD = torch.optim.SGD


def _unfused(*parameters: Any, fused: bool, **keywords: Any) -> torch.optim.Optimizer:
    assert fused
    return _SGD(*parameters, **keywords)


# --- the teacher ----------------------------------------------------------------------------------------------


def _teacher(without: str, settings: Settings) -> Turn:
    """Answers as they are computed before they are stored."""
    _, network = _networks(settings)
    train = _data(settings).train
    assert train is not None
    images = torch.from_numpy(train.x[: settings.steps * AT_ONCE])
    teacher = as_teacher("teacher", network, TEACHER.preprocess)
    answering = Answering(teacher, images)
    if without == "folding":
        answering.__dict__["network"] = teacher.network  # what is cached there otherwise is folded
    precision: Precision = "float32" if without == "bf16" else "bf16"

    def turn() -> tuple[int, float]:
        with keeping_freed_memory():
            for _ in range(_EPOCHS_OF_A_TURN):
                began = time.perf_counter()
                for part in images.split(AT_ONCE):
                    answering.answers(part, precision)
        return len(images), time.perf_counter() - began

    return turn
