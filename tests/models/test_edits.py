from __future__ import annotations

import copy

import pytest
import torch
from edgelathe.models.edits import REPLACED_BY, Edit, edits_of, make_edit, refusal
from edgelathe.models.efficientnet import SqueezeExcitation
from torch import nn


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.SiLU(inplace=True), SqueezeExcitation(8, 2), nn.Sigmoid()).eval()


def test_edits_replace_modules_and_are_remembered_by_copies() -> None:
    model = network()
    edits = (Edit("1", "hardswish"), Edit("2.activation", "relu"), Edit("2", "identity"), Edit("1", "relu6"))
    for edit in edits:
        assert refusal(model, edit) == ""
        make_edit(model, edit)
    assert [type(module) for module in model] == [nn.Conv2d, nn.ReLU6, nn.Identity, nn.Sigmoid]
    assert not any(module.training for module in model)
    assert edits_of(copy.deepcopy(model)) == edits
    assert edits_of(network()) == ()
    assert model(torch.ones(1, 3, 2, 2)).shape == (1, 8, 2, 2)


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (Edit("9", "relu6"), 'it has no module "9"'),
        (Edit("", "identity"), 'it has no module ""'),
        (Edit("0", "relu6"), "0 (Conv2d) is no activation that relu6 stands in for"),
        (Edit("3", "relu6"), "3 (Sigmoid) is no activation that relu6 stands in for"),
        (Edit("1", "hardsigmoid"), "1 (SiLU) is no activation that hardsigmoid stands in for"),
        (Edit("0", "identity"), "0 is no squeeze-and-excitation block"),
        (Edit("1", "identity"), "1 is no squeeze-and-excitation block"),
    ],
)
def test_edits_that_do_not_fit_are_refused(edit: Edit, why: str) -> None:
    assert refusal(network(), edit) == why


def test_nothing_stands_in_for_itself() -> None:
    assert all(name not in replaced for name, replaced in REPLACED_BY.items())
