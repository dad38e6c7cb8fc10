from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from edgelathe.compress.checkpoint import Epoch, state_sha256
from edgelathe.compress.distill.distill import distill
from edgelathe.compress.distill.several import SeveralTeachers, distill_several
from edgelathe.compress.distill.teacher_weights import TeacherWeights
from edgelathe.compress.distill.teachers import ResizedInputs, Teacher, as_teacher, onnx_teacher
from edgelathe.compress.objective import Batch, as_tensor, network_inputs
from edgelathe.compress.train import TrainResult, train
from edgelathe.data import Dataset, Preprocess
from edgelathe.errors import EdgeLatheError
from torch import Tensor, nn

MakeNet = Callable[[], nn.Module]
WriteOnnx = Callable[..., Path]

OTHER = Preprocess((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Killed(BaseException):
    pass


def _settings(data: Dataset, **settings: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "preprocess": data.preprocess, "epochs": 2, "batch": 16, "lr": 0.05, "augment": "shift",
        "precision": "float32", "progress": False,
    }  # fmt: skip
    return {**defaults, **settings}


def _distill(model: nn.Module, teachers: list[Teacher], data: Dataset, **settings: Any) -> TrainResult:
    return distill_several(model, teachers, data, **_settings(data, **settings))


@pytest.fixture(scope="module")
def networks() -> list[nn.Module]:
    """Two small networks of unequal widths, untrained."""

    def make(width: int, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Sequential(
                nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                nn.Linear(width, 3),
            ).eval()  # fmt: skip

    return [make(6, 1), make(10, 2)]


@pytest.fixture
def teachers(networks: list[nn.Module], blobs: Dataset) -> list[Teacher]:
    """A good one and one that has learned nothing."""
    good = networks[0]
    train(good, blobs, **_settings(blobs, epochs=6, augment="none"))
    return [as_teacher("good", good, blobs.preprocess), as_teacher("bad", networks[1], OTHER)]


@pytest.mark.parametrize("combine", ["adaptive", "amtml", "mean"])
def test_one_teacher_is_plain_distillation_to_the_last_bit(
    blobs: Dataset, small_net: MakeNet, teachers: list[Teacher], combine: str
) -> None:
    plain, several = small_net(), small_net()
    first = distill(
        plain, teachers[1].network, blobs, teacher_preprocess=OTHER, alpha=0.8, temperature=3.0, **_settings(blobs)
    )
    second = _distill(several, [teachers[1]], blobs, combine=combine, alpha=0.8, temperature=3.0)
    assert state_sha256(plain) == state_sha256(several)
    assert [epoch.loss for epoch in first.epochs] == [epoch.loss for epoch in second.epochs]


def test_the_same_teacher_twice_is_that_teacher(blobs: Dataset, small_net: MakeNet, teachers: list[Teacher]) -> None:
    once, twice = small_net(), small_net()
    _distill(once, [teachers[0]], blobs, combine="mean")
    _distill(twice, [teachers[0], teachers[0]], blobs, combine="mean")
    for mine, theirs in zip(once.parameters(), twice.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-5)


def test_an_onnx_teacher_teaches_what_its_source_teaches(
    blobs: Dataset, small_net: MakeNet, write_onnx: WriteOnnx, teachers: list[Teacher], tmp_path: Path
) -> None:
    network = small_net().eval()
    nn.init.normal_(network[6].weight, generator=torch.Generator().manual_seed(5))  # type: ignore[index, arg-type]
    file = onnx_teacher(write_onnx(network, tmp_path / "net.onnx"), blobs.shape)
    from_torch, from_file = small_net(), small_net()
    _distill(from_torch, [teachers[0], as_teacher("network", network, OTHER)], blobs)
    _distill(from_file, [teachers[0], as_teacher("file", file, OTHER)], blobs)
    for mine, theirs in zip(from_torch.parameters(), from_file.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-4)


def test_stored_answers_teach_what_the_teachers_teach(
    blobs: Dataset, small_net: MakeNet, write_onnx: WriteOnnx, teachers: list[Teacher], tmp_path: Path
) -> None:
    file = as_teacher("file", onnx_teacher(write_onnx(small_net(), tmp_path / "net.onnx"), blobs.shape), OTHER)
    live, stored = small_net(), small_net()
    _distill(live, [*teachers, file], blobs, views=1, store_answers=False)
    _distill(stored, [*teachers, file], blobs, views=1, answers_in=tmp_path / "answers")
    assert len(list((tmp_path / "answers").iterdir())) == 3
    for mine, theirs in zip(live.parameters(), stored.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=0, atol=2e-3), "answers are kept in half precision"


def test_teachers_of_other_sizes_teach(blobs: Dataset, small_net: MakeNet, networks: list[nn.Module]) -> None:
    usual, larger = small_net(), small_net()
    _distill(usual, [as_teacher("a", networks[0], OTHER)], blobs)
    result = _distill(larger, [as_teacher("a", ResizedInputs(networks[0], (13, 13)), OTHER)], blobs)
    assert state_sha256(usual) != state_sha256(larger)
    assert all(torch.isfinite(parameter).all() for parameter in larger.parameters())
    assert len(result.epochs) == 2


def test_the_weight_of_each_teacher_is_logged(blobs: Dataset, small_net: MakeNet, teachers: list[Teacher]) -> None:
    plain = _distill(small_net(), teachers, blobs, combine="mean")
    assert [dict(epoch.logged) for epoch in plain.epochs] == [{"weight of good": 0.5, "weight of bad": 0.5}] * 2
    learned = _distill(small_net(), teachers, blobs)
    for epoch in learned.epochs:
        assert sum(epoch.logged.values()) == pytest.approx(1.0, abs=1e-6)


def test_a_teacher_that_knows_the_labels_comes_to_count_more(
    blobs: Dataset, small_net: MakeNet, teachers: list[Teacher]
) -> None:
    result = _distill(small_net(), teachers, blobs, decay=0.0, epochs=5)
    weights = [epoch.logged["weight of good"] for epoch in result.epochs]
    assert weights[-1] > 0.75
    assert weights[0] < weights[-1]


def test_learned_from_the_students_loss_the_vaguer_teacher_counts_more(
    blobs: Dataset, small_net: MakeNet, teachers: list[Teacher]
) -> None:
    result = _distill(small_net(), teachers, blobs, combine="amtml", decay=0.0, epochs=5)
    assert result.epochs[-1].logged["weight of good"] < 0.4


def test_decay_holds_weights_equal(blobs: Dataset, small_net: MakeNet, teachers: list[Teacher]) -> None:
    result = _distill(small_net(), teachers, blobs, decay=3.0, epochs=3)
    assert result.epochs[-1].logged["weight of good"] == pytest.approx(0.5, abs=0.02)


def _batch(data: Dataset, logits: Tensor) -> Batch:
    assert data.train is not None
    images, labels = as_tensor(data.train.x[: len(logits)]), as_tensor(data.train.y[: len(logits)])
    inputs = network_inputs(images, data.preprocess)
    return Batch(logits, labels, images, inputs, data.preprocess, nullcontext, torch.arange(len(logits)))


def _objective(teachers: list[Teacher], student: nn.Module, **settings: Any) -> SeveralTeachers:
    defaults: dict[str, Any] = {
        "alpha": 0.6, "temperature": 2.0, "label_smoothing": 0.0, "layer": "3", "decay": 0.0, "relations": 0.0,
    }  # fmt: skip
    return SeveralTeachers(teachers, **{**defaults, **settings})


@pytest.mark.parametrize("by_labels", [True, False])
def test_no_gradient_goes_through_weights_into_the_student(
    blobs: Dataset, small_net: MakeNet, teachers: list[Teacher], by_labels: bool
) -> None:
    """The same weights, fixed, give the student the same gradients."""
    grads = []
    for fixed in (False, True):
        student = small_net().train()
        weights = TeacherWeights(2, 8, seed=0)
        nn.init.constant_(weights.v, 0.5)
        if fixed:
            weights.requires_grad_(False)
        objective = _objective(teachers, student, weights=weights, by_labels=by_labels)
        torch.manual_seed(0)
        with objective.listening(student):
            inputs = network_inputs(as_tensor(blobs.train.x[:12]), blobs.preprocess)  # type: ignore[union-attr]
            objective(_batch(blobs, student(inputs))).backward()
        grads.append([parameter.grad for parameter in student.parameters()])
        assert (weights.v.grad is None) == fixed
        if not fixed:
            assert weights.v.grad is not None
            assert weights.v.grad.abs().sum() > 0
    for mine, theirs in zip(*grads, strict=True):
        assert mine is not None
        assert theirs is not None
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-7)


def test_the_loss_by_hand(blobs: Dataset, small_net: MakeNet) -> None:
    """Two teachers that always answer the same, weighed alike, and a student that finds all classes alike."""
    teachers = [as_teacher(name, _always(logits), OTHER) for name, logits in (("a", (2.0, 0, 0)), ("b", (0, 4.0, 0)))]
    objective = _objective(teachers, small_net(), weights=None, by_labels=False)
    target = 0.5 * torch.softmax(torch.tensor([1.0, 0, 0]), 0) + 0.5 * torch.softmax(torch.tensor([0, 2.0, 0]), 0)
    divergence = float((target * (target / (1 / 3)).log()).sum())
    expected = 0.6 * 2.0**2 * divergence + 0.4 * math.log(3)
    assert objective(_batch(blobs, torch.zeros((6, 3)))).item() == pytest.approx(expected, abs=1e-6)


def test_weights_learn_from_the_labels_beside_the_loss(blobs: Dataset, small_net: MakeNet) -> None:
    teachers = [as_teacher(name, _always(logits), OTHER) for name, logits in (("a", (2.0, 0, 0)), ("b", (0, 4.0, 0)))]
    student = small_net().train()
    losses = []
    for by_labels in (False, True):
        objective = _objective(teachers, student, weights=TeacherWeights(2, 8, seed=0), by_labels=by_labels, decay=0.0)
        torch.manual_seed(0)
        with objective.listening(student), torch.no_grad():
            logits = student(network_inputs(as_tensor(blobs.train.x[:6]), blobs.preprocess))  # type: ignore[union-attr]
            losses.append(objective(_batch(blobs, logits)).item())
    target = 0.5 * torch.softmax(torch.tensor([1.0, 0, 0]), 0) + 0.5 * torch.softmax(torch.tensor([0, 2.0, 0]), 0)
    assert losses[1] - losses[0] == pytest.approx(-float(target.log().mean()), abs=1e-5)  # each class twice


def _always(logits: tuple[float, ...]) -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    nn.init.zeros_(network[1].weight)  # type: ignore[arg-type]
    with torch.no_grad():
        network[1].bias.copy_(torch.tensor(logits))  # type: ignore[operator, union-attr]
    return network


def test_nothing_learned_beside_the_student_stays_in_it(
    blobs: Dataset, small_net: MakeNet, teachers: list[Teacher]
) -> None:
    student = small_net()
    names = list(student.state_dict())
    before = [teacher.sha256 for teacher in teachers]
    _distill(student, teachers, blobs, features="fitnets")
    assert list(student.state_dict()) == names
    for network in (student, *(teacher.network for teacher in teachers)):
        assert not any(layer._forward_hooks for layer in network.modules())
    assert [state_sha256(teacher.network) for teacher in teachers] == before


@pytest.mark.parametrize("settings", [{"features": "fitnets"}, {"features": "vid"}, {"relations": 1.0}])
def test_further_terms_change_the_result(
    blobs: Dataset, small_net: MakeNet, teachers: list[Teacher], settings: dict[str, Any]
) -> None:
    answers_alone, more = small_net(), small_net()
    _distill(answers_alone, teachers, blobs)
    result = _distill(more, teachers, blobs, **settings)
    assert state_sha256(answers_alone) != state_sha256(more)
    if "features" in settings:
        logged = {f"{settings['features']} of {name}" for name in ("good", "bad")}
        assert logged <= result.epochs[-1].logged.keys()


@pytest.mark.parametrize(
    "asked", [{}, {"combine": "mean", "relations": 1.0}, {"features": "fitnets", "precision": "bf16"}]
)
def test_killed_and_continued_ends_with_the_same_bytes(
    blobs: Dataset, small_net: MakeNet, teachers: list[Teacher], tmp_path: Path, asked: dict[str, Any]
) -> None:
    undisturbed = small_net()
    whole = _distill(undisturbed, teachers, blobs, epochs=3, **asked)

    def kill(_point: Epoch) -> None:
        raise Killed

    with pytest.raises(Killed):
        _distill(small_net(), teachers, blobs, epochs=3, state=tmp_path, on_epoch=kill, **asked)
    continued = small_net()
    result = _distill(continued, teachers, blobs, epochs=3, state=tmp_path, **asked)
    assert state_sha256(continued) == state_sha256(undisturbed)
    assert [epoch.logged for epoch in result.epochs] == [epoch.logged for epoch in whole.epochs]


def test_a_checkpoint_with_other_teachers_is_refused(
    blobs: Dataset, small_net: MakeNet, teachers: list[Teacher], tmp_path: Path
) -> None:
    _distill(small_net(), teachers, blobs, epochs=1, state=tmp_path)
    with pytest.raises(EdgeLatheError, match="differs in objective; restore"):
        _distill(small_net(), teachers[::-1], blobs, epochs=1, state=tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"combine": "adaptiv"}, 'Unknown combine "adaptiv": did you mean "adaptive"?'),
        ({"features": "fitnet"}, 'Unknown features "fitnet": did you mean "fitnets"?'),
        ({"alpha": 2.0}, "Cannot use alpha = 2.0: it must be between 0 and 1."),
        (
            {"label_smoothing": 1.5},
            "Cannot use label_smoothing = 1.5: it must be at least 0 and below 1.",
        ),
        ({"decay": -1.0}, "Cannot use decay = -1.0: it must be 0 or more."),
        ({"beta": 5.0}, 'Cannot use beta = 5.0: it must be left out beside features = "none".'),
        ({"combine": "mean", "layer": "3"}, 'Cannot use layer = 3: it must be left out beside combine = "mean".'),
    ],
)
def test_impossible_settings(
    blobs: Dataset, small_net: MakeNet, teachers: list[Teacher], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        _distill(small_net(), teachers, blobs, **settings)
    assert str(caught.value) == message


def test_layers_that_are_not_there(blobs: Dataset, small_net: MakeNet, teachers: list[Teacher]) -> None:
    with pytest.raises(EdgeLatheError, match=r'"layer4" of the student: it has no such layer .* candidates'):
        _distill(small_net(), teachers, blobs, layer="layer4")


def test_an_onnx_file_has_no_feature_maps(
    blobs: Dataset, small_net: MakeNet, write_onnx: WriteOnnx, tmp_path: Path
) -> None:
    file = onnx_teacher(write_onnx(small_net(), tmp_path / "net.onnx"), blobs.shape)
    with pytest.raises(EdgeLatheError, match="maps of the teacher file: an ONNX file gives its logits alone"):
        _distill(small_net(), [as_teacher("file", file, OTHER)], blobs, features="fitnets")
