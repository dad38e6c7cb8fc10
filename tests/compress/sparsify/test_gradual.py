from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from edgelathe.compress.sparsify.gradual import Gradual
from edgelathe.compress.sparsify.names import read_pattern
from edgelathe.errors import EdgeLatheError
from torch import nn

MakeNet = Callable[[], nn.Sequential]
NAME = "3.weight"


def walk(model: nn.Module, constraint: Gradual, steps: int = 40, epochs: int = 2) -> list[torch.Tensor]:
    """Train on noise and return the mask after every step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    masks = []
    for step in range(steps):
        optimizer.zero_grad()
        model.eval()(torch.randn(4, 3, 8, 8, generator=generator)).square().sum().backward()
        constraint.before_step(epochs * step / steps)
        optimizer.step()
        constraint.after_step(epochs * (step + 1) / steps, optimizer)
        masks.append(constraint.masks[NAME])
        assert torch.equal(model.get_parameter(NAME) != 0, masks[-1])
    return masks


def gradual(model: nn.Module, pattern: str = "unstructured", keep: float = 0.25, ramp: float = 1.0) -> Gradual:
    parameters = {NAME: model.get_parameter(NAME)}
    return Gradual(model, parameters, read_pattern(pattern), keep=keep, scope="layer", ramp=ramp)


@pytest.mark.parametrize(("pattern", "keep"), [("unstructured", 0.25), ("2:4", 0.5), ("4x1", 0.25), ("kernel", 0.5)])
def test_zeros_come_in_steps_and_never_go(conv_net: MakeNet, pattern: str, keep: float) -> None:
    model = conv_net()
    masks = walk(model, gradual(model, pattern, keep))
    for earlier, later in pairwise(masks):
        assert not bool((later & ~earlier).any())
    shares = [float(mask.float().mean()) for mask in masks]
    assert shares[0] == 1.0, "the first update comes after a tenth of an epoch"
    assert len({*shares}) > 2
    assert shares[-1] == keep
    assert torch.equal(masks[19], masks[-1]), "after the ramp of one epoch, of twenty steps, masks stand"


def test_the_share_follows_the_cubic(conv_net: MakeNet) -> None:
    model = conv_net()
    masks = walk(model, gradual(model))
    # A tenth of an epoch is two steps; after 5 tenths 1 - 0.75 * (1 - 0.5^3) = 0.34375 of 1152 stay.
    assert int(masks[9].sum()) == round(0.34375 * 1152)


def test_zeros_from_before_stay_in_this_weight_and_in_others(conv_net: MakeNet) -> None:
    model = conv_net()
    with torch.no_grad():
        model.get_parameter(NAME)[0] = 0
        model.get_parameter("10.weight")[0] = 0
    constraint = gradual(model, keep=0.9)
    masks = walk(model, constraint)
    assert not bool(masks[-1][0].any())
    assert not bool(model.get_parameter("10.weight")[0].any())
    constraint.check()
    with torch.no_grad():
        model.get_parameter("10.weight")[0] = 1
    with pytest.raises(EdgeLatheError, match=r"16 weights of 10\.weight"):
        constraint.check()


def test_settings_tell_trainings_apart(conv_net: MakeNet) -> None:
    model = conv_net()
    same, other = gradual(model).settings(), gradual(model, ramp=0.5).settings()
    assert gradual(model).settings() == same != other
