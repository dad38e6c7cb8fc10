from __future__ import annotations

from collections.abc import Callable

import torch
from edgelathe.compress.prune.plan import Member
from edgelathe.compress.prune.trace import _runs, trace_groups
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), max_size=40, unique_by=lambda pair: pair[0]))
def test_runs_hold_exactly_the_given_map(pairs: list[tuple[int, int]]) -> None:
    positions, channels = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    members = _runs("layer", "in", positions, channels)
    found = [(position, channel) for member in members for channel in range(13) for position in member.positions(channel)]  # fmt: skip  # noqa: E501
    assert sorted(found) == sorted(pairs)


def test_regular_maps_are_one_run() -> None:
    assert _runs("bn", "channels", range(8), range(8)) == [Member("bn", "channels", 0, 8, 0, 1)]
    flattened = [channel for channel in range(5) for _ in range(9)]
    assert _runs("fc", "in", range(45), flattened) == [Member("fc", "in", 0, 5, 0, 9)]
    assert _runs("c", "in", range(6, 10), range(4)) == [Member("c", "in", 0, 4, 6, 1)]


def test_tracing_leaves_gradients_and_mode_alone(make: Callable[[str], nn.Module], example: Tensor) -> None:
    model = make("Chain").train()
    with torch.no_grad():
        groups = trace_groups(model, example, [])
    assert [group.layer for group in groups] == ["conv1", "conv2", "fc1", "fc2"]
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_concatenation_is_read_at_its_offset(make: Callable[[str], nn.Module], example: Tensor) -> None:
    groups = {group.layer: group for group in trace_groups(make("Dense"), example, [])}
    assert Member("c", "in", 0, 4, 6, 1) in groups["b"].members
    assert Member("bn", "channels", 0, 6, 0, 1) in groups["a"].members
