from __future__ import annotations

import pytest
import torch
from edgelathe.compress.prune.macs import count_macs, layer_costs
from torch import Tensor, nn


@pytest.mark.parametrize(
    ("layer", "macs", "parameters"),
    [
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), 4 * 4 * 8 * 3 * 9, 8 * 3 * 9 + 8),
        (nn.Conv2d(3, 6, (1, 3), groups=3, bias=False), 8 * 6 * 6 * 1 * 3, 6 * 3),
        (nn.ConvTranspose2d(3, 5, 2, stride=2), 8 * 8 * 3 * 5 * 4, 3 * 5 * 4 + 5),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 7)), 192 * 7, 192 * 7 + 7),
        (nn.BatchNorm2d(3), 0, 6),
    ],
)
def test_layers_by_hand_whatever_the_batch(layer: nn.Module, macs: int, parameters: int) -> None:
    assert count_macs(layer, torch.zeros(1, 3, 8, 8)) == (macs, parameters)
    assert count_macs(layer, torch.zeros(5, 3, 8, 8)) == (macs, parameters)


def test_a_layer_that_runs_twice_counts_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.conv(x))

    model = Twice().train()
    assert count_macs(model, torch.zeros(1, 3, 4, 4)) == (2 * 16 * 9, 9)
    assert model.training


def test_cost_at_other_widths_is_that_of_such_a_layer() -> None:
    example = torch.zeros(1, 6, 8, 8)
    cost = layer_costs(nn.Sequential(nn.Conv2d(6, 8, 3)), example)["0"]
    assert cost.at(5, 4) == count_macs(nn.Conv2d(4, 5, 3), example[:, :4])[0]
    depthwise = layer_costs(nn.Sequential(nn.Conv2d(6, 6, 3, groups=6)), example)["0"]
    assert depthwise.at(4, 6) == count_macs(nn.Conv2d(4, 4, 3, groups=4), example[:, :4])[0]


def test_cost_of_a_grouped_convolution_that_loses_as_many_of_each_group() -> None:
    example = torch.zeros(1, 6, 8, 8)
    cost = layer_costs(nn.Sequential(nn.Conv2d(6, 9, 3, groups=3)), example)["0"]
    assert cost.at(6, 3) == count_macs(nn.Conv2d(3, 6, 3, groups=3), example[:, :3])[0] == 36 * 6 * 9
