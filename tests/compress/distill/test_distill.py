from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from edgelathe.compress.checkpoint import Epoch, state_sha256
from edgelathe.compress.distill.distill import distill
from edgelathe.compress.train import TrainResult, train
from edgelathe.data import Dataset, Preprocess
from edgelathe.errors import EdgeLatheError
from torch import Tensor, nn

MakeNet = Callable[[], nn.Module]


class Killed(BaseException):
    pass


def _distill(model: nn.Module, teacher: nn.Module, data: Dataset, **settings: Any) -> TrainResult:
    defaults: dict[str, Any] = {
        "preprocess": data.preprocess, "teacher_preprocess": data.preprocess, "epochs": 3, "batch": 16,
        "lr": 0.05, "augment": "shift", "precision": "float32", "progress": False,
    }  # fmt: skip
    return distill(model, teacher, data, **{**defaults, **settings})


@pytest.fixture
def teacher(blobs: Dataset, small_net: MakeNet) -> nn.Module:
    model = small_net()
    train(model, blobs, preprocess=blobs.preprocess, epochs=6, batch=16, lr=0.05, precision="float32", progress=False)
    return model


def test_student_learns_from_the_teacher_alone(blobs: Dataset, small_net: MakeNet, teacher: nn.Module) -> None:
    assert blobs.train is not None
    before = state_sha256(teacher)
    student = small_net()
    result = _distill(student, teacher, blobs, alpha=1.0, epochs=8)
    assert result.test_accuracy >= 0.9
    assert state_sha256(teacher) == before
    assert all(parameter.requires_grad for parameter in teacher.parameters())


def test_share_zero_is_plain_training(blobs: Dataset, small_net: MakeNet, teacher: nn.Module) -> None:
    distilled, plain = small_net(), small_net()
    _distill(distilled, teacher, blobs, alpha=0.0)
    train(
        plain, blobs, preprocess=blobs.preprocess, epochs=3, batch=16, lr=0.05, augment="shift",
        precision="float32", progress=False,
    )  # fmt: skip
    for mine, theirs in zip(distilled.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-5)


def test_teacher_sees_the_same_pixels_in_its_own_normalisation(blobs: Dataset) -> None:
    class Recorder(nn.Module):
        def __init__(self, seen: list[Tensor]) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.forward = lambda x: self.record(x, seen)  # type: ignore[method-assign]

        def record(self, x: Tensor, seen: list[Tensor]) -> Tensor:
            seen.append(x.detach().clone())
            return x.mean(dim=(2, 3)) * self.scale

    by_student: list[Tensor] = []
    by_teacher: list[Tensor] = []
    other = Preprocess((0.0,) * 3, (1 / 255,) * 3)
    data = replace(blobs, test=blobs.test.first(3))
    _distill(Recorder(by_student), Recorder(by_teacher), data, teacher_preprocess=other, epochs=1)
    steps_of_student = [x for x in by_student if len(x) == 16]
    steps_of_teacher = [x for x in by_teacher if len(x) == 16]
    assert len(steps_of_teacher) == len(steps_of_student) == 6
    for mine, theirs in zip(steps_of_student, steps_of_teacher, strict=True):
        assert torch.allclose(mine, (theirs / 255 - 0.3) / 0.2, rtol=0, atol=1e-5)


@pytest.mark.parametrize("weighting", ["fixed", "confidence", "agreement", "entropy"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_killed_and_continued_ends_with_the_same_bytes(
    blobs: Dataset, small_net: MakeNet, teacher: nn.Module, tmp_path: Path, weighting: str, precision: str
) -> None:
    asked = {"weighting": weighting, "precision": precision}
    undisturbed = small_net()
    _distill(undisturbed, teacher, blobs, **asked)

    def kill(point: Epoch) -> None:
        raise Killed

    with pytest.raises(Killed):
        _distill(small_net(), teacher, blobs, state=tmp_path, on_epoch=kill, **asked)
    continued = small_net()
    _distill(continued, teacher, blobs, state=tmp_path, **asked)
    assert state_sha256(continued) == state_sha256(undisturbed)


def test_weighting_changes_the_result(blobs: Dataset, small_net: MakeNet, teacher: nn.Module) -> None:
    hashes = set()
    for weighting in ("fixed", "confidence", "entropy"):
        student = small_net()
        _distill(student, teacher, blobs, epochs=1, weighting=weighting)
        hashes.add(state_sha256(student))
    assert len(hashes) == 3


def test_checkpoint_with_another_teacher_is_refused(
    blobs: Dataset, small_net: MakeNet, teacher: nn.Module, tmp_path: Path
) -> None:
    _distill(small_net(), teacher, blobs, epochs=1, state=tmp_path)
    with pytest.raises(EdgeLatheError, match="differs in objective; restore"):
        _distill(small_net(), small_net(), blobs, epochs=1, state=tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "kl"}, 'Unknown loss "kl": did you mean "kd"?'),
        ({"weighting": "confident"}, 'Unknown weighting "confident": did you mean "confidence"?'),
        ({"alpha": 1.5}, "Cannot use alpha = 1.5: it must be between 0 and 1."),
        ({"temperature": 0.0}, "Cannot use temperature = 0.0: it must be above 0."),
    ],
)
def test_impossible_settings(blobs: Dataset, small_net: MakeNet, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        _distill(small_net(), small_net(), blobs, **settings)
    assert str(caught.value) == message


def test_teacher_of_other_classes_is_refused(blobs: Dataset, small_net: MakeNet) -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    with pytest.raises(EdgeLatheError, match="network with 3 outputs from a teacher with 10: both must know"):
        _distill(small_net(), other, blobs)
