from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from edgelathe.compress.prune.apply import remove
from edgelathe.compress.prune.macs import count_macs, layer_costs
from edgelathe.compress.prune.scopes import make_ladder
from edgelathe.compress.prune.targets import Prediction, first_within, one_target
from edgelathe.compress.prune.trace import trace_groups
from edgelathe.errors import EdgeLatheError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

Make = Callable[[str], nn.Module]

NETWORKS = ["Chain", "Residual", "OptionA", "Dense", "Inverted", "Upsampling", "Grouped"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(NETWORKS), depth=st.floats(0, 1), seed=st.integers(0, 99))
def test_predictions_are_what_the_pruned_network_has(
    make: Make, example: Tensor, name: str, depth: float, seed: int
) -> None:
    model = make(name)
    groups = trace_groups(model, example, ())
    prunable = [group for group in groups if not group.reason]
    generator = torch.Generator().manual_seed(seed)
    importance = {group.layer: torch.rand(group.before, generator=generator) for group in prunable}
    multiples = {group.layer: 1 for group in prunable}
    ladder = make_ladder(model, prunable, importance, scope="global", multiples=multiples)
    prediction = Prediction(model, layer_costs(model, example), groups, ladder.rankings)
    step = round(depth * ladder.last)
    widths = ladder.widths(step)
    counted = count_macs(remove(model, ladder.cut(groups, step)), example)
    assert (prediction.macs(widths), prediction.parameters(widths)) == counted


def test_parameters_by_hand(make: Make, example: Tensor) -> None:
    """Stem 3 -> s, inner s -> i, outer i -> s, all 3x3 with biases, and 4 classes."""
    model = make("Residual")
    groups = trace_groups(model, example, ())
    rankings = {"stem": list(range(8)), "inner": list(range(10))}
    prediction = Prediction(model, layer_costs(model, example), groups, rankings)
    for s, i in ((8, 10), (5, 10), (8, 1), (3, 7)):
        by_hand = (27 * s + s) + (9 * s * i + i) + (9 * i * s + s) + (4 * s + 4)
        assert prediction.parameters({"stem": s, "inner": i}) == by_hand


@settings(max_examples=60, deadline=None)
@given(costs=st.lists(st.integers(0, 30), min_size=1, max_size=20), limit=st.integers(0, 31))
def test_first_step_within_a_limit(costs: list[int], limit: int) -> None:
    falling = sorted(costs, reverse=True)
    wanted = next((step for step, cost in enumerate(falling) if cost <= limit), None)
    assert first_within(len(falling) - 1, lambda step: falling[step], limit) == wanted


def test_one_target() -> None:
    assert one_target(keep_macs=None, keep_params=None, keep_latency=None) == ("keep_macs", 0.5)
    assert one_target(keep_macs=None, keep_params=0.3, keep_latency=None) == ("keep_params", 0.3)
    with pytest.raises(EdgeLatheError) as caught:
        one_target(keep_macs=0.5, keep_params=None, keep_latency=0.5)
    assert str(caught.value) == (
        "Cannot prune to several targets at once (keep_macs, keep_latency): one decides; keep one of them."
    )
    for share in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(EdgeLatheError, match=f"Cannot use keep_params = {share}: it must be above 0 and at most 1"):
            one_target(keep_macs=None, keep_params=share, keep_latency=None)
