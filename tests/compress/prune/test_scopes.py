from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from edgelathe.compress.prune.plan import Group, Member, Scope
from edgelathe.compress.prune.scopes import SCOPES, Ladder, make_ladder, structure
from edgelathe.compress.prune.trace import trace_groups
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

Make = Callable[[str], nn.Module]


def _group(layer: str, channels: int, blocks: int = 1) -> Group:
    member = Member(layer, "out", 0, channels, 0, 1)
    return Group(layer, channels, tuple(range(channels)), (member,), "", blocks)


def _network(**channels: int) -> nn.Module:
    return nn.ModuleDict({name: nn.Conv2d(1, width, 1) for name, width in channels.items()})


def _widths(ladder: Ladder) -> list[tuple[int, ...]]:
    return [tuple(ladder.widths(step).values()) for step in range(ladder.last + 1)]


def _importance(groups: list[Group], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {group.layer: torch.rand(group.before, generator=generator) for group in groups}


@settings(max_examples=60, deadline=None)
@given(
    scope=st.sampled_from(SCOPES),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    multiple=st.sampled_from([1, 3, 4, 8]),
    blocks=st.sampled_from([1, 1, 2]),
    seed=st.integers(0, 99),
)
def test_every_step_narrows_by_whole_multiples_and_keeps_the_most_important(
    scope: Scope, sizes: list[int], multiple: int, blocks: int, seed: int
) -> None:
    groups = [_group(f"g{number}", size * blocks, blocks) for number, size in enumerate(sizes)]
    model = _network(**{group.layer: group.before for group in groups})
    importance = _importance(groups, seed)
    multiples = {group.layer: multiple for group in groups}
    ladder = make_ladder(model, groups, importance, scope=scope, multiples=multiples)
    before = {group.layer: group.before for group in groups}
    assert ladder.widths(0) == before
    for step in range(1, ladder.last + 1):
        widths = ladder.widths(step)
        assert all(widths[layer] <= width for layer, width in before.items())
        assert widths != before
        before = widths
        for group in ladder.cut(groups, step):
            assert group.after == widths[group.layer]
            assert bool(group.reason) == (group.after == group.before)
            assert group.after == group.before or group.after % group.step(multiple) == 0
            assert group.after >= min(group.before, group.step(multiple))
            assert group.even
            for block in range(blocks):
                inside = [c for c in range(group.before) if c * blocks // group.before == block]
                kept = [float(importance[group.layer][c]) for c in inside if c in group.keep]
                gone = [float(importance[group.layer][c]) for c in inside if c not in group.keep]
                assert not gone or min(kept) >= max(gone)


def test_one_by_one_the_steps_of_equal_shares_are_walked_through_a_group_at_a_time() -> None:
    groups = [_group("a", 16, 1), _group("b", 32, 1), _group("c", 64, 1)]
    model, importance = _network(a=16, b=32, c=64), _importance(groups, 0)
    multiples = {"a": 8, "b": 16, "c": 4}
    together = make_ladder(model, groups, importance, scope="uniform", multiples=multiples)
    apart = make_ladder(model, groups, importance, scope="uniform", multiples=multiples, one_by_one=True)
    walked = [apart.widths(step) for step in range(apart.last + 1)]
    assert all(together.widths(step) in walked for step in range(together.last + 1))
    for wide, narrow in itertools.pairwise(walked):
        assert sum(wide[layer] != narrow[layer] for layer in wide) == 1
    assert apart.last > together.last


def test_uniform_ignores_what_other_groups_hold() -> None:
    groups = [_group("a", 8), _group("b", 8), _group("c", 4)]
    importance = {"a": torch.ones(8), "b": torch.arange(8.0) * 100, "c": torch.ones(4)}
    ladder = make_ladder(
        _network(a=8, b=8, c=4), groups, importance, scope="uniform", multiples={"a": 1, "b": 1, "c": 1}
    )
    assert _widths(ladder) == [
        (8, 8, 4), (7, 7, 4), (7, 7, 3), (6, 6, 3), (5, 5, 3), (5, 5, 2), (4, 4, 2), (3, 3, 2), (3, 3, 1), (2, 2, 1),
        (1, 1, 1),
    ]  # fmt: skip


def test_global_ranks_all_channels_by_importance_over_the_mean_of_their_group() -> None:
    groups = [_group("a", 4), _group("b", 4)]
    importance = {"a": torch.tensor([1.0, 2.0, 3.0, 2.0]), "b": torch.tensor([100.0, 900.0, 200.0, 2800.0])}
    # Over their means, 2 and 1000:  a 0.5 1.0 1.5 1.0   b 0.1 0.9 0.2 2.8
    arguments = {"scope": "global", "multiples": {"a": 1, "b": 1}}
    ladder = make_ladder(_network(a=4, b=4), groups, importance, **arguments)  # type: ignore[arg-type]
    assert _widths(ladder) == [(4, 4), (4, 3), (4, 2), (3, 2), (3, 1), (2, 1), (1, 1)]
    assert [group.keep for group in ladder.cut(groups, 3)] == [(1, 2, 3), (1, 3)]
    as_they_are = make_ladder(_network(a=4, b=4), groups, importance, comparable=True, **arguments)  # type: ignore[arg-type]
    assert _widths(as_they_are) == [(4, 4), (3, 4), (2, 4), (1, 4), (1, 3), (1, 2), (1, 1)]


def test_global_leaves_a_tenth_of_each_group() -> None:
    groups = [_group("a", 40), _group("b", 40)]
    importance = {"a": torch.full((40,), 1e-9), "b": torch.ones(40)}
    importance["a"][0] = 1.0
    for multiple, least in ((1, 4), (8, 8)):
        multiples = {"a": multiple, "b": multiple}
        ladder = make_ladder(_network(a=40, b=40), groups, importance, scope="global", multiples=multiples)
        assert ladder.widths(ladder.last) == {"a": least, "b": least}


def test_blocks_are_ranked_by_their_mean() -> None:
    groups = [_group("a", 5), _group("b", 4)]
    importance = {"a": torch.tensor([1.0, 1.0, 1.0, 1.0, 6.0]), "b": torch.tensor([1.0, 3.0, 2.0, 2.0])}
    # a over its mean 2: 0.5 0.5 0.5 0.5 3; widths 5 -> 4 -> 2, so blocks {0.5}, {0.5, 0.5} and the rest
    # b over its mean 2: 0.5 1 1 1.5;       widths 4 -> 2, so block {0.5, 1}
    ladder = make_ladder(_network(a=5, b=4), groups, importance, scope="global", multiples={"a": 2, "b": 2})
    assert _widths(ladder) == [(5, 4), (4, 4), (2, 4), (2, 2)]


def test_isomorphic_groups_are_ranked_together_and_kinds_lose_equal_shares() -> None:
    wide = [_group("a", 4), _group("b", 4)]
    depthwise = Group("c", 4, (0, 1, 2, 3), (Member("c", "channels", 0, 4, 0, 1),), "")
    model = nn.ModuleDict({"a": nn.Conv2d(1, 4, 1), "b": nn.Conv2d(1, 4, 3), "c": nn.Conv2d(4, 4, 3, groups=4)})
    layers = dict(model.named_modules())
    assert structure(wide[0], layers) == structure(wide[1], layers) == ("Conv2d out",)
    assert structure(depthwise, layers) == ("depthwise Conv2d channels",)
    importance = {
        "a": torch.tensor([1.0, 1.0, 1.0, 5.0]),  # over the mean 0.5 0.5 0.5 2.5
        "b": torch.tensor([7.0, 9.0, 11.0, 13.0]),  # 0.7 0.9 1.1 1.3
        "c": torch.tensor([1.0, 1.0, 1.0, 1000.0]),
    }
    ladder = make_ladder(
        model, [*wide, depthwise], importance, scope="isomorphic", multiples={"a": 1, "b": 1, "c": 1}
    )  # fmt: skip
    assert _widths(ladder) == [
        (4, 4, 4), (3, 4, 4), (2, 4, 3), (1, 4, 3), (1, 3, 2), (1, 2, 2), (1, 1, 1),
    ]  # fmt: skip


def test_structure_of_a_residual_network(make: Make, example: Tensor) -> None:
    model = make("Residual")
    layers = dict(model.named_modules())
    kinds = {group.layer: structure(group, layers) for group in trace_groups(model, example, ())}
    assert kinds["inner"] == ("Conv2d in", "Conv2d out")
    assert kinds["stem"] == ("Conv2d in", "Conv2d out", "Conv2d out", "Linear in")


@pytest.mark.parametrize(
    ("before", "multiple", "reason"),
    [(8, 8, "it has no more than 8 channels"), (9, 8, "the target is met without cutting it")],
)
def test_why_a_group_keeps_all(before: int, multiple: int, reason: str) -> None:
    groups = [_group("a", before)]
    ladder = make_ladder(
        _network(a=before), groups, {"a": torch.ones(before)}, scope="uniform", multiples={"a": multiple}
    )
    (kept,) = ladder.cut(groups, 0)
    assert (kept.reason, kept.after) == (reason, before)
    assert ladder.last == (before - 1) // multiple
