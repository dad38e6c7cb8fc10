from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from edgelathe.compress.sparsify.plan import SparsityPlan
from edgelathe.compress.sparsify.sparsify import plan_sparsity
from edgelathe.errors import EdgeLatheError
from torch import Tensor, nn


@pytest.fixture
def plan(conv_net: Callable[[], nn.Module], example: Tensor) -> SparsityPlan:
    return plan_sparsity(conv_net(), example, pattern="2:4")[0]


def test_a_plan_survives_its_own_json(plan: SparsityPlan) -> None:
    assert SparsityPlan.from_json(plan.to_json()) == plan


def test_it_says_what_stays(plan: SparsityPlan) -> None:
    # 216 + 1152 + 144 + 48 weights, of which 576 and 24 go.
    assert plan.kept_share == pytest.approx(1 - 600 / 1560)
    assert [weight.weight for weight in plan.sparse] == ["3.weight", "10.weight"]
    lines = str(plan).splitlines()
    assert lines[0] == "2:4, one-shot, global: 61.5% of all weights stay"
    assert lines[2] == "3.weight         576 of     1,152"
    assert lines[3].endswith("it is depthwise: few weights, and each channel has no others")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": 2}, "its format is 2, not 1"),
        ({"patern": "2:4"}, "patern: Unexpected keyword argument"),
        ({"kept": 0}, "what it says of 3.weight contradicts itself"),
        ({"kept": 9999}, "what it says of 3.weight contradicts itself"),
        ({"mask_sha256": ""}, "what it says of 3.weight contradicts itself"),
    ],
)
def test_what_is_no_plan_is_refused(plan: SparsityPlan, change: dict[str, Any], why: str) -> None:
    document = json.loads(plan.to_json())
    (key,) = change
    (document["weights"][1] if key in ("kept", "mask_sha256") else document).update(change)
    with pytest.raises(EdgeLatheError) as caught:
        SparsityPlan.from_json(json.dumps(document), "a.json")
    assert str(caught.value) == f"Cannot read the sparsity plan a.json: {why}; make the plan again."
