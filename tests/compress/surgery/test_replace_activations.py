from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from edgelathe.compress.surgery.plan import apply_plan
from edgelathe.compress.surgery.replace_activations import plan_replacement, replace_activations
from edgelathe.errors import EdgeLatheError
from torch import Tensor, nn

Make = Callable[[str], nn.Module]


def classes(model: nn.Module) -> set[str]:
    return {type(module).__name__ for module in model.modules()}


def refusal(model: nn.Module, example: Tensor, **keys: object) -> str:
    with pytest.raises(EdgeLatheError) as caught:
        replace_activations(model, example, **keys)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "to", "count", "gone", "come"),
    [
        ("efficientnet", "relu6", 49, "SiLU", "ReLU6"),
        ("efficientnet", "hardswish", 49, "SiLU", "Hardswish"),
        ("mobilenet_v3", "relu", 19, "Hardswish", "ReLU"),
    ],
)
def test_every_module_is_replaced_in_a_copy(
    make: Make, example: Tensor, name: str, to: str, count: int, gone: str, come: str
) -> None:
    model = make(name)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    replaced, plan = replace_activations(model, example, to=to)  # type: ignore[arg-type]
    assert len(plan.edits) == count
    assert plan.left == ()
    assert gone in classes(model)
    assert gone not in classes(replaced)
    assert come in classes(replaced)
    assert all(torch.equal(tensor, before[name]) for name, tensor in replaced.state_dict().items())
    with torch.no_grad():
        assert not torch.equal(replaced(example), model(example))


def test_shared_modules_go_under_every_name_and_functions_stay_with_their_reason(make: Make, example: Tensor) -> None:
    model = make("Mixed")
    replaced, plan = replace_activations(model, example)
    assert [edit.module for edit in plan.edits] == ["act", "same", "own"]
    assert isinstance(replaced.same, nn.ReLU6)
    assert str(plan).splitlines() == [
        "act -> relu6",
        "same -> relu6",
        "own -> relu6",
        "the network keeps silu: it is a function that the forward of Mixed calls",
    ]
    assert json.loads(plan.to_json())["left"][0]["what"] == "silu"
    first, second = torch.nn.functional.silu, nn.functional.relu6
    with torch.no_grad():
        hidden = second(model.first(example))
        wanted = first(second(model.second(second(hidden)))).mean((2, 3))
        assert torch.equal(replaced(example), wanted)


def test_only_and_ignore_name_modules_or_what_holds_them(make: Make, example: Tensor) -> None:
    model = make("efficientnet")
    plan = plan_replacement(model, example, only=["features.1", "features.2.conv.0.2"], ignore=["features.1.conv.1"])
    assert [edit.module for edit in plan.edits] == ["features.1.conv.0.2", "features.2.conv.0.2"]
    reasons = {left.module: left.reason for left in plan.left}
    assert len(reasons) == 47
    assert reasons["features.1.conv.1.activation"] == "it is named in ignore"
    assert reasons["features.10.conv.0.2"] == "it is not named in only"
    edited = dict(apply_plan(model, plan).named_modules())
    assert isinstance(edited["features.1.conv.1.activation"], nn.SiLU)


def test_a_sigmoid_becomes_its_hard_variant_where_it_is_a_module(example: Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sigmoid(), nn.SiLU())
    replaced, plan = replace_activations(model, example, to="hardsigmoid")
    assert [(edit.module, edit.becomes) for edit in plan.edits] == [("1", "hardsigmoid")]
    assert isinstance(replaced[2], nn.SiLU)


# --- refusals -----------------------------------------------------------------------------------------------


def test_functions_alone_are_an_error_that_says_where_they_are(make: Make, example: Tensor) -> None:
    assert refusal(make("Functions"), example) == (
        "Cannot replace activations by relu6: it stands in for modules that compute silu, hardswish, gelu or mish, the "
        "network computes 1 hardswish, 1 relu, 1 relu6, 1 swish written out, and none of these may be replaced "
        "(body.block keeps swish written out: it is a function that the forward of WrittenOut calls; the network keeps "
        "hardswish: it is a function that the forward of Functions calls); make modules of functions that stand in a "
        "forward."
    )


def test_nothing_to_replace_lists_what_the_network_has(make: Make, example: Tensor) -> None:
    assert refusal(make("resnet"), example, to="hardsigmoid") == (
        "Cannot replace activations by hardsigmoid: it stands in for modules that compute sigmoid, the network "
        "computes 7 relu, and none of these may be replaced; leave this stage out."
    )
    everything = refusal(make("efficientnet"), example, ignore=["features"])
    assert (
        "the network computes 16 sigmoid, 49 silu, and none of these may be replaced (features.0.2 keeps" in everything
    )
    assert everything.endswith("; and 47 more); change only or ignore.")


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"to": "hardtanh"}, 'Unknown activation "hardtanh": did you mean "hardswish"?'),
        ({"only": ["features.0.3"]}, 'Unknown module in only "features.0.3": did you mean "features.0.2"?'),
        ({"ignore": ["feature"]}, 'Unknown module in ignore "feature": did you mean "features"?'),
        (
            {"only": ["features", "classifier"]},
            'Cannot use "classifier" in only: it holds no activation that relu6 stands in for; take it out of only.',
        ),
    ],
)
def test_names_that_do_not_exist_or_change_nothing(
    make: Make, example: Tensor, keys: dict[str, object], sentence: str
) -> None:
    assert refusal(make("efficientnet"), example, **keys) == sentence


def test_images_that_do_not_fit_are_an_error(make: Make, example: Tensor) -> None:
    sentence = refusal(make("efficientnet"), example[:, :1])
    assert sentence.startswith("Cannot run the network on images of shape [1 x 32 x 32] (channels, height, width): ")


def test_a_plan_for_another_network_is_refused(make: Make, example: Tensor) -> None:
    plan = plan_replacement(make("efficientnet"), example)
    with pytest.raises(EdgeLatheError) as caught:
        apply_plan(make("resnet"), plan)
    assert str(caught.value) == (
        'Cannot apply the surgery plan to this network: it has no module "features.0.2"; '
        "apply it to the network that it was made for, or make a new plan."
    )
