from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from edgelathe.compress.prune.allocate import allocate, cost, hull, plan_from_sensitivity
from edgelathe.compress.prune.apply import apply_plan
from edgelathe.compress.prune.evidence import Samples
from edgelathe.compress.prune.macs import LayerCost, count_macs
from edgelathe.compress.prune.plan import Group, Member, PruningPlan
from edgelathe.compress.prune.sensitivity import GroupSensitivity, Point, Sensitivity, scan_sensitivity
from edgelathe.errors import EdgeLatheError
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

Make = Callable[[str], nn.Module]


def linear(inputs: int, outputs: int) -> LayerCost:
    return LayerCost(outputs, inputs, 1, inputs * outputs)


def group(layer: str, before: int, reader: str, positions: int = 1) -> Group:
    """Channels that `layer` makes and `reader` reads, `positions` inputs a channel."""
    made = Member(layer, "out", 0, before, 0, 1)
    return Group(layer, before, tuple(range(before)), (made, Member(reader, "in", 0, before, 0, positions)), "")


def scan(**groups: tuple[int, dict[int, float]]) -> Sensitivity:
    """A scan of 1000 images: by layer its channels, and by channels left the loss, of which the whole network has 1."""
    found = tuple(
        GroupSensitivity(layer, before, tuple(Point(after, loss, 900) for after, loss in points.items()), "")
        for layer, (before, points) in groups.items()
    )
    return Sensitivity(1, "", "", "fpgm", 1000, 1.0, 900, found)


# Two networks side by side, so that what one saves does not depend on the other: 4 -> a 8 -> 4 and 4 -> b 8 -> 4.
# A channel of either is 8 MACs, all of them 128.
COSTS = {"a": linear(4, 8), "a2": linear(8, 4), "b": linear(4, 8), "b2": linear(8, 4)}
GROUPS = [group("a", 8, "a2"), group("b", 8, "b2")]


def test_channels_go_where_a_mac_costs_least() -> None:
    # Of a, the first four channels cost 0.01 each, the next two 0.2; of b 0.05 each.
    found = scan(a=(8, {4: 1.04, 2: 1.44}), b=(8, {4: 1.2, 2: 1.3}))
    assert allocate(GROUPS, COSTS, found, keep_macs=0.875) == {"a": 6}
    assert allocate(GROUPS, COSTS, found, keep_macs=0.75) == {"a": 4}
    assert allocate(GROUPS, COSTS, found, keep_macs=0.5) == {"a": 4, "b": 4}
    assert allocate(GROUPS, COSTS, found, keep_macs=0.375) == {"a": 4, "b": 2}
    assert allocate(GROUPS, COSTS, found, keep_macs=0.25) == {"a": 2, "b": 2}
    assert allocate(GROUPS, COSTS, found, keep_macs=1.0) == {}


def test_no_group_goes_narrower_than_it_was_scanned() -> None:
    found = scan(a=(8, {4: 1.0}), b=(8, {4: 1.0}))
    assert allocate(GROUPS, COSTS, found, keep_macs=0.5) == {"a": 4, "b": 4}
    with pytest.raises(EdgeLatheError) as caught:
        allocate(GROUPS, COSTS, found, keep_macs=0.49)
    assert str(caught.value) == (
        "Cannot choose widths for 49.0% of the MACs: with every group as narrow as it was scanned 50.0% remain;"
        " scan larger ratios or raise keep_macs."
    )


def test_what_a_coarse_last_step_left_is_given_back_where_a_mac_brings_most() -> None:
    # b is one channel of 512 MACs and free; without it 64 of 576 are left, of which 0.5 allows 288: nothing fits.
    # c gives 8 MACs a channel and is the dearer, so it is cut only to be let grow again.
    costs = {"b": linear(128, 2), "b2": linear(2, 128), "c": linear(4, 8), "c2": linear(8, 4)}
    groups = [group("b", 2, "b2"), group("c", 8, "c2")]
    found = scan(b=(2, {1: 1.05}), c=(8, {2: 1.0006}))
    # c is cheaper at first (0.0001 a channel of 8 MACs against 0.05 for 256), and so goes to 2; then b goes.
    assert allocate(groups, costs, found, keep_macs=0.9) == {"b": 1}


def test_multiples() -> None:
    found = scan(a=(8, {3: 1.04}), b=(8, {2: 1.4}))
    assert allocate(GROUPS, COSTS, found, keep_macs=0.8, multiple=4) == {"a": 4}
    assert allocate(GROUPS, COSTS, found, keep_macs=0.6, multiple=4) == {"a": 4, "b": 4}
    blocks = [replace(GROUPS[0], blocks=2), GROUPS[1]]
    assert allocate(blocks, COSTS, found, keep_macs=0.8) == {"a": 4}, "7, 6 or 5 of 8 in two blocks: 6, then 4"


def test_wide_groups_take_large_steps_and_end_near_the_target() -> None:
    costs = {"a": linear(4, 1000), "a2": linear(1000, 4)}
    widths = allocate([group("a", 1000, "a2")], costs, scan(a=(1000, {250: 2.0})), keep_macs=0.5003)
    assert widths == {"a": 500}


def test_a_flattened_map_counts_all_its_positions() -> None:
    costs = {"a": linear(4, 8), "a2": linear(32, 4)}  # four inputs a channel: 20 MACs each, 160 in all
    found = scan(a=(8, {2: 1.1}))
    assert allocate([group("a", 8, "a2", 4)], costs, found, keep_macs=0.75) == {"a": 6}


def test_accuracy_instead_of_loss() -> None:
    found = scan(a=(8, {4: 1.0}), b=(8, {4: 5.0}))
    a, b = found.groups
    found = replace(found, groups=(replace(a, points=(Point(4, 1.0, 500),)), replace(b, points=(Point(4, 5.0, 890),))))
    assert allocate(GROUPS, COSTS, found, keep_macs=0.75) == {"a": 4}
    assert allocate(GROUPS, COSTS, found, keep_macs=0.75, measure="accuracy") == {"b": 4}


def test_the_hull_lies_below_every_point_never_falls_and_never_flattens() -> None:
    found = scan(a=(16, {12: 1.3, 8: 1.2, 4: 1.9, 2: 2.0}))
    # Never falling: 0.3, 0.3, 0.9, 1.0 at 4, 8, 12, 14; (4, 0.3) lies above the line to (8, 0.3), (12, 0.9) above that
    # from (8, 0.3) to (14, 1.0).
    corners = hull(found, found.groups[0], "loss")
    assert [removed for removed, _ in corners] == [0, 8, 14]
    assert [lost for _, lost in corners] == pytest.approx([0, 0.3, 1.0])
    assert cost(corners, 4) == pytest.approx(0.15)
    assert cost(corners, 11) == pytest.approx(0.65)
    assert cost(corners, 14) == pytest.approx(1.0)


losses = st.lists(st.floats(0.5, 3.0), min_size=3, max_size=3)


@given(a=losses, b=losses, c=losses, keep=st.floats(0.2, 1.0), multiple=st.sampled_from([1, 2, 3]))
def test_the_target_holds_and_no_group_could_be_wider(
    a: list[float], b: list[float], c: list[float], keep: float, multiple: int
) -> None:
    # A chain: 3 -> a 12 -> b 12 -> c 12 -> 5, so that what a group saves depends on its neighbours.
    costs = {"a": linear(3, 12), "b": linear(12, 12), "c": linear(12, 12), "d": linear(12, 5)}
    groups = [group("a", 12, "b"), group("b", 12, "c"), group("c", 12, "d")]
    found = scan(
        **{name: (12, dict(zip((9, 6, 3), each, strict=True))) for name, each in zip("abc", (a, b, c), strict=True)}
    )

    def macs(widths: dict[str, int]) -> int:
        x, y, z = (widths.get(name, 12) for name in "abc")
        return 3 * x + x * y + y * z + 5 * z

    whole = macs({})
    try:
        widths = allocate(groups, costs, found, keep_macs=keep, multiple=multiple)
    except EdgeLatheError:
        least = -(-3 // multiple) * multiple
        assert macs(dict.fromkeys("abc", least)) > keep * whole
        return
    assert macs(widths) <= keep * whole
    for name, width in widths.items():
        assert 3 <= width < 12
        assert width % multiple == 0
        assert macs(widths | {name: min(12, width + multiple)}) > keep * whole


@pytest.fixture
def judged() -> Samples:
    generator = torch.Generator().manual_seed(3)
    return Samples(torch.randn(12, 3, 8, 8, generator=generator), torch.randint(0, 4, (12,), generator=generator))


@pytest.mark.parametrize("name", ["Chain", "Residual", "Dense", "Inverted", "OptionA", "Upsampling"])
def test_a_plan_by_a_scan_meets_its_target_and_can_be_applied(
    make: Make, example: Tensor, judged: Samples, name: str
) -> None:
    model = make(name)
    found = scan_sensitivity(model, example, judged, ratios=[0.25, 0.5, 0.75])
    plan = plan_from_sensitivity(model, example, found, keep_macs=0.75)
    assert PruningPlan.from_json(plan.to_json()) == plan
    macs, _ = count_macs(model, example)
    pruned_macs, _ = count_macs(apply_plan(model, plan), example)
    assert (plan.macs_before, plan.macs_after) == (macs, pruned_macs)
    assert 0.5 * macs < pruned_macs <= 0.75 * macs
    assert plan.keep == pruned_macs / macs
    assert plan.scope == "stated"


def test_a_scan_of_another_network_is_refused(make: Make, example: Tensor, judged: Samples) -> None:
    found = scan_sensitivity(make("Chain"), example, judged, ratios=[0.5])
    with pytest.raises(EdgeLatheError, match="by the sensitivity scan of another: its layers have other names or sh"):
        plan_from_sensitivity(make("Residual"), example, found)
    forged = replace(found, groups=(replace(found.groups[0], before=9), *found.groups[1:]))
    with pytest.raises(EdgeLatheError, match="it has no group of 9 channels conv1"):
        plan_from_sensitivity(make("Chain"), example, forged)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep_macs": 0.0}, "Cannot use keep_macs = 0.0"),
        ({"measure": "los"}, 'Unknown measure "los": did you mean "loss"?'),
        ({"multiple": "auto"}, "Cannot use multiple = auto: it must be 1 or more, where widths are stated"),
    ],
)
def test_impossible_requests(settings: dict[str, object], message: str) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        allocate(GROUPS, COSTS, scan(a=(8, {4: 1.0})), **{"keep_macs": 0.5, **settings})  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)
