from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from edgelathe.compress.checkpoint import Epoch, state_sha256
from edgelathe.compress.objective import Batch, Objective
from edgelathe.compress.train import train
from edgelathe.data import Dataset, Preprocess, Split
from edgelathe.errors import EdgeLatheError
from torch import nn

MakeNet = Callable[[], nn.Module]


class Killed(BaseException):
    pass


def _train(model: nn.Module, data: Dataset, **settings: Any) -> Any:
    defaults: dict[str, Any] = {
        "preprocess": data.preprocess, "epochs": 4, "batch": 16, "lr": 0.05, "augment": "crop-flip",
        "precision": "float32", "progress": False, "seed": 3,
    }  # fmt: skip
    return train(model, data, **{**defaults, **settings})


def _killed_after(epoch: int) -> Callable[[Epoch], None]:
    def kill(point: Epoch) -> None:
        if point.epoch == epoch:
            raise Killed

    return kill


def test_learns_and_reports_each_epoch(blobs: Dataset, small_net: MakeNet) -> None:
    seen: list[Epoch] = []
    model = small_net()
    result = _train(model, blobs, epochs=6, on_epoch=seen.append)
    assert tuple(seen) == result.epochs
    assert [point.epoch for point in result.epochs] == [1, 2, 3, 4, 5, 6]
    assert result.epochs[-1].loss < 0.6 * result.epochs[0].loss
    assert result.test_accuracy >= 0.9
    assert [point.test_accuracy is None for point in result.epochs] == [True] * 5 + [False]
    assert all(point.images_per_second > 0 for point in result.epochs)
    assert not model.training
    assert all(parameter.is_contiguous() for parameter in model.parameters())


def test_every_epoch_is_judged_when_asked(blobs: Dataset, small_net: MakeNet) -> None:
    result = _train(small_net(), blobs, epochs=2, evaluate="every")
    assert all(point.test_accuracy is not None for point in result.epochs)


KEPT: tuple[dict[str, Any], ...] = (
    {"precision": "bf16"},
    {"ema": 0.8, "mix": "cutmix", "views": 2, "schedule": "one-cycle", "evaluate": "every"},
)
"""Settings that have a state of their own, or repeat something."""


@pytest.mark.parametrize("settings", KEPT)
def test_killed_and_continued_ends_with_the_same_bytes_whatever_is_kept(
    blobs: Dataset, small_net: MakeNet, tmp_path: Path, settings: dict[str, Any]
) -> None:
    undisturbed, continued = small_net(), small_net()
    wanted = _train(undisturbed, blobs, **settings)
    with pytest.raises(Killed):
        _train(small_net(), blobs, **settings, state=tmp_path, on_epoch=_killed_after(3))
    result = _train(continued, blobs, **settings, state=tmp_path)
    assert state_sha256(continued) == state_sha256(undisturbed)
    assert [(point.loss, point.test_accuracy) for point in result.epochs] == [
        (point.loss, point.test_accuracy) for point in wanted.epochs
    ]


def test_averaged_weights_are_what_is_evaluated_and_returned(blobs: Dataset, small_net: MakeNet) -> None:
    plain, averaged, flat = small_net(), small_net(), small_net()
    losses = [_train(plain, blobs).epochs[-1].loss, _train(averaged, blobs, ema=0.9).epochs[-1].loss]
    assert losses[0] == losses[1], "training goes on with the weights themselves"
    assert state_sha256(averaged) != state_sha256(plain)
    result = _train(flat, blobs, ema=0.9999, epochs=1, lr=0.5, schedule="constant")
    right = sum(int(label) == int(answer) for label, answer in zip(blobs.test.y, _answers(flat, blobs), strict=True))
    assert result.test_accuracy == right / len(blobs.test)


def _answers(model: nn.Module, data: Dataset) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.from_numpy(data.preprocess(data.test.x))).argmax(dim=1)


class Scaled(Objective):
    """Cross entropy of logits times a factor that is learned beside the network."""

    def __init__(self) -> None:
        self.factor = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.factor.weight)
        self.heard: list[torch.Tensor] = []
        self.batches: list[Batch] = []

    def settings(self) -> dict[str, object]:
        return {"loss": "scaled"}

    def trained(self) -> nn.Module:
        return self.factor

    @contextmanager
    def listening(self, model: nn.Module, /) -> Iterator[None]:
        hook = model[0].register_forward_hook(lambda _layer, _given, answer: self.heard.append(answer))
        try:
            yield
        finally:
            hook.remove()

    def logged(self) -> dict[str, float]:
        return {"factor": self.factor.weight.item(), "heard": float(len(self.heard))}

    def __call__(self, batch: Batch) -> torch.Tensor:
        self.batches.append(batch)
        return batch.label_loss(batch.logits * self.factor.weight).mean()


def test_what_an_objective_learns_hears_and_logs(blobs: Dataset, small_net: MakeNet, tmp_path: Path) -> None:
    model, objective = small_net(), Scaled()
    result = _train(model, blobs, objective=objective, views=3)
    factors = [point.logged["factor"] for point in result.epochs]
    assert len(set(factors)) == 4, "it is in the optimizer"
    assert objective.factor.training
    assert [point.logged["heard"] for point in result.epochs[:2]] == [6, 12], "one forward for each step"
    assert not model[0]._forward_hooks
    assert not any("factor" in name for name in model.state_dict())
    assert [batch.view for batch in objective.batches[::6]] == [0, 1, 2, 0]
    assert [batch.done for batch in objective.batches[:7]] == pytest.approx([0, 1 / 6, 2 / 6, 0.5, 4 / 6, 5 / 6, 1])
    assert blobs.train is not None
    for batch in objective.batches:
        assert batch.labels.tolist() == blobs.train.y[batch.numbers.numpy()].tolist()

    with pytest.raises(Killed):
        _train(small_net(), blobs, objective=Scaled(), views=3, state=tmp_path, on_epoch=_killed_after(2))
    continued, again = small_net(), Scaled()
    _train(continued, blobs, objective=again, views=3, state=tmp_path)
    assert state_sha256(continued) == state_sha256(model)
    assert again.factor.weight.item() == objective.factor.weight.item(), "it is in the checkpoint, with its momentum"
    other = Scaled()
    nn.init.zeros_(other.factor.weight)
    with pytest.raises(EdgeLatheError, match="differs in learned beside; restore"):
        _train(small_net(), blobs, objective=other, views=3, state=tmp_path)


def test_hooks_are_taken_off_when_training_fails(blobs: Dataset, small_net: MakeNet) -> None:
    model = small_net()
    with pytest.raises(Killed):
        _train(model, blobs, objective=Scaled(), on_epoch=_killed_after(1))
    assert not model[0]._forward_hooks


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("killed_after", [1, 3])
def test_killed_and_continued_ends_with_the_same_bytes(
    blobs: Dataset, small_net: MakeNet, tmp_path: Path, precision: str, killed_after: int
) -> None:
    undisturbed = small_net()
    wanted = _train(undisturbed, blobs, precision=precision)
    with pytest.raises(Killed):
        _train(small_net(), blobs, precision=precision, state=tmp_path, on_epoch=_killed_after(killed_after))
    torch.manual_seed(99)  # whatever the state of the process
    continued = small_net()
    later: list[int] = []
    result = _train(continued, blobs, precision=precision, state=tmp_path, on_epoch=lambda e: later.append(e.epoch))
    assert later == list(range(killed_after + 1, 5))
    assert state_sha256(continued) == state_sha256(undisturbed)
    assert [point.loss for point in result.epochs] == [point.loss for point in wanted.epochs]
    assert result.test_accuracy == wanted.test_accuracy


def test_finished_run_is_not_trained_again(blobs: Dataset, small_net: MakeNet, tmp_path: Path) -> None:
    first = small_net()
    wanted = _train(first, blobs, epochs=2, state=tmp_path)
    again = small_net()
    called: list[Epoch] = []
    assert _train(again, blobs, epochs=2, state=tmp_path, on_epoch=called.append) == wanted
    assert called == []
    assert state_sha256(again) == state_sha256(first)


def test_continues_with_the_threads_it_began_with(blobs: Dataset, small_net: MakeNet, tmp_path: Path) -> None:
    now = torch.get_num_threads()
    with pytest.raises(Killed):
        _train(small_net(), blobs, state=tmp_path, threads=3, on_epoch=_killed_after(1))
    assert torch.get_num_threads() == now
    assert _train(small_net(), blobs, state=tmp_path, threads=1).threads == 3
    assert torch.get_num_threads() == now


def test_auto_is_decided_before_the_first_epoch_and_kept(blobs: Dataset, small_net: MakeNet, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        _train(small_net(), blobs, precision="auto", state=tmp_path, on_epoch=_killed_after(1))
    path = tmp_path / "choice.json"
    choice = json.loads(path.read_text())
    assert choice["images_per_second"].keys() == {"float32", "bf16"}
    # As if the other format had been the faster one: what is written decides, no second timing does.
    other = {"float32": "bf16", "bf16": "float32"}[choice["precision"]]
    path.write_text(json.dumps({**choice, "precision": other}))
    (tmp_path / "checkpoint.safetensors").unlink()
    assert _train(small_net(), blobs, precision="auto", state=tmp_path).precision == other


def test_seed_decides_everything(blobs: Dataset, small_net: MakeNet) -> None:
    hashes = []
    for process_seed, seed in ((1, 3), (2, 3), (1, 4)):
        torch.manual_seed(process_seed)
        model = small_net()
        _train(model, blobs, epochs=1, seed=seed)
        hashes.append(state_sha256(model))
    assert hashes[0] == hashes[1] != hashes[2]


def test_leaves_the_generator_of_the_process_alone(blobs: Dataset, small_net: MakeNet) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    _train(small_net(), blobs, epochs=1, precision="auto")
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"lr": 0.04}, "lr"),
        ({"seed": 4}, "seed"),
        ({"epochs": 5}, "epochs"),
        ({"preprocess": Preprocess((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))}, "mean"),
        ({"label_smoothing": 0.1}, "objective"),
        ({"views": 3}, "views"),
        ({"mix": "cutmix"}, "mix, mix_strength"),
        ({"ema": 0.9}, "ema"),
    ],
)
def test_checkpoint_of_other_settings_is_refused(
    blobs: Dataset, small_net: MakeNet, tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    _train(small_net(), blobs, epochs=1 if "epochs" not in changed else 4, state=tmp_path)
    epochs = {"epochs": 1} if "epochs" not in changed else {}
    with pytest.raises(EdgeLatheError, match=f"belongs to a training that differs in {named}; restore"):
        _train(small_net(), blobs, state=tmp_path, **{**epochs, **changed})


def test_checkpoint_of_another_network_or_data_is_refused(blobs: Dataset, small_net: MakeNet, tmp_path: Path) -> None:
    _train(small_net(), blobs, epochs=1, state=tmp_path)
    changed = small_net()
    with torch.no_grad():
        changed[6].bias.add_(1)
    with pytest.raises(EdgeLatheError, match="differs in network; restore"):
        _train(changed, blobs, epochs=1, state=tmp_path)
    assert blobs.train is not None
    with pytest.raises(EdgeLatheError, match="differs in data; restore"):
        _train(small_net(), replace(blobs, train=blobs.train.first(90)), epochs=1, state=tmp_path)


def test_diverging_training_names_the_epoch_and_keeps_the_last_checkpoint(
    blobs: Dataset, small_net: MakeNet, tmp_path: Path
) -> None:
    with pytest.raises(EdgeLatheError, match=r"Cannot go on training in epoch \d+: .* lower lr or add warmup"):
        _train(small_net(), blobs, lr=1e30, schedule="constant", state=tmp_path)

    class Poison(Objective):
        def settings(self) -> dict[str, object]:
            return {"loss": "poison"}

        def __call__(self, batch: Any) -> torch.Tensor:
            self.calls = getattr(self, "calls", 0) + 1
            return batch.logits.sum() * (float("nan") if self.calls > 6 else 1e-3)

    folder = tmp_path / "second"
    with pytest.raises(EdgeLatheError, match="in epoch 2"):
        _train(small_net(), blobs, objective=Poison(), state=folder)
    assert (folder / "checkpoint.safetensors").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "Cannot use epochs = 0: it must be 1 or more."),
        ({"lr": -1.0}, "Cannot use lr = -1.0: it must be a number above 0."),
        ({"lr": float("nan")}, "Cannot use lr = nan: it must be a number above 0."),
        ({"momentum": 1.0}, "Cannot use momentum = 1.0: it must be at least 0 and below 1."),
        ({"warmup": 9.0}, "Cannot use warmup = 9.0: it must be between 0 and the 4 epochs."),
        ({"threads": 0}, "Cannot use threads = 0: it must be 1 or more."),
        ({"views": -1}, "Cannot use views = -1: it must be 0 or more."),
        ({"mix_strength": 0.0}, "Cannot use mix_strength = 0.0: it must be a number above 0."),
        ({"ema": 1.0}, "Cannot use ema = 1.0: it must be at least 0 and below 1."),
        ({"mix": "mixop"}, 'Unknown mix "mixop": did you mean "mixup"?'),
        ({"schedule": "cosin"}, 'Unknown schedule "cosin": did you mean "cosine"?'),
        ({"augment": "flip"}, 'Unknown augment "flip": did you mean "crop-flip"?'),
        ({"precision": "fp16"}, 'Unknown precision "fp16": did you mean "bf16"?'),
    ],
)
def test_impossible_settings(blobs: Dataset, small_net: MakeNet, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        _train(small_net(), blobs, **settings)
    assert str(caught.value) == message


def test_data_without_training_images(blobs: Dataset, small_net: MakeNet) -> None:
    with pytest.raises(EdgeLatheError, match="Cannot train on blobs: it has no training images"):
        _train(small_net(), replace(blobs, train=None))


def test_network_that_does_not_fit_the_images(blobs: Dataset) -> None:
    grey = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(EdgeLatheError, match=r"images of shape \[3 x 8 x 8\]"):
        _train(grey, blobs)
    narrow = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    with pytest.raises(EdgeLatheError, match="with 2 outputs on data with 3 classes: set num_classes = 3"):
        _train(narrow, blobs)
    headless = nn.Conv2d(3, 3, 1)
    with pytest.raises(EdgeLatheError, match="instead of logits"):
        _train(headless, blobs)


def test_frozen_network(blobs: Dataset, small_net: MakeNet) -> None:
    with pytest.raises(EdgeLatheError, match="all of its parameters are frozen"):
        _train(small_net().requires_grad_(False), blobs)


def test_vectors_can_be_spared_from_decay(blobs: Dataset, small_net: MakeNet) -> None:
    # With a learning rate far below the decay's pull, only decay moves anything measurably.
    plain, spared = small_net(), small_net()
    _train(plain, blobs, epochs=1, lr=1e-3, weight_decay=100.0, momentum=0.0)
    _train(spared, blobs, epochs=1, lr=1e-3, weight_decay=100.0, momentum=0.0, decay_norms=False)
    assert plain[1].weight.mean() < 0.8
    assert spared[1].weight.mean() > 0.95
    assert spared[0].weight.abs().mean() < 0.8 * small_net()[0].weight.abs().mean()


def test_fewer_images_than_a_batch(small_net: MakeNet) -> None:
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (10, 8, 8, 3), dtype=np.uint8), np.arange(10) % 3)
    data = Dataset("ten", split, split, ("a", "b", "c"), Preprocess((0.5,) * 3, (0.5,) * 3))
    assert len(_train(small_net(), data, epochs=1, batch=64).epochs) == 1
