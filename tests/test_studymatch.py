from __future__ import annotations

import math

import pytest
import torch
from edgelathe.compress.sparsify.sparsify import plan_sparsity
from edgelathe.errors import EdgeLatheError
from edgelathe.recipe_stages import Sparsify
from edgelathe.studymatch import Dense, Weights, encoded_after, matched_share, matching_keep, nonzero_after
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

FLOAT = Dense(nonzero=1_100, encoded_bytes=4_400, bytes_per_weight=4)
INT8 = Dense(nonzero=1_100, encoded_bytes=1_300, bytes_per_weight=1)


def test_sizes_after_pruning_computed_by_hand() -> None:
    quarter = [Weights(800, 200), Weights(200, 50)]
    assert nonzero_after(FLOAT, quarter) == 350  # 100 others stay
    # Places take 0.8113 bits each: 81.1 bytes of 800 weights, 20.3 of 200.
    assert encoded_after(FLOAT, quarter) == 4_400 - (3_200 - 882) - (800 - 221)
    assert encoded_after(INT8, quarter) == 1_300 - (800 - 282) - (200 - 71)
    assert encoded_after(INT8, [Weights(1_000, 999)]) == 1_300  # dense is smaller
    assert nonzero_after(FLOAT, ()) == 1_100 and encoded_after(FLOAT, ()) == 4_400


@given(target=st.floats(100, 5_000), slope=st.floats(1, 4_000), fixed=st.floats(0, 99))
def test_the_largest_share_that_is_small_enough_is_found(target: float, slope: float, fixed: float) -> None:
    def size_of(keep: float) -> float:
        return fixed + slope * keep

    keep = matching_keep(size_of, target, "size")
    assert 0 < keep <= 1 and size_of(keep) <= target
    assert keep == 1.0 or keep == pytest.approx((target - fixed) / slope, abs=2e-6)


def test_steps_are_found_as_well_as_slopes() -> None:
    assert matching_keep(lambda keep: round(100 * keep), 30, "size") == pytest.approx(0.305, abs=2e-6)


def test_what_no_share_reaches_is_refused() -> None:
    with pytest.raises(EdgeLatheError) as caught:
        matching_keep(lambda keep: 500 + 100 * keep, 400, "its encoded size")
    assert str(caught.value) == (
        "Cannot prune weights until its encoded size is 400: with the fewest weights that may be left it is 500; ask"
        " for a larger budget."
    )


def test_shares_that_are_too_small_to_be_possible_are_passed_over() -> None:
    def size_of(keep: float) -> float | None:
        return None if keep < 0.25 else 100 * keep

    assert matching_keep(size_of, 30, "size") == pytest.approx(0.3, abs=2e-6)
    with pytest.raises(EdgeLatheError, match=r"until size is 20: with the fewest weights that may be left it is 25;"):
        matching_keep(size_of, 20, "size")


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 16, 3, bias=False), nn.Flatten())


EXAMPLE = torch.zeros(1, 1, 8, 8)
WEIGHTS = 8 * 16 * 9  # of the second layer; the first stays dense


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_a_network_comes_to_the_parameters_that_were_asked_for(network: nn.Module, scope: str) -> None:
    stage = Sparsify(do="sparsify", scope=scope)  # type: ignore[arg-type]
    dense = Dense(nonzero=72 + WEIGHTS, encoded_bytes=0, bytes_per_weight=4)
    keep = matched_share(network, EXAMPLE, stage, dense, 500, "parameters")
    plan, _ = plan_sparsity(network, EXAMPLE, keep=keep, scope=scope)  # type: ignore[arg-type]
    assert sum(each.kept for each in plan.sparse) == 500 - 72


def test_a_network_comes_to_the_bytes_that_were_asked_for(network: nn.Module) -> None:
    dense = Dense(nonzero=72 + WEIGHTS, encoded_bytes=4 * (72 + WEIGHTS), bytes_per_weight=4)
    keep = matched_share(network, EXAMPLE, Sparsify(do="sparsify"), dense, 2_000, "encoded-size")
    plan, _ = plan_sparsity(network, EXAMPLE, keep=keep)
    kept = sum(each.kept for each in plan.sparse)
    share = kept / WEIGHTS
    places = -WEIGHTS * (share * math.log2(share) + (1 - share) * math.log2(1 - share)) / 8
    assert 2_000 - 5 < 4 * 72 + places + 4 * kept <= 2_000  # within one weight


def test_a_stage_that_fits_no_network_is_refused_as_such(network: nn.Module) -> None:
    with pytest.raises(EdgeLatheError, match=r'^Unknown layer in only "conv9"'):
        matched_share(network, EXAMPLE, Sparsify(do="sparsify", only=("conv9",)), FLOAT, 500, "parameters")
