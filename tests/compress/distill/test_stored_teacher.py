from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from edgelathe.compress.checkpoint import Epoch, state_sha256
from edgelathe.compress.distill import stored_teacher
from edgelathe.compress.distill.distill import distill
from edgelathe.compress.distill.stored_teacher import stores_answers
from edgelathe.compress.train import TrainResult, train
from edgelathe.data import Dataset
from edgelathe.errors import EdgeLatheError
from torch import nn

from .conftest import Counted

MakeNet = Callable[[], nn.Module]


class Killed(BaseException):
    pass


@pytest.fixture
def teacher(blobs: Dataset, small_net: MakeNet) -> nn.Module:
    model = small_net()
    train(model, blobs, preprocess=blobs.preprocess, epochs=4, batch=16, lr=0.05, precision="float32", progress=False)
    return model


def _distill(model: nn.Module, teacher: nn.Module, data: Dataset, **settings: Any) -> TrainResult:
    defaults: dict[str, Any] = {
        "preprocess": data.preprocess, "teacher_preprocess": data.preprocess, "epochs": 4, "views": 2, "batch": 16,
        "augment": "crop-flip", "precision": "float32", "progress": False,
    }  # fmt: skip
    return distill(model, teacher, data, **{**defaults, **settings})


@pytest.mark.parametrize("loss", ["kd", "dkd"])
def test_stored_answers_teach_the_same(blobs: Dataset, small_net: MakeNet, teacher: nn.Module, loss: str) -> None:
    students = [small_net(), small_net()]
    stored, asked = (
        _distill(student, teacher, blobs, loss=loss, store_answers=store)
        for student, store in zip(students, (True, False), strict=True)
    )
    for mine, theirs in zip(students[0].parameters(), students[1].parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=0, atol=2e-3)
    assert stored.epochs[-1].loss == pytest.approx(asked.epochs[-1].loss, rel=2e-3)


def test_the_teacher_rests_while_the_student_learns(blobs: Dataset, small_net: MakeNet) -> None:
    teacher = Counted(small_net())
    _distill(small_net(), teacher, blobs, store_answers=True)
    some = teacher.seen[0]
    _distill(small_net(), teacher, blobs, store_answers=True, epochs=9)
    assert teacher.seen[0] == 2 * some


def test_a_second_student_finds_the_answers(
    blobs: Dataset, small_net: MakeNet, teacher: nn.Module, tmp_path: Path
) -> None:
    _distill(small_net(), teacher, blobs, answers_in=tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert len(files) == 4  # header, lock and two views
    _distill(small_net(), teacher, blobs, answers_in=tmp_path, loss="dkd", weighting="entropy", temperature=2.0)
    found = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert {path: time for path, time in found.items() if path.suffix == ".npy"}.items() <= files.items()
    assert found.keys() == files.keys()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_killed_and_continued_ends_with_the_same_bytes(
    blobs: Dataset, small_net: MakeNet, teacher: nn.Module, tmp_path: Path, precision: str
) -> None:
    undisturbed = small_net()
    _distill(undisturbed, teacher, blobs, precision=precision)

    def kill(point: Epoch) -> None:
        if point.epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        _distill(small_net(), teacher, blobs, precision=precision, state=tmp_path, on_epoch=kill)
    assert (tmp_path / "teacher-answers").is_dir()
    continued = small_net()
    _distill(continued, teacher, blobs, precision=precision, state=tmp_path)
    assert state_sha256(continued) == state_sha256(undisturbed)


def test_a_checkpoint_without_stored_answers_is_another(
    blobs: Dataset, small_net: MakeNet, teacher: nn.Module, tmp_path: Path
) -> None:
    _distill(small_net(), teacher, blobs, state=tmp_path, store_answers=False)
    with pytest.raises(EdgeLatheError, match="differs in objective"):
        _distill(small_net(), teacher, blobs, state=tmp_path, store_answers=True)


def test_bad_settings_are_found_before_answers_are_computed(
    blobs: Dataset, small_net: MakeNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(stored_teacher, "stored_answers", never)
    with pytest.raises(EdgeLatheError, match=r"Cannot use momentum = 1\.5"):
        _distill(small_net(), small_net(), blobs, momentum=1.5)


USUAL: dict[str, Any] = {
    "loss": "kd", "on_logits": True, "augment": "crop-flip", "views": 4, "epochs": 10, "mix": "none",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "alone"),
    [
        ({}, True),
        ({"epochs": 4}, False),  # nothing comes up again
        ({"views": 0}, False),
        ({"views": 0, "augment": "none"}, True),  # every epoch is the same
        ({"views": 0, "augment": "none", "epochs": 1}, False),
        ({"mix": "mixup"}, False),
        ({"loss": "vid", "on_logits": False}, False),
    ],
)
def test_auto_stores_where_it_saves_time(changed: dict[str, Any], alone: bool) -> None:
    assert stores_answers("auto", **(USUAL | changed)) is alone
    assert stores_answers(False, **(USUAL | changed)) is False


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"views": 0}, "views = 0 augments every epoch anew"),
        ({"mix": "cutmix"}, 'mix = "cutmix" makes other images in every epoch'),
        ({"loss": "attention"}, 'loss = "attention" needs more of the teacher than its logits'),
    ],
)
def test_where_answers_cannot_be_stored(blobs: Dataset, small_net: MakeNet, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        _distill(small_net(), small_net(), blobs, store_answers=True, **settings)
    assert str(caught.value) == (
        f"Cannot store the teacher's answers: {why}; change that, or leave store_answers out so that the teacher "
        "answers in every step."
    )


def test_an_unknown_wish_is_refused(blobs: Dataset, small_net: MakeNet) -> None:
    with pytest.raises(EdgeLatheError, match=r'Cannot use store_answers = always: it must be true, false or "auto"\.'):
        _distill(small_net(), small_net(), blobs, store_answers="always")
