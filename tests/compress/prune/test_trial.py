from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from edgelathe.compress.prune.plan import Group, Member
from edgelathe.compress.prune.trace import trace_groups
from edgelathe.compress.prune.trial import _some, tried
from torch import Tensor, nn

from .conftest import Next

Make = Callable[[str], nn.Module]


def _swapped(group: Group, reader: str) -> Group:
    """The group with the two halves of the reader's channels in the wrong order."""
    others = tuple(member for member in group.members if member.layer != reader)
    half = group.before // 2
    return replace(
        group, members=(*others, Member(reader, "in", 0, half, half, 1), Member(reader, "in", half, half, 0, 1))
    )


def test_a_block_that_hardly_counts_is_tried_as_well(example: Tensor) -> None:
    # The block's part of the outputs is below the tolerance, so these alone would say nothing.
    model = Next(scale=1e-9).eval()
    groups = {group.layer: group for group in trace_groups(model, example, [])}
    inner = groups["first.up"]
    assert inner.reason == ""
    (found,) = tried(model, example[:1], [_swapped(inner, "first.down")])
    assert found.reason == "cutting its channels changes what other layers compute"


def test_failures_are_found_among_many(make: Make, example: Tensor) -> None:
    model = make("Aggregated")
    groups = [group for group in trace_groups(model, example, []) if not group.reason]
    assert [group.layer for group in groups] == ["stem", "first", "reduce", "grouped"]
    wrong = [_swapped(group, "expand") if group.layer == "grouped" else group for group in groups]
    found = {group.layer: group.reason for group in tried(model, example[:1], wrong)}
    why = "cutting its channels changes what other layers compute"
    assert found == {"stem": "", "first": "", "reduce": "", "grouped": why}


def test_trying_leaves_the_network_alone(make: Make, example: Tensor) -> None:
    model = make("Next")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tried(model, example[:1], trace_groups(model, example, []))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_as_many_but_other_channels_of_each_block_are_cut() -> None:
    group = Group("layer", 16, tuple(range(16)), (), "", blocks=2)
    assert _some(group) == (4, 5, 6, 13, 14, 15)
    assert _some(replace(group, blocks=8)) == (1, 2, 5, 6, 9, 10, 13, 14)
    assert _some(replace(group, blocks=1)) == (8, 9, 10, 12, 13, 14)
