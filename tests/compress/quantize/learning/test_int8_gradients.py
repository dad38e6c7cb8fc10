from __future__ import annotations

import math

import pytest
import torch
from edgelathe.compress.quantize.learning.int8_gradients import (
    LIMIT,
    PERIOD,
    Int8Gradients,
    deviation,
    least_deviation,
    slowed,
)
from torch import Tensor


def backward(module: Int8Gradients, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of a layer's input and weight when the layer is y = x * w and `gradient` arrives at y."""
    x = torch.ones_like(gradient, requires_grad=True)
    weight = torch.ones((), requires_grad=True)
    y = module.at_output("y", x * module.at_weight("layer", weight))
    module.step()
    y.backward(gradient)
    assert x.grad is not None
    assert weight.grad is not None
    return x.grad, weight.grad


def gaussian(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_forward_changes_nothing_and_other_values_pass() -> None:
    module = Int8Gradients({"y": "layer"}, seed=0)
    x = torch.ones(3)
    assert torch.equal(module.at_output("y", x), x)
    assert module.at_output("other", x) is x


def test_gradients_become_few_levels_that_are_right_on_average() -> None:
    module = Int8Gradients({"y": "layer"}, seed=0)
    gradient = gaussian(1000, seed=1)
    total = torch.zeros(1000)
    for _ in range(300):
        rounded, _ = backward(module, gradient)
        total += rounded
    step = float(gradient.abs().max() * module.clips[0]) / LIMIT
    codes = rounded / step
    assert torch.allclose(codes, codes.round(), atol=1e-3)
    assert float(codes.abs().max()) <= LIMIT + 1e-3
    inside = gradient.abs() < step * LIMIT
    assert float((total / 300 - gradient)[inside].abs().max()) < 0.2 * step  # 0.5 / sqrt(300) = 0.03 each, 1000 of them


def test_one_outlier_is_clipped_and_an_even_gradient_is_not() -> None:
    even = torch.linspace(-1, 1, 1000)
    assert least_deviation(even)[0] == 1.0
    outlier = torch.cat([1e-4 * gaussian(60_000, seed=0), torch.tensor([0.03])])
    share, left = least_deviation(outlier)
    assert share < 1.0
    assert left < deviation(outlier, 0.03)


def test_deviation_is_one_less_the_cosine() -> None:
    gradient = torch.tensor([1.0, 100.0])
    assert deviation(gradient, 127.0) == pytest.approx(0.0, abs=1e-6)
    assert deviation(gradient, 1.0) == pytest.approx(1 - (1 + 100) / (math.sqrt(2) * math.sqrt(10001)), rel=1e-4)
    assert deviation(gradient, 1e9) == 1.0, "all codes are 0"


def test_layers_whose_gradients_turn_are_slowed() -> None:
    assert slowed(0.0) == 1.0
    assert slowed(0.05) == pytest.approx(math.exp(-1.0))
    assert slowed(0.9) == 0.1
    module = Int8Gradients({"y": "layer"}, seed=0)
    module.steps.fill_(1)  # no search in this step
    module.deviations[0] = 0.05
    x, weight = backward(module, torch.tensor([127.0, 1.0]))
    assert x.tolist() == [127.0, 1.0]
    assert float(weight) == pytest.approx(128.0 * math.exp(-1.0))


def test_clips_are_searched_now_and_then() -> None:
    module = Int8Gradients({"y": "layer"}, seed=0)
    outlier = torch.cat([1e-4 * gaussian(60_000, seed=0), torch.tensor([0.03])])
    backward(module, outlier)
    found = float(module.clips[0])
    assert found < 1.0
    for _ in range(PERIOD - 1):
        backward(module, torch.linspace(-1, 1, 10))
    assert float(module.clips[0]) == found
    backward(module, torch.linspace(-1, 1, 1000))
    assert float(module.clips[0]) == 1.0


def test_draws_follow_from_seed_and_step() -> None:
    gradient = gaussian(100, seed=2)
    one, same, other = (Int8Gradients({"y": "layer"}, seed=seed) for seed in (0, 0, 1))
    first, again = backward(one, gradient)[0], backward(one, gradient)[0]
    assert not torch.equal(first, again)
    assert torch.equal(backward(same, gradient)[0], first)
    same.load_state_dict(one.state_dict())
    assert torch.equal(backward(same, gradient)[0], backward(one, gradient)[0])
    assert not torch.equal(backward(other, gradient)[0], first)


@pytest.mark.parametrize("gradient", [torch.zeros(4), torch.tensor([1.0, math.inf])])
def test_a_gradient_that_cannot_be_rounded_passes(gradient: Tensor) -> None:
    module = Int8Gradients({"y": "layer"}, seed=0)
    assert torch.equal(backward(module, gradient)[0], gradient)
