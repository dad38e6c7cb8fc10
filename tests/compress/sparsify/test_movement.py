from __future__ import annotations

from collections.abc import Callable

import torch
from edgelathe.compress.sparsify.movement import Movement
from edgelathe.compress.sparsify.names import read_pattern
from torch import nn

from .test_gradual import NAME, walk


def single(weights: list[float], keep: float, ramp: float = 1.0) -> tuple[nn.Linear, Movement]:
    layer = nn.Linear(len(weights), 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([weights]))
    constraint = Movement(
        layer, {"weight": layer.weight}, read_pattern("unstructured"), keep=keep, scope="layer", ramp=ramp
    )
    return layer, constraint


def step(
    layer: nn.Linear, constraint: Movement, gradient: list[float], before: float, after: float, lr: float = 0.1
) -> None:
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr)
    layer.weight.grad = torch.tensor([gradient])
    constraint.before_step(before)
    optimizer.step()
    constraint.after_step(after, optimizer)


def test_scores_add_up_minus_weight_times_gradient() -> None:
    layer, constraint = single([1.0, -2.0, 0.5], keep=0.5)
    step(layer, constraint, [0.1, 0.1, -1.0], 0.0, 0.05)
    assert torch.allclose(constraint.tensors()["scores.weight"], torch.tensor([[-0.1, 0.2, 0.5]]))
    # After a step of lr 0.1 the weights are 0.99, -2.01 and 0.6.
    step(layer, constraint, [1.0, 0.0, 1.0], 0.05, 0.06)
    assert torch.allclose(constraint.tensors()["scores.weight"], torch.tensor([[-1.09, 0.2, -0.1]]))


def test_weights_that_move_away_from_zero_stay_however_small() -> None:
    layer, constraint = single([1.0, -2.0, 0.5, 0.01], keep=0.5)
    step(layer, constraint, [0.5, -0.5, -0.5, -1.0], 0.0, 1.0)
    assert constraint.masks["weight"].tolist() == [[False, False, True, True]]
    assert layer.weight.tolist()[0][:2] == [0.0, 0.0]


def test_a_weight_that_was_left_out_may_come_back_with_its_value() -> None:
    layer, constraint = single([1.0, 3.0], keep=0.5, ramp=0.2)
    step(layer, constraint, [-1.0, 0.1], 0.0, 0.1)
    # The share on the way is 1 - 0.5 (1 - 0.5^3) = 0.5625: one of two. Weight 1 goes, at 3 - 0.1 * 0.1 = 2.99.
    assert constraint.masks["weight"].tolist() == [[True, False]]
    assert float(layer.weight[0, 1].detach()) == 0.0
    # Its gradient at zero says that it would rather grow, and that weight 0 would rather shrink.
    step(layer, constraint, [4.0, -4.0], 0.1, 0.2)
    assert constraint.masks["weight"].tolist() == [[False, True]]
    assert torch.allclose(layer.weight, torch.tensor([[0.0, 2.99]]))


def test_after_the_ramp_masks_stand(conv_net: Callable[[], nn.Sequential]) -> None:
    model = conv_net()
    parameters = {NAME: model.get_parameter(NAME)}
    constraint = Movement(model, parameters, read_pattern("2:4"), keep=0.5, scope="layer", ramp=1.0)
    masks = walk(model, constraint)
    assert torch.equal(masks[19], masks[-1])
    assert int(masks[-1].sum()) == 576
    constraint.check()


def test_what_was_pruned_before_never_comes_back() -> None:
    layer, constraint = single([0.0, 1.0, 1.0, 1.0], keep=0.5)
    step(layer, constraint, [9.0, 1.0, 2.0, 3.0], 0.0, 1.0)
    assert constraint.masks["weight"].tolist() == [[False, True, True, False]]


def test_not_even_where_the_share_leaves_room_for_it() -> None:
    layer, constraint = single([0.0, 1.0], keep=0.99)
    step(layer, constraint, [9.0, 1.0], 0.0, 1.0)
    assert constraint.masks["weight"].tolist() == [[False, True]]
