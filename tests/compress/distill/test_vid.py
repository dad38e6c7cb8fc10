from __future__ import annotations

import math

import pytest
import torch
from edgelathe.compress.distill.vid import FIRST_VARIANCE, Variational, vid
from torch import nn
from torch.distributions import Normal


def test_by_hand() -> None:
    mean, teacher = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1), torch.tensor([2.0, 1.0]).view(1, 2, 1, 1)
    found = vid(mean, teacher, torch.tensor([4.0, 0.5]))
    wanted = (0.5 * (1 / 4 + math.log(4)) + 0.5 * (4 / 0.5 + math.log(0.5))) / 2
    assert found.item() == pytest.approx(wanted, rel=1e-6)


def test_is_the_likelihood_of_a_normal_distribution_but_for_its_constant() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, teacher = torch.randn(2, 3, 4, 5, 5, generator=generator)
    variance = torch.rand(4, generator=generator) + 0.1
    likelihood = Normal(mean, variance.sqrt()[:, None, None]).log_prob(teacher).mean()
    wanted = -likelihood.item() - 0.5 * math.log(2 * math.pi)
    assert vid(mean, teacher, variance).item() == pytest.approx(wanted, rel=1e-5)


def test_variances_begin_at_five_and_find_what_each_channel_leaves_untold() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        term = Variational(2, 2)
        student = torch.randn(256, 2, 1, 1)
        noise = torch.randn(256, 1, 1, 1)
    assert term.variance().tolist() == pytest.approx([FIRST_VARIANCE] * 2, rel=1e-5)
    # The first channel is the student's own, the second is nothing that it could know.
    teacher = torch.cat([student[:, :1].relu(), noise], dim=1)
    optimizer = torch.optim.Adam(term.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        term(student, teacher).backward()
        optimizer.step()
    told, untold = term.variance().tolist()
    assert told < 0.2
    assert untold == pytest.approx(1.0, abs=0.3)


def test_regressor_is_three_convolutions_of_one_pixel() -> None:
    term = Variational(3, 7)
    convolutions = [layer for layer in term.modules() if isinstance(layer, nn.Conv2d)]
    assert [(layer.in_channels, layer.out_channels, layer.kernel_size) for layer in convolutions] == [
        (3, 7, (1, 1)), (7, 7, (1, 1)), (7, 7, (1, 1)),
    ]  # fmt: skip
    assert term(torch.zeros(2, 3, 4, 4), torch.zeros(2, 7, 4, 4)).item() == pytest.approx(0.5 * math.log(5), rel=1e-5)
