from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from edgelathe.compress.prune.bn_scale import bn_scale
from edgelathe.compress.prune.criteria import CRITERIA, EVIDENCE, evidence_of, find_criterion, needs_samples
from edgelathe.compress.prune.fpgm import fpgm
from edgelathe.compress.prune.fpgm_mix import fpgm_mix
from edgelathe.compress.prune.hrank import hrank
from edgelathe.compress.prune.l1 import l1
from edgelathe.compress.prune.l2 import l2
from edgelathe.compress.prune.lamp import lamp
from edgelathe.compress.prune.obd import obd
from edgelathe.compress.prune.random import random
from edgelathe.compress.prune.taylor import taylor
from edgelathe.errors import EdgeLatheError
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

SEEDS = st.integers(0, 10**6)


def _filters(count: int, fan_in: int, seed: int) -> Tensor:
    return torch.randn(count, fan_in, generator=torch.Generator().manual_seed(seed))


def _evidence(count: int, seed: int) -> dict[str, Any]:
    """Made-up evidence of one layer for every parameter name that a criterion may have, but the seed."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "filters": torch.randn(count, 5, generator=generator),
        "gradients": torch.randn(count, 5, generator=generator),
        "squared_gradients": torch.rand(count, 5, generator=generator),
        "norm_scale": torch.rand(count, generator=generator),
        "maps": torch.randn(2, count, 4, 4, generator=generator).relu().round(),
    }


def _call(name: str, evidence: dict[str, Any]) -> Tensor:
    return CRITERIA[name](**{what: evidence[what] for what in evidence_of(name)})


def test_fpgm_is_the_sum_of_distances_between_raw_weights() -> None:
    filters = torch.tensor([[0.0, 0.0], [3.0, 4.0], [-3.0, -4.0]])
    # |w| would make the second and third alike: the distance between them is 10, not 0.
    assert fpgm(filters).tolist() == pytest.approx([10.0, 15.0, 15.0], abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 12), fan_in=st.integers(1, 30), seed=SEEDS)
def test_fpgm_against_the_formula(count: int, fan_in: int, seed: int) -> None:
    filters = _filters(count, fan_in, seed)
    rows = filters.numpy().astype(np.float64)
    wanted = [sum(float(np.linalg.norm(a - b)) for b in rows) for a in rows]
    assert fpgm(filters).tolist() == pytest.approx(wanted, rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 12), seed=SEEDS, shift=st.floats(-5, 5))
def test_fpgm_does_not_change_when_all_filters_move_together(count: int, seed: int, shift: float) -> None:
    filters = _filters(count, 9, seed)
    assert torch.allclose(fpgm(filters + shift), fpgm(filters), rtol=1e-4, atol=1e-4)


def test_fpgm_tells_near_copies_from_copies() -> None:
    filters = 1000 + torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.25]])
    assert fpgm(filters).tolist() == pytest.approx([0.25, 0.25, 0.5], abs=1e-6)


def test_fpgm_on_a_line_is_least_at_the_median() -> None:
    # Positions 0, 1, 3, 7, 20 along (3, 4), of length 5: sums of distances 31, 28, 26, 30, 69.
    filters = torch.tensor([[0.0], [1.0], [3.0], [7.0], [20.0]]) * torch.tensor([[3.0, 4.0]])
    assert fpgm(filters).tolist() == pytest.approx([155.0, 140.0, 130.0, 150.0, 345.0], rel=1e-6)


def test_fpgm_mix_takes_a_quarter_by_norm_and_the_rest_by_distance() -> None:
    # On a line, at 10, 11, 12, 13, 2, 30: the shortest, at 2, goes first. The sums of distances among the others are
    # 26, 23, 22, 23, 74: those at 12, 11 and 13 follow. The fifth to go is the shortest again, and the last stays.
    filters = torch.tensor([[10.0], [11.0], [12.0], [13.0], [2.0], [30.0]])
    assert fpgm_mix(filters).tolist() == [5.0, 3.0, 2.0, 4.0, 1.0, 6.0]


@settings(max_examples=30, deadline=None)
@given(count=st.integers(3, 14), seed=SEEDS)
def test_fpgm_mix_of_no_norm_is_fpgm_and_of_norm_alone_is_l2(count: int, seed: int) -> None:
    filters = _filters(count, 6, seed)
    assert fpgm_mix(filters, 0.0).argsort().tolist() == fpgm(filters).double().argsort().tolist()
    assert fpgm_mix(filters, 1.0).argsort().tolist() == l2(filters).argsort().tolist()
    assert sorted(fpgm_mix(filters).tolist()) == list(range(1, count + 1))


def test_norms() -> None:
    filters = torch.tensor([[3.0, -4.0], [0.0, 1.0]])
    assert l1(filters).tolist() == [7.0, 1.0]
    assert l2(filters).tolist() == [5.0, 1.0]


def test_lamp_is_the_share_of_what_is_left() -> None:
    # Squared norms 25, 1, 4, 4: 25/25, 1/34, and both of the equal ones 4/33.
    filters = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    assert lamp(filters).tolist() == pytest.approx([1.0, 1 / 34, 4 / 33, 4 / 33], rel=1e-6)
    assert lamp(torch.zeros(3, 2)).tolist() == [0.0, 0.0, 0.0]


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 12), seed=SEEDS, factor=st.floats(0.01, 100))
def test_lamp_orders_as_norms_do_and_does_not_see_the_size_of_a_layer(count: int, seed: int, factor: float) -> None:
    filters = _filters(count, 4, seed)
    assert lamp(filters).argsort().tolist() == l2(filters).argsort().tolist()
    assert torch.allclose(lamp(filters * factor), lamp(filters), rtol=1e-4, atol=0)
    assert float(lamp(filters).max()) == pytest.approx(1.0, rel=1e-6)


def test_the_scale_of_the_batch_norm() -> None:
    assert bn_scale(torch.tensor([0.5, 0.0, 2.0])).tolist() == [0.5, 0.0, 2.0]


def test_taylor_and_obd() -> None:
    filters = torch.tensor([[1.0, -2.0], [3.0, 0.0]])
    gradients = torch.tensor([[0.5, 0.25], [-1.0, 9.0]])
    # (0.5)^2 + (0.5)^2; (3)^2. The sum before the square would call the first filter 0.
    assert taylor(filters, gradients).tolist() == [0.5, 9.0]
    # 1/2 (2*1 + 0.5*4); 1/2 (1*9)
    assert obd(filters, torch.tensor([[2.0, 0.5], [1.0, 7.0]])).tolist() == [2.0, 4.5]


def test_hrank_is_the_mean_rank_of_maps() -> None:
    maps = torch.zeros(2, 3, 3, 4)
    maps[0, 0] = torch.eye(3, 4)  # ranks 3 and 0
    maps[0, 1] = maps[1, 1] = torch.tensor([[1.0], [2.0], [3.0]]) * torch.tensor([1.0, 1.0, 0.0, 5.0])  # 1 and 1
    maps[1, 2, 0, 0] = maps[1, 2, 2, 3] = 4.0  # 0 and 2
    assert hrank(maps).tolist() == [1.5, 1.0, 1.0]


@settings(max_examples=20, deadline=None)
@given(images=st.integers(1, 4), channels=st.integers(1, 5), seed=SEEDS, factor=st.floats(0.01, 100))
def test_hrank_against_numpy(images: int, channels: int, seed: int, factor: float) -> None:
    maps = torch.randn(images, channels, 4, 2, generator=torch.Generator().manual_seed(seed)).matmul(torch.ones(2, 5))
    wanted = [np.mean([np.linalg.matrix_rank(maps[i, k].numpy()) for i in range(images)]) for k in range(channels)]
    assert hrank(maps * factor).tolist() == pytest.approx(wanted)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(set(CRITERIA) - {"random"})), count=st.integers(2, 9), seed=SEEDS, data=st.data())
def test_permuting_channels_permutes_their_importance(name: str, count: int, seed: int, data: st.DataObject) -> None:
    evidence = _evidence(count, seed)
    order = torch.tensor(data.draw(st.permutations(range(count))))
    permuted = {what: value[:, order] if what == "maps" else value[order] for what, value in evidence.items()}
    assert torch.allclose(_call(name, permuted), _call(name, evidence)[order], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "scaled", "degree"),
    [
        ("fpgm", "filters", 1),
        ("l1", "filters", 1),
        ("l2", "filters", 1),
        ("lamp", "filters", 0),
        ("fpgm-mix", "filters", 0),
        ("bn-scale", "norm_scale", 1),
        ("taylor", "filters", 2),
        ("taylor", "gradients", 2),
        ("obd", "filters", 2),
        ("obd", "squared_gradients", 1),
        ("hrank", "maps", 0),
    ],
)
def test_importance_grows_with_its_evidence_by_a_power(name: str, scaled: str, degree: int) -> None:
    evidence = _evidence(8, 3)
    larger = _call(name, evidence | {scaled: 4.0 * evidence[scaled]})
    assert torch.allclose(larger, 4.0**degree * _call(name, evidence), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_importance_is_one_float32_per_channel_and_not_below_zero(name: str) -> None:
    importance = _call(name, {**_evidence(6, 1), "seed": 0})
    assert (importance.dtype, importance.shape) == (torch.float32, (6,))
    assert float(importance.min()) >= 0


def test_random_follows_its_seed() -> None:
    filters = _filters(16, 2, 0)
    assert torch.equal(random(filters, 1), random(filters, 1))
    assert not torch.equal(random(filters, 1), random(filters, 2))


def test_finding_a_criterion() -> None:
    assert find_criterion("fpgm") == ("fpgm", fpgm)
    assert find_criterion(l2) == ("l2", l2)
    with pytest.raises(EdgeLatheError) as caught:
        find_criterion("fpmg")
    assert str(caught.value) == 'Unknown criterion "fpmg": did you mean "fpgm"?'


def test_what_criteria_look_at() -> None:
    assert {name for name in CRITERIA if needs_samples(name)} == {"taylor", "obd", "hrank"}
    assert evidence_of("fpgm-mix") == {"filters"}
    assert evidence_of("random") == {"filters", "seed"}
    assert set(itertools.chain.from_iterable(map(evidence_of, CRITERIA))) == set(EVIDENCE)


def _own(filters: Tensor, *, maps: Tensor, power: float = 2.0) -> Tensor:
    return filters.sum(dim=1) ** power + maps.sum()


def test_a_function_of_a_users_own_says_by_its_parameters_what_it_looks_at() -> None:
    assert evidence_of(_own) == {"filters", "maps"}
    assert needs_samples(_own)


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        (
            lambda filters, gradient: filters,
            'Cannot call the criterion <lambda>: its parameter "gradient" is nothing that a criterion can look at; '
            'did you mean "gradients"?',
        ),
        (
            lambda: torch.ones(3),
            "Cannot call the criterion <lambda>: its parameters do not say what it looks at; name one or more of them: "
            "filters, gradients, squared_gradients, norm_scale, maps, seed.",
        ),
        (
            lambda *filters: filters[0],
            "Cannot call the criterion <lambda>: its parameters do not say what it looks at; name one or more of them: "
            "filters, gradients, squared_gradients, norm_scale, maps, seed.",
        ),
    ],
)
def test_criteria_that_cannot_be_called(criterion: Callable[..., Tensor], message: str) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        evidence_of(criterion)
    assert str(caught.value) == message
