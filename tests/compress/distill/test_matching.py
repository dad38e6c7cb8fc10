from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from edgelathe.compress.distill.attention_transfer import attention_transfer
from edgelathe.compress.distill.features import FeaturePair
from edgelathe.compress.distill.layers import Layer
from edgelathe.compress.distill.matching import BETA, FEATURE_LOSSES, FeatureLoss, FeatureMatching, feature_pairs
from edgelathe.compress.distill.rkd import rkd_angle, rkd_distance
from edgelathe.compress.objective import Batch, Objective
from edgelathe.compress.train import train
from edgelathe.data import Dataset, Preprocess
from edgelathe.errors import EdgeLatheError
from torch import Tensor, nn

PREPROCESS = Preprocess((0.0,) * 3, (1.0,) * 3)


def _net(width: int, stride: int = 1) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(width)
        return nn.Sequential(
            nn.Conv2d(3, width, 3, stride, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(width, 3),
        )  # fmt: skip


class Base(Objective):
    """Distillation of which only that the teacher runs and that it costs 2 is of interest here."""

    def __init__(self, teacher: nn.Module) -> None:
        self.teacher = teacher

    def settings(self) -> Mapping[str, object]:
        return {"loss": "kd", "alpha": 0.3}

    def __call__(self, batch: Batch) -> Tensor:
        return batch.run(self.teacher, PREPROCESS).sum() * 0 + 2.0

    def logged(self) -> Mapping[str, float]:
        return {"teacher": 2.0}


def _batch(network: nn.Module) -> Batch:
    images = torch.randint(0, 256, (6, 4, 4, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    inputs = images.permute(0, 3, 1, 2).float() / 255
    return Batch(
        network(inputs), torch.zeros(6, dtype=torch.int64), images, inputs, PREPROCESS, nullcontext, torch.arange(6)
    )


def _matching(
    loss: FeatureLoss, layer: str = "1", *, beta: float | None = None, hint_epochs: float = 0.0, stride: int = 1
) -> tuple[FeatureMatching, nn.Module, nn.Module]:
    student, teacher = _net(4).train(), _net(6, stride).eval()
    shapes = {"1": ((4, 4, 4), (6, 4 // stride, 4 // stride)), "3": ((4,), (6,))}[layer]
    pair = FeaturePair(layer, layer, *shapes)
    objective = FeatureMatching(Base(teacher), teacher, loss, [pair], beta=beta, hint_epochs=hint_epochs)
    return objective, student, teacher


WANTED: dict[FeatureLoss, Callable[[Tensor, Tensor], Tensor]] = {
    "attention": lambda s, t: 1000 * attention_transfer(s, t),
    "rkd-distance": lambda s, t: 25 * rkd_distance(s.mean(dim=(2, 3)), t.mean(dim=(2, 3))),
    "rkd-angle": lambda s, t: 50 * rkd_angle(s.mean(dim=(2, 3)), t.mean(dim=(2, 3))),
    "rkd": lambda s, t: (
        25 * rkd_distance(s.mean(dim=(2, 3)), t.mean(dim=(2, 3)))
        + 50 * rkd_angle(s.mean(dim=(2, 3)), t.mean(dim=(2, 3)))
    ),
}


@pytest.mark.parametrize("loss", WANTED)
def test_features_are_added_with_the_weight_of_the_paper(loss: FeatureLoss) -> None:
    objective, student, teacher = _matching(loss)
    with objective.listening(student):
        batch = _batch(student)
        found = objective(batch)
    term = WANTED[loss](student[:2](batch.inputs), teacher[:2](batch.inputs)).item()  # type: ignore[index]
    assert term > 1e-3
    assert found.item() == pytest.approx(2.0 + term, rel=1e-4)
    assert objective.logged() == pytest.approx({"teacher": 2.0, loss: term / BETA[loss]}, rel=1e-4)
    assert objective.trained() is None


@pytest.mark.parametrize("loss", ["fitnets", "vid"])
@pytest.mark.parametrize(("layer", "stride"), [("1", 1), ("1", 2), ("3", 1)])
def test_what_is_learned_beside_the_network_gets_gradients_and_lowers_the_loss(
    loss: FeatureLoss, layer: str, stride: int
) -> None:
    objective, student, teacher = _matching(loss, layer, stride=stride)
    learned = objective.trained()
    assert learned is not None
    optimizer = torch.optim.SGD(learned.parameters(), lr=0.001 if loss == "fitnets" else 0.1)
    losses = []
    with objective.listening(student):
        for _ in range(8):
            batch = _batch(student)
            optimizer.zero_grad()
            found = objective(batch)
            found.backward()
            assert all(parameter.grad is not None for parameter in learned.parameters())
            optimizer.step()
            losses.append(found.item())
    assert losses[-1] < losses[0]
    assert student.get_parameter("0.weight").grad is not None
    assert teacher.get_parameter("0.weight").grad is None


def test_every_loss_is_a_term_of_its_own_for_every_pair() -> None:
    objective, student, teacher = _matching("attention", beta=10.0)
    twice = FeatureMatching(Base(teacher), teacher, "attention", objective.pairs * 2, beta=10.0)
    with objective.listening(student), twice.listening(student):
        batch = _batch(student)
        once_found, twice_found = objective(batch).item(), twice(batch).item()
    assert twice_found - 2.0 == pytest.approx(2 * (once_found - 2.0), rel=1e-5)


def test_two_stages_learn_hints_first_and_nothing_of_them_then() -> None:
    objective, student, _ = _matching("fitnets", hint_epochs=1.0)
    with objective.listening(student):
        first = objective(replace(_batch(student), done=0.99))
        then = objective(replace(_batch(student), done=1.0))
    assert first.item() > 2.0 and first.requires_grad
    assert then.item() == 2.0


def test_settings_hold_what_was_chosen() -> None:
    objective, _, _ = _matching("fitnets", hint_epochs=1.0)
    assert objective.settings() == {
        "loss": "fitnets", "alpha": 0.3, "beta": 100.0, "hint_epochs": 1.0, "layers": {"1": "1"},
    }  # fmt: skip
    assert _matching("vid", beta=0.5)[0].settings()["beta"] == 0.5


def test_hooks_are_on_both_networks_while_it_listens_and_gone_after_an_exception() -> None:
    objective, student, teacher = _matching("attention")

    def hooked() -> list[int]:
        return [sum(len(module._forward_hooks) for module in network.modules()) for network in (student, teacher)]

    with pytest.raises(KeyboardInterrupt), objective.listening(student):
        assert hooked() == [1, 1]
        raise KeyboardInterrupt
    assert hooked() == [0, 0]


def test_default_layers_are_those_of_the_literature() -> None:
    shapes = {
        "stem": (4, 32, 32),
        "a": (4, 32, 32),
        "b": (8, 16, 16),
        "c": (8, 16, 16),
        "d": (16, 8, 8),
        "e": (16, 8, 8),
    }
    layers = {name: Layer(shape) for name, shape in shapes.items()}
    chosen = {loss: [pair.student for pair in feature_pairs(loss, layers, layers, None)] for loss in FEATURE_LOSSES}
    assert chosen == {
        "fitnets": ["c"], "attention": ["a", "c", "e"], "vid": ["a", "c", "e"], "rkd-distance": ["e"],
        "rkd-angle": ["e"], "rkd": ["e"],
    }  # fmt: skip
    (pair,) = feature_pairs("attention", layers, layers, {"stem": "b"})
    assert (pair.student, pair.teacher) == ("stem", "b")


def test_a_vector_has_no_attention() -> None:
    with pytest.raises(EdgeLatheError) as caught:
        _matching("attention", "3")
    assert str(caught.value) == (
        'Cannot compare the attention of "3" [4] with that of "3" [6]: one of them has a single position; '
        "name layers that give maps."
    )


def test_variances_are_trained_with_the_network_and_stay_out_of_it(blobs: Dataset) -> None:
    student, teacher = _net(4), _net(6).eval()
    pair = FeaturePair("1", "1", (4, 8, 8), (6, 8, 8))
    objective = FeatureMatching(Base(teacher), teacher, "vid", [pair])
    learned = objective.trained()
    assert learned is not None
    (rho,) = (parameter for name, parameter in learned.named_parameters() if name.endswith("rho"))
    before, names = rho.detach().clone(), list(student.state_dict())
    train(
        student, blobs, preprocess=blobs.preprocess, objective=objective, epochs=2, batch=16, lr=0.05,
        precision="float32", progress=False,
    )  # fmt: skip
    assert (rho.detach() - before).abs().min().item() > 1e-3
    assert list(student.state_dict()) == names
