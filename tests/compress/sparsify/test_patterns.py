from __future__ import annotations

import pytest
import torch
from edgelathe.compress.sparsify.names import read_pattern
from edgelathe.compress.sparsify.patterns import Scope, find_pattern, masks_from
from edgelathe.errors import EdgeLatheError
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor


def drawn(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (8, 4, 3, 3), "b": (4, 8, 3, 3), "c": (8, 8, 2, 2)}
    return {name: torch.rand(shape, generator=generator) * (1 + len(shape)) for name, shape in shapes.items()}


def share(masks: dict[str, Tensor]) -> float:
    return sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())


NAMES = ["unstructured", "2:4", "1:4", "4x1", "1x4", "2x2", "kernel"]


@given(st.sampled_from(NAMES), st.floats(0.3, 0.95), st.integers(0, 5), st.sampled_from(["global", "layer"]))
def test_masks_are_idempotent(name: str, keep: float, seed: int, scope: Scope) -> None:
    pattern, scores = find_pattern(read_pattern(name)), drawn(seed)
    masks = masks_from(pattern, scores, keep, scope)
    pruned = {weight: scores[weight] * mask for weight, mask in masks.items()}
    again = masks_from(pattern, pruned, keep, scope)
    assert all(torch.equal(again[weight], mask) for weight, mask in masks.items())


@given(st.sampled_from(NAMES), st.floats(0.3, 0.95), st.floats(0.3, 0.95), st.sampled_from(["global", "layer"]))
def test_fewer_lie_within_more(name: str, one: float, other: float, scope: Scope) -> None:
    pattern, scores = find_pattern(read_pattern(name)), drawn(1)
    few, many = (masks_from(pattern, scores, keep, scope) for keep in sorted((one, other)))
    assert not any(bool((few[weight] & ~many[weight]).any()) for weight in scores)


@given(st.floats(0.1, 0.95))
def test_the_share_is_met_within_a_unit(keep: float) -> None:
    scores = drawn(2)
    weights = sum(score.numel() for score in scores.values())
    for name, unit in (("unstructured", 1), ("4x1", 4), ("kernel", 9)):
        found = share(masks_from(find_pattern(read_pattern(name)), scores, keep, "global"))
        assert -unit <= (found - keep) * weights <= 0.5, name


def test_globally_the_largest_stay_wherever_they_are() -> None:
    scores = {"small": torch.full((2, 2), 0.1), "large": torch.full((4, 4), 0.9)}
    scores["small"][0, 0] = 1.0
    masks = masks_from(find_pattern(read_pattern("unstructured")), scores, 0.5, "global")
    assert masks["small"].tolist() == [[True, False], [False, False]]
    assert int(masks["large"].sum()) == 9
    each = masks_from(find_pattern(read_pattern("unstructured")), scores, 0.5, "layer")
    assert [int(each[name].sum()) for name in scores] == [2, 8]


def test_a_layer_that_would_be_emptied_is_an_error() -> None:
    scores = {"small": torch.full((2, 2), 0.1), "large": torch.full((4, 4), 0.9)}
    with pytest.raises(EdgeLatheError) as caught:
        masks_from(find_pattern(read_pattern("unstructured")), scores, 0.5, "global")
    assert str(caught.value) == (
        "Cannot keep 50.00% of the weights: nothing of small would stay, and the network would be cut through; "
        'raise keep, choose scope = "layer", or name the layer in ignore.'
    )


def test_n_of_m_on_the_way_keeps_whole_numbers() -> None:
    pattern, scores = find_pattern(read_pattern("2:4")), {"a": torch.rand(4, 8)}
    for keep, stay in ((1.0, 4), (0.76, 4), (0.75, 3), (0.6, 3), (0.5, 2)):
        assert share(masks_from(pattern, scores, keep, "global")) == stay / 4
