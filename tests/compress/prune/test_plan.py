from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from edgelathe.compress.prune.apply import apply_plan
from edgelathe.compress.prune.channels import plan_channels
from edgelathe.compress.prune.plan import Group, Member, PruningPlan
from edgelathe.errors import EdgeLatheError
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

Make = Callable[[str], nn.Module]


@pytest.fixture
def plan(make: Make, example: Tensor) -> PruningPlan:
    return plan_channels(make("Residual"), example, keep_macs=0.5)


def test_json_round_trip_is_exact(plan: PruningPlan) -> None:
    text = plan.to_json()
    assert PruningPlan.from_json(text) == plan
    assert PruningPlan.from_json(text).to_json() == text


def test_plan_read_back_makes_the_same_network(make: Make, example: Tensor, plan: PruningPlan) -> None:
    model = make("Residual")
    with torch.no_grad():
        wanted = apply_plan(model, plan)(example)
        assert torch.equal(apply_plan(model, PruningPlan.from_json(plan.to_json()))(example), wanted)


def test_keep_can_be_changed_by_hand(make: Make, example: Tensor, plan: PruningPlan) -> None:
    data = json.loads(plan.to_json())
    group = next(group for group in data["groups"] if group["layer"] == "inner")
    group["keep"] = [1, 7]
    pruned = apply_plan(make("Residual"), PruningPlan.from_json(json.dumps(data)))
    assert pruned.inner.out_channels == 2  # type: ignore[union-attr]
    assert torch.equal(pruned.outer.weight, make("Residual").outer.weight[plan.groups[0].keep, :][:, [1, 7]])  # type: ignore[union-attr, index]
    assert pruned(example).shape == (2, 4)


def test_people_can_read_it(plan: PruningPlan) -> None:
    lines = str(plan).splitlines()
    assert lines[0].startswith("fpgm, ")
    assert "% of the channels of each prunable group; MACs 106,016 -> " in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["stem", "inner", "outer", "fc"]
    assert lines[-1] == "fc         4 -> 4     its channels are the network's outputs"


def test_plan_for_another_network_is_refused(make: Make, plan: PruningPlan) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        apply_plan(make("Chain"), plan)
    assert str(caught.value) == (
        "Cannot apply the pruning plan to this network: its layers have other names or shapes; "
        "apply it to the network that it was made for, or make a new plan."
    )


def test_members_that_point_nowhere_are_refused(make: Make, plan: PruningPlan) -> None:
    def with_member(member: Member) -> PruningPlan:
        groups = (replace(plan.groups[0], members=(member,)), *plan.groups[1:])
        return replace(plan, groups=groups)

    for member in (
        Member("nowhere", "out", 0, 8, 0, 1),
        Member("", "out", 0, 8, 0, 1),
        Member("stem", "out", 0, 8, 100, 1),
        Member("stem", "out", 0, 8, -1, 1),
        Member("stem", "out", 0, 10**12, 0, 1),
        Member("stem", "channels", 0, 8, 0, 1),
        Member("inner", "in", -3, 8, 0, 1),
    ):
        with pytest.raises(EdgeLatheError, match="Cannot apply the pruning plan"):
            apply_plan(make("Residual"), with_member(member))


def _damage(data: dict[str, Any], how: str) -> None:
    group = next(group for group in data["groups"] if not group["reason"])
    if how == "unknown key":
        data["surprise"] = 1
    elif how == "wrong type":
        group["keep"] = "all"
    elif how == "nothing kept":
        group["keep"] = []
    elif how == "out of range":
        group["keep"] = [0, group["before"]]
    elif how == "not ascending":
        group["keep"] = [1, 0]
    elif how == "other format":
        data["format"] = 99


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("unknown key", "surprise: Unexpected keyword argument"),
        ("wrong type", r"groups.0.keep: Input should be a valid array"),
        ("nothing kept", "must hold ascending numbers from 0 to 7"),
        ("out of range", "must hold ascending numbers from 0 to 7"),
        ("not ascending", "must hold ascending numbers from 0 to 7"),
        ("other format", "its format is 99, not 2"),
    ],
)
def test_damaged_plan_is_one_sentence(plan: PruningPlan, how: str, why: str) -> None:
    data = json.loads(plan.to_json())
    _damage(data, how)
    with pytest.raises(EdgeLatheError, match=f"Cannot read the pruning plan mine.json: .*{why}") as caught:
        PruningPlan.from_json(json.dumps(data), "mine.json")
    assert "\n" not in str(caught.value)
    with pytest.raises(EdgeLatheError, match=r"Cannot read the pruning plan plan\.json: Invalid JSON"):
        PruningPlan.from_json("{")


def test_positions_of_a_channel() -> None:
    member = Member("fc", "in", 2, 3, 10, 4)
    assert [list(member.positions(channel)) for channel in (1, 2, 4, 5)] == [
        [],
        [10, 11, 12, 13],
        [18, 19, 20, 21],
        [],
    ]


def test_a_group_larger_than_its_layers_is_refused(make: Make, plan: PruningPlan) -> None:
    huge = replace(plan.groups[0], before=10**12)
    with pytest.raises(EdgeLatheError, match="no layer has the 1000000000000 channels of stem"):
        apply_plan(make("Residual"), replace(plan, groups=(huge,)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_best_of_each_block_in_the_order_of_the_ranking(data: st.DataObject) -> None:
    blocks, length = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    ranking = data.draw(st.permutations(range(blocks * length)))
    group = Group("layer", blocks * length, tuple(range(blocks * length)), (), "", blocks=blocks)
    ordered = group.evenly(ranking)
    assert sorted(ordered) == sorted(ranking)
    for each in range(1, length + 1):
        kept = group.best(ranking, each * blocks)
        wanted = {
            channel
            for block in range(blocks)
            for channel in [found for found in ranking if found // length == block][:each]
        }
        assert set(kept) == wanted == set(ordered[: each * blocks])
        assert replace(group, keep=kept).even
    assert blocks == 1 or length == 1 or not replace(group, keep=tuple(range(length))).even


def test_uneven_blocks_in_a_file_are_refused(make: Make, example: Tensor) -> None:
    data = json.loads(plan_channels(make("Aggregated"), example, keep_macs=0.5).to_json())
    group = next(group for group in data["groups"] if group["layer"] == "grouped")
    assert group["blocks"] == 4
    group["keep"] = [0, 1, 2, 3]
    with pytest.raises(EdgeLatheError, match="keep of grouped must hold equally many of each of its 4 blocks of"):
        PruningPlan.from_json(json.dumps(data))


def test_steps_fit_blocks_and_multiples() -> None:
    group = Group("layer", 24, tuple(range(24)), (), "", blocks=4)
    assert [group.step(multiple) for multiple in (1, 2, 6, 8)] == [4, 4, 12, 8]
