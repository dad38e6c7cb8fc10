from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from edgelathe.compress.ema import AveragedWeights
from torch import nn


def test_averages_follow_the_formula() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    averaged = AveragedWeights(model, 0.5, zeros_stay=False)
    wanted = 1.0
    for step, weight in enumerate((2.0, 3.0, -1.0, 5.0, 7.0, 0.5, 4.0, 2.5, 9.0, 1.0)):
        nn.init.constant_(model.weight, weight)
        averaged.follow(step)
        decay = min(0.5, (1 + step) / (10 + step))  # 0.1, 2/11, ... 0.5 from step 8 on
        wanted = decay * wanted + (1 - decay) * weight
    with averaged.in_the_network():
        assert model.weight.item() == pytest.approx(wanted, rel=1e-6)
    assert model.weight.item() == 1.0
    averaged.put_into_network()
    assert model.weight.item() == pytest.approx(wanted, rel=1e-6)


def test_statistics_of_batch_norms_are_averaged_and_counters_copied(small_net: Callable[[], nn.Module]) -> None:
    model = small_net()
    averaged = AveragedWeights(model, 0.9, zeros_stay=False)
    with torch.no_grad():
        model[1].running_mean.fill_(1.0)
        model[1].num_batches_tracked.fill_(7)
    averaged.follow(1000)
    averaged.put_into_network()
    torch.testing.assert_close(model[1].running_mean, torch.full((8,), 0.1), rtol=1e-6, atol=0)
    assert int(model[1].num_batches_tracked) == 7


@pytest.mark.parametrize(("zeros_stay", "wanted"), [(True, [0.0, 1.0]), (False, [0.9, 1.0])])
def test_held_zeros_are_zero_in_the_average(zeros_stay: bool, wanted: list[float]) -> None:
    model = nn.Linear(2, 1, bias=False)
    nn.init.ones_(model.weight)
    averaged = AveragedWeights(model, 0.9, zeros_stay=zeros_stay)
    with torch.no_grad():
        model.weight[0, 0] = 0
    averaged.follow(1000)
    averaged.put_into_network()
    torch.testing.assert_close(model.weight, torch.tensor([wanted]), rtol=1e-6, atol=0)
