from __future__ import annotations

import math

import pytest
import torch
from edgelathe.compress.distill.teacher_weights import TeacherWeights, equal_weights, pooled, soft_target
from hypothesis import given, settings
from hypothesis import strategies as st


def test_weights_are_those_of_the_formula() -> None:
    weights = TeacherWeights(teachers=2, width=2, seed=0)
    with torch.no_grad():
        weights.theta.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        weights.v.copy_(torch.tensor([math.log(2), math.log(3)]))
    # f = (1, 1): scores ln 2 and 2 ln 3 = ln 9;  f = (2, 0): 2 ln 2 = ln 4 and 0 = ln 1.
    found = weights(torch.tensor([[1.0, 1.0], [2.0, 0.0]])).exp()
    assert torch.allclose(found, torch.tensor([[2 / 11, 9 / 11], [4 / 5, 1 / 5]]), rtol=0, atol=1e-6)


def test_all_teachers_count_alike_at_first() -> None:
    weights = TeacherWeights(teachers=3, width=8, seed=1)
    found = weights(torch.randn((5, 8), generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(found, equal_weights(5, 3), rtol=0, atol=1e-6)
    assert weights.v.abs().sum() == 0
    assert len({tuple(row) for row in weights.theta.tolist()}) == 3, "equal ones would stay equal for ever"


@settings(deadline=None, max_examples=50)
@given(teachers=st.integers(1, 5), images=st.integers(1, 6), seed=st.integers(0, 2**31), scale=st.floats(0.01, 100))
def test_weights_sum_to_one_and_the_target_is_a_distribution(
    teachers: int, images: int, seed: int, scale: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = TeacherWeights(teachers, 7, seed)
    with torch.no_grad():
        weights.v.copy_(scale * torch.randn(7, generator=generator))
    logarithms = weights(torch.randn((images, 7), generator=generator))
    assert torch.allclose(logarithms.exp().sum(dim=1), torch.ones(images), rtol=0, atol=1e-5)
    answers = scale * torch.randn((teachers, images, 4), generator=generator)
    target = soft_target(answers, logarithms, temperature=2.0).exp()
    assert torch.allclose(target.sum(dim=1), torch.ones(images), rtol=0, atol=1e-4)


def test_the_target_is_the_weighted_mean_of_softened_answers() -> None:
    answers = torch.tensor([[[2 * math.log(3), 0.0]], [[0.0, 2 * math.log(4)]]])  # softened by 2: 3 to 1 and 1 to 4
    target = soft_target(answers, torch.tensor([[0.25, 0.75]]).log(), temperature=2.0).exp()
    assert torch.allclose(target, torch.tensor([[0.25 * 0.75 + 0.75 * 0.2, 0.25 * 0.25 + 0.75 * 0.8]]), atol=1e-6)


def test_one_teacher_is_its_own_target_to_the_last_bit() -> None:
    answers = 10 * torch.randn((1, 6, 9), generator=torch.Generator().manual_seed(3))
    alone = torch.log_softmax(answers[0] / 4, dim=1)
    assert torch.equal(soft_target(answers, equal_weights(6, 1), 4.0), alone)
    adaptive = TeacherWeights(1, 5, seed=0)(torch.randn((6, 5)))
    assert torch.equal(soft_target(answers, adaptive, 4.0), alone)


def test_gradients_reach_theta_and_v_and_not_the_features() -> None:
    weights = TeacherWeights(2, 3, seed=0)
    with torch.no_grad():
        weights.v.fill_(0.5)
    features = torch.ones((4, 3), requires_grad=True)
    answers = torch.randn((2, 4, 5), generator=torch.Generator().manual_seed(0))
    soft_target(answers, weights(features), 1.0)[:, 0].sum().backward()
    assert features.grad is None
    for parameter in (weights.theta, weights.v):
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_v_learns_from_zero_on() -> None:
    weights = TeacherWeights(2, 3, seed=0)
    (weights(torch.ones((4, 3)))[:, 0].sum()).backward()
    assert weights.v.grad is not None
    assert weights.v.grad.abs().sum() > 0


def test_the_penalty_is_the_sum_of_squares() -> None:
    weights = TeacherWeights(2, 2, seed=0)
    with torch.no_grad():
        weights.theta.copy_(torch.tensor([[1.0, 2.0], [3.0, 0.0]]))
        weights.v.copy_(torch.tensor([2.0, 1.0]))
    assert weights.penalty().item() == pytest.approx(1 + 4 + 9 + 4 + 1)


def test_maps_are_pooled_by_their_largest_values() -> None:
    maps = torch.zeros((1, 2, 2, 2))
    maps[0, 0, 1, 0], maps[0, 1] = 3.0, -1.0
    assert pooled(maps).tolist() == [[3.0, -1.0]]
    vector = torch.ones((2, 5))
    assert pooled(vector) is vector
