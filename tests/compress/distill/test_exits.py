from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from edgelathe.compress.distill.exits import ExitCount, count_right, plan_exits
from edgelathe.data import Dataset
from edgelathe.errors import EdgeLatheError
from edgelathe.models.exits import Exits
from edgelathe.models.zoo import build
from torch import Tensor, nn


def layers(model: nn.Module, size: int, named: Sequence[str] = ()) -> tuple[list[str], str]:
    plan = plan_exits(model, torch.zeros(1, 3, size, size), named)
    return [exit.layer for exit in plan.exits], plan.last


@pytest.mark.parametrize(
    ("source", "size", "ends", "last"),
    [
        ("cifar_resnet8", 32, ["layer1", "layer2"], "layer3"),
        # Its sums stand in the forward and have no module: the branches that end in them, not the shortcuts.
        ("mlperf_resnet8", 32, ["a", "b"], "c"),
        # Blocks, and not the expansions inside those that halve the resolution.
        ("cifar_mobilenet_v2", 32, ["features.3", "features.6", "features.13"], "features"),
    ],
)
def test_exits_read_the_end_of_each_stage_but_the_last(source: str, size: int, ends: list[str], last: str) -> None:
    with torch.random.fork_rng(devices=[]):
        assert layers(build(source, num_classes=5), size) == (ends, last)


def test_a_stem_of_one_convolution_has_no_exit() -> None:
    stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    blocks = [nn.Sequential(nn.Conv2d(4, 4, 3, stride, 1), nn.Conv2d(4, 4, 1)) for stride in (2, 1, 2)]
    body = nn.Sequential(*blocks)
    model = nn.Sequential(stem, body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    assert layers(model, 16) == (["1.1"], "1")


def plain_layers() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip


def test_without_blocks_stages_end_in_their_last_layer() -> None:
    assert layers(plain_layers(), 8) == (["1", "3"], "5")


def test_the_branch_reaches_the_size_and_channels_of_the_last_feature_map() -> None:
    model = build("cifar_resnet8", num_classes=7)
    plan = plan_exits(model, torch.zeros(1, 3, 32, 32))
    first, second = plan.exits
    assert (first.inputs, first.middle, first.features, first.reduction, first.classes) == (16, 16, 64, (4, 4), 7)
    assert (second.inputs, second.middle, second.features, second.reduction) == (32, 16, 64, (2, 2))
    classifier = next(iter(Exits(plan.exits)))
    assert classifier.branch(torch.zeros(2, 16, 32, 32)).shape == (2, 64, 8, 8)
    assert classifier.features(torch.zeros(2, 16, 32, 32)).shape == (2, 64)
    assert classifier(torch.zeros(2, 16, 32, 32)).shape == (2, 7)


def test_named_exits_come_in_the_order_of_the_network() -> None:
    assert layers(plain_layers(), 8, ["4", "0"]) == (["0", "4"], "5")


def test_an_unknown_name_is_answered_with_candidates_nearest_first() -> None:
    with pytest.raises(EdgeLatheError, match=r'behind "layer1.1": .* nearest first: layer1.0, layer1, '):
        layers(build("cifar_resnet8", num_classes=3), 32, ["layer1.1"])


@pytest.mark.parametrize(("named", "message"), [(["8"], 'behind "8"'), (["1", "1"], "name each layer once")])
def test_names_that_cannot_be_exits_are_refused(named: list[str], message: str) -> None:
    with pytest.raises(EdgeLatheError, match=message):
        layers(plain_layers(), 8, named)


class ChannelsLast(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


def test_grids_with_the_channels_last_are_no_feature_maps() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 2, 2), ChannelsLast(), nn.Flatten(), nn.Linear(80, 3))
    with pytest.raises(EdgeLatheError, match=r"feature maps \(4 x 4\) no stage ends before the last one; name layers"):
        layers(model, 8)


def test_a_network_without_feature_maps_is_refused() -> None:
    with pytest.raises(EdgeLatheError, match="no layer of the network gives feature maps"):
        layers(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), 8)


def test_planning_leaves_the_network_as_it_was() -> None:
    model = plain_layers().train()
    layers(model, 8)
    assert all(module.training and not module._forward_hooks for module in model.modules())


def test_right_answers_are_counted_per_output(blobs: Dataset) -> None:
    model = plain_layers()
    exits = Exits(plan_exits(model, torch.zeros(1, 3, 8, 8)).exits)
    with torch.no_grad():
        for wanted, linear in enumerate((*(exit.linear for exit in exits), model[8])):
            assert isinstance(linear, nn.Linear)
            linear.weight.zero_()
            linear.bias.copy_(torch.eye(3)[wanted])  # answers this class to everything
    exits.train()
    counts = count_right(model, exits, blobs.test.first(10), blobs.preprocess, batch=4)
    assert counts == (ExitCount("1", 4, 10), ExitCount("3", 3, 10), ExitCount("logits", 3, 10))
    assert exits.training
