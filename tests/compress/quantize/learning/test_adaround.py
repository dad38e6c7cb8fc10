from __future__ import annotations

import numpy as np
import torch
from edgelathe.compress.quantize.learning.adaround import FIRST_BETA, LAST_BETA, FreeRounding, SoftRounding, beta_at
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays


def _weight(seed: int) -> torch.Tensor:
    return torch.randn(6, 10, generator=torch.Generator().manual_seed(seed))


SCALES = torch.linspace(0.2, 0.5, 6).reshape(6, 1)


def test_soft_rounding_starts_from_the_float_weights() -> None:
    weight = _weight(0)
    torch.testing.assert_close(SoftRounding(weight, SCALES, 127)(), weight, rtol=0, atol=1e-4)


@given(arrays(np.float32, (3, 4), elements=st.floats(-20, 20, width=32)), st.integers(1, 127))
def test_untouched_roundings_are_the_nearest_within_the_limit(codes: np.ndarray, limit: int) -> None:
    weight, scales = torch.from_numpy(codes) * 0.25, torch.full((3, 1), 0.25)
    for rounding in (SoftRounding(weight, scales, limit), FreeRounding(weight, scales, limit)):
        found = rounding.codes()
        assert torch.equal(found, found.round())
        assert float(found.abs().max()) <= limit
        clipped = (weight / scales).clamp(-limit, limit)
        assert float((found - clipped).abs().max()) <= 0.5 + 1e-3


def test_weights_that_are_zero_stay_zero_wherever_learning_moves_them() -> None:
    weight = _weight(1)
    weight[:, ::2] = 0
    for rounding in (SoftRounding(weight, SCALES, 127), FreeRounding(weight, SCALES, 127)):
        with torch.no_grad():
            rounding.v.add_(5.0)
        for found in (rounding(), rounding.codes()):
            assert not bool(found[:, ::2].any())
            assert int((found[:, 1::2] != 0).sum()) > 20


def test_the_regularizer_is_zero_for_whole_codes_and_one_halfway_between() -> None:
    rounding = SoftRounding(torch.full((2, 2), 0.125), torch.full((2, 1), 0.25), 127)
    assert float(rounding.regularizer(2.0).detach()) == 1.0
    with torch.no_grad():
        rounding.v.copy_(torch.tensor([[9.0, -9.0], [-9.0, 9.0]]))
    assert float(rounding.regularizer(2.0).detach()) == 0.0
    assert torch.equal(rounding() / 0.25, rounding.codes())


def test_the_exponent_falls_after_a_share_of_steps_without_regularizer() -> None:
    assert beta_at(0.0) is None
    exponents = [beta_at(progress) for progress in (0.2, 0.6, 1.0)]
    assert exponents == [FIRST_BETA, (FIRST_BETA + LAST_BETA) / 2, LAST_BETA]


def test_learned_rounding_beats_nearest_on_correlated_inputs() -> None:
    random = torch.Generator().manual_seed(1)
    weight = _weight(2)
    x = torch.randn(256, 3, generator=random) @ torch.randn(3, 10, generator=random)
    nearest = FreeRounding(weight, SCALES, 127).codes() * SCALES
    rounding = SoftRounding(weight, SCALES, 127)
    optimizer = torch.optim.Adam(rounding.parameters(), lr=0.05)
    for step in range(200):
        beta = beta_at(step / 200)
        loss = (x @ rounding().T - x @ weight.T).square().mean()
        loss = loss + (0.0 if beta is None else 0.1 * rounding.regularizer(beta))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    learned = rounding.codes() * SCALES
    errors = [float((x @ (given - weight).T).square().mean()) for given in (nearest, learned)]
    assert errors[1] < 0.5 * errors[0]


def test_free_rounding_hands_gradients_on_but_not_beyond_the_limit() -> None:
    rounding = FreeRounding(torch.tensor([[0.6, 9.0]]), torch.tensor([[0.5]]), 4)
    rounding().sum().backward()
    assert rounding.v.grad is not None
    assert rounding.v.grad.tolist() == [[0.5, 0.0]]
    assert rounding.codes().tolist() == [[1.0, 4.0]]
