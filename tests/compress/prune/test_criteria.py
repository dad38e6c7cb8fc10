from __future__ import annotations

import numpy as np
import pytest
import torch
from edgelathe.compress.prune.criteria import CRITERIA, SEEDED, find_criterion, group_importance
from edgelathe.compress.prune.fpgm import fpgm
from edgelathe.compress.prune.l1 import l1
from edgelathe.compress.prune.l2 import l2
from edgelathe.compress.prune.random import random
from edgelathe.errors import EdgeLatheError
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor


def _filters(count: int, fan_in: int, seed: int) -> Tensor:
    return torch.randn(count, fan_in, generator=torch.Generator().manual_seed(seed))


def test_fpgm_is_the_sum_of_distances_between_raw_weights() -> None:
    filters = torch.tensor([[0.0, 0.0], [3.0, 4.0], [-3.0, -4.0]])
    # |w| would make the second and third alike: the distance between them is 10, not 0.
    assert fpgm(filters).tolist() == pytest.approx([10.0, 15.0, 15.0], abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 12), fan_in=st.integers(1, 30), seed=st.integers(0, 10**6))
def test_fpgm_against_the_formula(count: int, fan_in: int, seed: int) -> None:
    filters = _filters(count, fan_in, seed)
    rows = filters.numpy().astype(np.float64)
    wanted = [sum(float(np.linalg.norm(a - b)) for b in rows) for a in rows]
    assert fpgm(filters).tolist() == pytest.approx(wanted, rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 12), seed=st.integers(0, 10**6), shift=st.floats(-5, 5))
def test_fpgm_does_not_change_when_all_filters_move_together(count: int, seed: int, shift: float) -> None:
    filters = _filters(count, 9, seed)
    assert torch.allclose(fpgm(filters + shift), fpgm(filters), rtol=1e-4, atol=1e-4)


def test_fpgm_tells_near_copies_from_copies() -> None:
    filters = 1000 + torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.25]])
    assert fpgm(filters).tolist() == pytest.approx([0.25, 0.25, 0.5], abs=1e-6)


def test_norms() -> None:
    filters = torch.tensor([[3.0, -4.0], [0.0, 1.0]])
    assert l1(filters).tolist() == [7.0, 1.0]
    assert l2(filters).tolist() == [5.0, 1.0]


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_permuting_filters_permutes_their_importance(name: str) -> None:
    filters = _filters(7, 5, 0)
    order = torch.tensor([3, 1, 0, 6, 5, 2, 4])
    assert torch.allclose(CRITERIA[name](filters[order]), CRITERIA[name](filters)[order], rtol=1e-6, atol=0)


def test_random_follows_its_seed_and_differs_between_layers() -> None:
    filters = _filters(16, 2, 0)
    first, again, other = random(1), random(1), random(2)
    layer_one, layer_two = first(filters), first(filters)
    assert torch.equal(layer_one, again(filters))
    assert not torch.equal(layer_one, layer_two)
    assert not torch.equal(layer_one, other(filters))


def test_layers_that_share_channels_have_equal_votes() -> None:
    loud, quiet = torch.tensor([[100.0], [300.0]]), torch.tensor([[3.0], [1.0]])
    assert group_importance(l1, [loud, quiet]).tolist() == pytest.approx([1.0, 1.0])
    assert group_importance(l1, [loud]).tolist() == [100.0, 300.0]


def test_finding_a_criterion() -> None:
    assert find_criterion("fpgm", 0) == ("fpgm", fpgm)
    assert find_criterion(l2, 0) == ("l2", l2)
    assert find_criterion("random", 0)[0] in SEEDED
    with pytest.raises(EdgeLatheError) as caught:
        find_criterion("fpmg", 0)
    assert str(caught.value) == 'Unknown criterion "fpmg": did you mean "fpgm"?'
