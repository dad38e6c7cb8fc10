from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from edgelathe.compress.checkpoint import Epoch, state_sha256
from edgelathe.compress.sparsify.plan import SparsityPlan
from edgelathe.compress.sparsify.sparsify_gradually import sparsify_gradually
from edgelathe.compress.train import TrainResult
from edgelathe.data import Dataset
from edgelathe.errors import EdgeLatheError
from torch import nn

MakeNet = Callable[[], nn.Sequential]


class Killed(BaseException):
    pass


def fit(model: nn.Module, data: Dataset, **settings: Any) -> tuple[TrainResult, SparsityPlan]:
    defaults: dict[str, Any] = {
        "preprocess": data.preprocess, "epochs": 4, "batch": 16, "precision": "float32", "threads": 1,
        "progress": False,
    }  # fmt: skip
    return sparsify_gradually(model, data, **{**defaults, **settings})


@pytest.mark.parametrize("criterion", ["magnitude", "movement"])
@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_it_ends_at_the_share_and_has_learned(blobs: Dataset, conv_net: MakeNet, criterion: str, pattern: str) -> None:
    model = conv_net()
    result, plan = fit(model, blobs, criterion=criterion, pattern=pattern, scope="layer", epochs=6)
    assert [weight.kept for weight in plan.sparse] == [576, 24]
    for weight in plan.sparse:
        assert int(torch.count_nonzero(model.get_parameter(weight.weight))) == weight.kept
    assert plan.method == ("gradual" if criterion == "magnitude" else "movement")
    assert result.test_accuracy >= 0.8


@pytest.mark.parametrize("criterion", ["magnitude", "movement"])
def test_averaged_weights_are_zero_where_the_weights_are(blobs: Dataset, conv_net: MakeNet, criterion: str) -> None:
    # Until the last update, weights that are zero at the end had values, which are still in the average.
    plain, averaged = conv_net(), conv_net()
    _, wanted = fit(plain, blobs, criterion=criterion, ramp=1.0)
    _, plan = fit(averaged, blobs, criterion=criterion, ramp=1.0, ema=0.99)
    assert plan == wanted
    for weight in plan.sparse:
        mine, theirs = (model.get_parameter(weight.weight) for model in (averaged, plain))
        assert torch.equal(mine == 0, theirs == 0)
        assert not torch.equal(mine, theirs)


@pytest.mark.parametrize("criterion", ["magnitude", "movement"])
@pytest.mark.parametrize("killed_after", [1, 3])
def test_killed_and_continued_ends_with_the_same_bytes(
    blobs: Dataset, conv_net: MakeNet, tmp_path: Path, criterion: str, killed_after: int
) -> None:
    def kill(epoch: Epoch) -> None:
        if epoch.epoch == killed_after:
            raise Killed

    settings = {"criterion": criterion, "ramp": 0.6, "augment": "shift"}
    undisturbed, resumed = conv_net(), conv_net()
    _, wanted = fit(undisturbed, blobs, **settings)
    with pytest.raises(Killed):
        fit(conv_net(), blobs, state=tmp_path, on_epoch=kill, **settings)
    _, plan = fit(resumed, blobs, state=tmp_path, **settings)
    assert state_sha256(resumed) == state_sha256(undisturbed)
    assert plan == wanted


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"criterion": "gradient"}, 'Unknown criterion "gradient": valid are: magnitude, movement.'),
        ({"ramp": 0.0}, "Cannot use ramp = 0.0: it must be above 0 and at most 1."),
        ({"pattern": "strided-2"}, "Cannot sparsify gradually in the pattern strided-2: "),
        ({"ignore": ("3", "10")}, "Cannot sparsify this network in the pattern unstructured: every layer stays dense"),
        ({"epochs": 0}, "Cannot use epochs = 0: it must be 1 or more."),
    ],
)
def test_impossible_settings_are_refused(
    blobs: Dataset, conv_net: MakeNet, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        fit(conv_net(), blobs, **settings)
    assert str(caught.value).startswith(sentence)
