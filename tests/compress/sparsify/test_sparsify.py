from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from edgelathe.compress.sparsify.sparsify import apply_masks, plan_sparsity, sparsify
from edgelathe.errors import EdgeLatheError
from torch import Tensor, nn

MakeNet = Callable[[], nn.Sequential]


def test_the_smallest_weights_of_all_layers_become_zeros(conv_net: MakeNet, example: Tensor) -> None:
    model = conv_net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sparse, plan = sparsify(model, example, keep=0.3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    after = sparse.state_dict()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {"3.weight", "10.weight"}
    old, new = (torch.cat([state[name].flatten() for name in sorted(changed)]) for state in (before, after))
    assert int((new != 0).sum()) == sum(weight.kept for weight in plan.sparse) == round(0.3 * 1200)
    assert torch.equal(new[new != 0], old[new != 0])
    assert old[new == 0].abs().max() <= new[new != 0].abs().min()
    assert (plan.pattern, plan.method, plan.keep, plan.scope) == ("unstructured", "one-shot", 0.3, "global")


def test_per_layer_each_keeps_its_share(conv_net: MakeNet, example: Tensor) -> None:
    plan, _ = plan_sparsity(conv_net(), example, keep=0.25, scope="layer")
    assert [(weight.kept, weight.size) for weight in plan.sparse] == [(288, 1152), (12, 48)]


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("2:4", []),
        ("4x1", ["its 3 output channels are no multiple of 4"]),
        ("1x4", []),
        ("kernel", ["its kernels are single weights"]),
        ("strided-3", ["its kernels have 1 tap, fewer than the stride"]),
    ],
)
def test_every_pattern_runs_and_says_what_it_leaves_dense(
    conv_net: MakeNet, example: Tensor, pattern: str, left: list[str]
) -> None:
    sparse, plan = sparsify(conv_net(), example, pattern=pattern)
    reasons = [weight.reason for weight in plan.weights if weight.reason]
    assert [reason for reason in reasons if reason.startswith("its")] == left
    weight = sparse.get_parameter("3.weight")
    assert int(torch.count_nonzero(weight)) == plan.weights[1].kept < weight.numel()
    assert bool(torch.isfinite(sparse(torch.ones(2, 3, 8, 8))).all())


def test_the_plan_and_its_masks_make_the_same_network(conv_net: MakeNet, example: Tensor) -> None:
    model = conv_net()
    plan, masks = plan_sparsity(model, example, pattern="2:4")
    applied, direct = (
        apply_masks(model, plan, masks).state_dict(),
        sparsify(model, example, pattern="2:4")[0].state_dict(),
    )
    assert all(torch.equal(applied[name], direct[name]) for name in direct)


def test_masks_that_are_not_the_plans_are_refused(conv_net: MakeNet, example: Tensor) -> None:
    model = conv_net()
    plan, masks = plan_sparsity(model, example, pattern="2:4")
    for tampered in ({**masks, "3.weight": ~masks["3.weight"]}, {"3.weight": masks["3.weight"]}):
        with pytest.raises(EdgeLatheError, match="the masks beside it are not its own"):
            apply_masks(model, plan, tampered)
    with pytest.raises(EdgeLatheError, match="its layers have other names or shapes"):
        apply_masks(nn.Sequential(model), plan, masks)
    with pytest.raises(EdgeLatheError, match="its layers have other names or shapes"):
        apply_masks(model, replace(plan, network="0"), masks)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"pattern": "2:5x"}, 'Unknown pattern "2:5x": write unstructured, kernel, N:M'),
        ({"scope": "all"}, 'Unknown scope "all": valid are: global, layer.'),
        ({"keep": 1.5}, "Cannot use keep = 1.5: it must be above 0 and below 1."),
        ({"pattern": "7:9"}, "Cannot sparsify this network in the pattern 7:9: every layer stays dense (0.weight: "),
        ({"keep": 0.0001}, "Cannot keep 0.01% of the weights: nothing of 3.weight would stay"),
    ],
)
def test_impossible_wishes_are_refused(
    conv_net: MakeNet, example: Tensor, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        sparsify(conv_net(), example, **settings)
    assert str(caught.value).startswith(sentence)
