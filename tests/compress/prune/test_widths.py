from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from edgelathe.compress.checkpoint import state_sha256
from edgelathe.compress.prune.apply import silence
from edgelathe.compress.prune.macs import count_macs
from edgelathe.compress.prune.plan import Group, PruningPlan
from edgelathe.compress.prune.trace import trace_groups
from edgelathe.compress.prune.widths import prune_to_widths, stated_widths
from edgelathe.errors import EdgeLatheError
from torch import Tensor, nn

Make = Callable[[str], nn.Module]


@pytest.fixture
def groups(make: Make, example: Tensor) -> tuple[Group, ...]:
    return trace_groups(make("Residual"), example, ())


def test_counts_shares_and_layers_left_out(groups: tuple[Group, ...]) -> None:
    assert stated_widths({"inner": 7}, groups) == {"stem": 8, "inner": 7, "fc": 4}
    assert stated_widths({"inner": 0.5, "stem": 0.3}, groups) == {"stem": 2, "inner": 5, "fc": 4}
    assert stated_widths({"inner": 1}, groups)["inner"] == 1, "a whole number is a count"
    assert stated_widths({"inner": 1.0}, groups)["inner"] == 10
    assert stated_widths({"inner": 0.01}, groups)["inner"] == 1


def test_shares_are_rounded_to_the_multiple_and_counts_are_not(groups: tuple[Group, ...]) -> None:
    assert stated_widths({"inner": 0.5, "stem": 3}, groups, 4) == {"stem": 3, "inner": 4, "fc": 4}
    assert stated_widths({"inner": 0.95}, groups, 4)["inner"] == 8
    assert stated_widths({"inner": 0.1}, groups, 4)["inner"] == 4


def test_any_layer_that_makes_the_channels_stands_for_their_group(groups: tuple[Group, ...]) -> None:
    assert stated_widths({"outer": 5}, groups)["stem"] == 5
    assert stated_widths({"outer": 5, "stem": 5}, groups)["stem"] == 5
    assert stated_widths({"outer": 0.5, "stem": 4}, groups)["stem"] == 4


@pytest.mark.parametrize(
    ("widths", "sentence"),
    [
        ({"iner": 5}, 'Unknown layer in widths "iner": did you mean "inner"?'),
        ({"inner": 11}, "Cannot use the width 11 for inner: it must be a count of channels from 1 to 10, or a share"),
        ({"inner": 0}, "Cannot use the width 0 for inner: "),
        ({"inner": 1.5}, "Cannot use the width 1.5 for inner: "),
        ({"inner": True}, "Cannot use the width True for inner: "),
        ({"inner": "5"}, "Cannot use the width 5 for inner: "),
        ({"inner": float("nan")}, "Cannot use the width nan for inner: "),
        (
            {"fc": 3},
            "Cannot narrow fc from 4 to 3 channels, because its channels are the network's outputs; leave it out",
        ),
        (
            {"stem": 5, "outer": 6},
            "Cannot give stem 5 channels and outer 6: their channels live and die together; state one width",
        ),
    ],
)
def test_widths_that_the_network_cannot_have(
    groups: tuple[Group, ...], widths: dict[str, int | float], sentence: str
) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        stated_widths(widths, groups)
    assert str(caught.value).startswith(sentence)


def test_a_layer_that_cannot_be_cut_may_be_stated_whole(groups: tuple[Group, ...]) -> None:
    assert stated_widths({"fc": 4}, groups)["fc"] == 4


def test_blocks_keep_equally_many(groups: tuple[Group, ...]) -> None:
    inner = next(group for group in groups if group.layer == "inner")
    halves = [replace(inner, blocks=2)]
    assert stated_widths({"inner": 4}, halves) == {"inner": 4}
    assert stated_widths({"inner": 0.7}, halves) == {"inner": 8}
    assert stated_widths({"inner": 0.5}, halves, 3) == {"inner": 6}
    with pytest.raises(EdgeLatheError, match=r"Cannot give inner 5 channels: they fall into 2 blocks .* multiple of 2"):
        stated_widths({"inner": 5}, halves)


def test_the_network_gets_the_widths_and_keeps_its_most_important_channels(make: Make, example: Tensor) -> None:
    model = make("Residual")
    before = state_sha256(model)
    pruned, plan = prune_to_widths(model, example, {"inner": 4, "outer": 0.75}, criterion="l1")
    assert state_sha256(model) == before
    assert (pruned.stem.out_channels, pruned.inner.out_channels, pruned.outer.out_channels) == (6, 4, 6)  # type: ignore[union-attr]
    order = model.inner.weight.abs().sum(dim=(1, 2, 3)).argsort(descending=True)  # type: ignore[union-attr, operator]
    inner = next(group for group in plan.groups if group.layer == "inner")
    assert inner.keep == tuple(sorted(order[:4].tolist()))
    with torch.no_grad():
        assert torch.allclose(pruned(example), silence(model, plan.groups)(example), rtol=0, atol=1e-5)
    assert (plan.macs_before, plan.parameters_before) == count_macs(model, example)
    assert (plan.macs_after, plan.parameters_after) == count_macs(pruned, example)
    assert plan.keep == plan.macs_after / plan.macs_before
    assert plan.ratio == pytest.approx(10 / 18)
    assert PruningPlan.from_json(plan.to_json()) == plan


def test_layers_left_out_say_so(make: Make, example: Tensor) -> None:
    _, plan = prune_to_widths(make("Residual"), example, {"inner": 4})
    assert {group.layer: group.reason for group in plan.groups} == {
        "stem": "no narrower width is stated for it",
        "inner": "",
        "fc": "its channels are the network's outputs",
    }


def test_a_measured_multiple_is_refused(make: Make, example: Tensor) -> None:
    with pytest.raises(EdgeLatheError, match="Cannot use multiple = auto"):
        prune_to_widths(make("Residual"), example, {"inner": 4}, multiple="auto")  # type: ignore[arg-type]
