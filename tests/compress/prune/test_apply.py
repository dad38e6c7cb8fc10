from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from edgelathe.compress.prune.apply import Place, all_but, apply_plan, remove, removed_positions, silence
from edgelathe.compress.prune.channels import prune_channels
from edgelathe.compress.prune.plan import Group, Member, PruningPlan
from edgelathe.compress.prune.trace import trace_groups
from edgelathe.errors import EdgeLatheError
from torch import Tensor, nn

Make = Callable[[str], nn.Module]


def _storages(model: nn.Module) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in model.state_dict().values()}


def _narrow(group: Group, keep: tuple[int, ...]) -> Group:
    return replace(group, keep=keep)


@pytest.mark.parametrize("name", ["Aggregated", "Next", "Inverted", "Dense"])
def test_a_pruned_network_shares_nothing_with_the_whole_one(make: Make, example: Tensor, name: str) -> None:
    model = make(name)
    pruned, plan = prune_channels(model, example, keep_macs=0.6)
    assert not _storages(pruned) & _storages(model)
    assert not _storages(silence(model, plan.groups)) & _storages(model)
    lent = remove(model, plan.groups, share=True)
    assert _storages(lent) & _storages(model)
    assert torch.equal(lent(example), pruned(example))


def test_tied_weights_stay_tied(example: Tensor) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 1)
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(self.conv(x).mean(dim=(2, 3))))

    model = Tied().eval()
    copied = remove(model, [])
    assert copied.first.weight is copied.second.weight  # type: ignore[union-attr]
    assert copied.first.weight is not model.first.weight  # type: ignore[union-attr]


def test_grouped_layers_lose_as_many_channels_of_each_group(make: Make, example: Tensor) -> None:
    pruned, plan = prune_channels(make("Aggregated"), example, keep_macs=0.5)
    groups = {group.layer: group for group in plan.groups}
    assert {layer: group.blocks for layer, group in groups.items()} == {
        "stem": 2, "first": 2, "reduce": 4, "grouped": 4, "fc": 1,
    }  # fmt: skip
    grouped = pruned.get_submodule("grouped")
    assert isinstance(grouped, nn.Conv2d)
    assert grouped.groups == 4
    assert grouped.out_channels < 24 and grouped.out_channels % 4 == 0
    assert grouped.weight.shape == (grouped.out_channels, grouped.in_channels // 4, 3, 3)
    counts = [sum(channel // 6 == block for channel in groups["grouped"].keep) for block in range(4)]
    assert counts == [grouped.out_channels // 4] * 4


def test_a_scale_and_the_norms_of_a_stream_go_with_it(make: Make, example: Tensor) -> None:
    pruned, plan = prune_channels(make("Next"), example, keep_macs=0.5)
    stem = next(group for group in plan.groups if group.layer == "stem")
    places = {(member.layer, member.side, member.parameter) for member in stem.members}
    assert places >= {
        ("first", "channels", "layer_scale"), ("first.norm", "channels", ""), ("norm", "channels", ""),
        ("first.depthwise", "channels", ""), ("first.up", "in", ""), ("first.down", "out", ""),
        ("step.0", "channels", ""), ("step.1", "in", ""),
    }  # fmt: skip
    assert pruned.get_parameter("first.layer_scale").shape == (stem.after, 1, 1)
    assert pruned.get_submodule("first.norm").normalized_shape == (stem.after,)


@pytest.mark.parametrize("change", ["blocks", "uneven", "parameter", "no parameter", "other parameter"])
def test_plans_that_would_leave_no_valid_network_are_refused(make: Make, example: Tensor, change: str) -> None:
    model = make("Next" if "parameter" in change else "Aggregated")
    plan = PruningPlan.from_json(prune_channels(model, example, keep_macs=0.5)[1].to_json())
    layer = {"Next": "stem", "Aggregated": "grouped"}[type(model).__name__]
    group = next(group for group in plan.groups if group.layer == layer)
    if change == "blocks":
        changed, why = replace(group, blocks=1, keep=(0, 1, 2, 3)), "grouped would be left with groups of unequal width"
    elif change == "uneven":
        changed, why = replace(group, keep=(0, 1, 2, 6)), "grouped would be left with groups of unequal width"
    else:
        names = {"parameter": ("first.up", "weight"), "no parameter": ("first", ""), "other parameter": ("first", "x")}
        owner, parameter = names[change]
        wrong = Member(owner, "channels", 0, group.before, 0, 1, parameter)
        changed, why = replace(group, members=(*group.members, wrong)), f"{owner} has no channels that can be cut"
    groups = tuple(changed if old.layer == layer else old for old in plan.groups)
    with pytest.raises(EdgeLatheError, match=why):
        apply_plan(model, replace(plan, groups=groups))


def test_silent_grouped_inputs_are_read_by_nobody(make: Make, example: Tensor) -> None:
    model = make("Aggregated")
    group = next(group for group in trace_groups(model, example, []) if group.layer == "reduce")
    cut = replace(group, keep=(0, 2, 5, 6, 8, 9, 14, 15))
    silent = silence(model, [cut])
    grouped = silent.get_submodule("grouped")
    x = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    loud = x.index_fill(1, torch.tensor(cut.removed), 1e3)
    assert torch.equal(grouped(x), grouped(loud))
    assert not torch.equal(grouped(x), grouped(x.index_fill(1, torch.tensor([0]), 1e3)))


def test_positions_to_cut() -> None:
    pixels = Group("conv", 3, (1,), (Member("conv", "out", 0, 3, 0, 1), Member("fc", "in", 0, 3, 4, 2)), "")
    other = Group("b", 2, (0,), (Member("fc", "in", 0, 2, 0, 1), Member("m", "channels", 0, 2, 0, 1, "scale")), "")
    found = {place: positions.tolist() for place, positions in removed_positions([pixels, other]).items()}
    assert found == {
        Place("conv", "out", ""): [0, 2],
        Place("fc", "in", ""): [1, 4, 5, 8, 9],
        Place("m", "channels", "scale"): [1],
    }
    assert all_but(5, torch.tensor([0, 3])).tolist() == [1, 2, 4]
