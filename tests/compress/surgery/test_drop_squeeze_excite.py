from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from edgelathe.compress.surgery.drop_squeeze_excite import drop_squeeze_excite, plan_drop
from edgelathe.compress.surgery.plan import apply_plan
from edgelathe.errors import EdgeLatheError
from edgelathe.models.efficientnet import SqueezeExcitation
from edgelathe.models.squeeze_excite import is_squeeze_excite
from torch import Tensor, nn

Make = Callable[[str], nn.Module]


def blocks(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if is_squeeze_excite(module)]


@pytest.mark.parametrize(("name", "count"), [("efficientnet", 16), ("mobilenet_v3", 9)])
def test_every_block_goes_and_nothing_else(make: Make, example: Tensor, name: str, count: int) -> None:
    model = make(name)
    dropped, plan = drop_squeeze_excite(model)
    assert [edit.module for edit in plan.edits] == blocks(model)
    assert len(plan.edits) == count
    assert blocks(dropped) == []
    kept = dropped.state_dict()
    gone = {key for key in model.state_dict() if any(key.startswith(f"{edit.module}.") for edit in plan.edits)}
    assert model.state_dict().keys() - kept.keys() == gone
    assert all(torch.equal(tensor, model.state_dict()[key]) for key, tensor in kept.items())
    with torch.no_grad():
        assert dropped(example).shape == model(example).shape


def test_blocks_named_in_ignore_stay(make: Make) -> None:
    dropped, plan = drop_squeeze_excite(make("efficientnet"), ignore=["features.1", "features.2.conv.2"])
    assert [str(left) for left in plan.left] == [
        "features.1.conv.1 keeps squeeze-excite: it is named in ignore",
        "features.2.conv.2 keeps squeeze-excite: it is named in ignore",
    ]
    assert blocks(dropped) == ["features.1.conv.1", "features.2.conv.2"]


@pytest.mark.parametrize("name", ["efficientnet", "mobilenet_v3"])
def test_with_images_the_mean_gates_go_into_the_next_convolutions(make: Make, example: Tensor, name: str) -> None:
    """Each gate is one number over all images here, because the layers that make it see nothing."""
    model = make(name)
    for block in blocks(model):
        for layer in model.get_submodule(block).modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.zeros_(layer.weight)
                nn.init.uniform_(layer.bias, -1.0, 1.0)
    dropped, plan = drop_squeeze_excite(model, example)
    assert [gate.block for gate in plan.gates] == blocks(model)
    with torch.no_grad():
        wanted, found, cut = model(example), dropped(example), drop_squeeze_excite(model)[0](example)
    size = float(wanted.abs().max())
    assert float((found - wanted).abs().max()) < 1e-4 * size
    assert float((cut - wanted).abs().max()) > 1e-2 * size


def test_a_gate_is_the_least_squares_factor_over_all_images() -> None:
    torch.manual_seed(0)
    block = SqueezeExcitation(3, 2)
    model = nn.Sequential(block, nn.Conv2d(3, 2, 1))
    images = torch.randn(40, 3, 5, 5)
    images[:, 2] = 0.0
    (gate,) = plan_drop(model, images).gates
    with torch.no_grad():
        outputs = block(images)
        wanted = torch.linalg.lstsq(images[:, 0].reshape(-1, 1), outputs[:, 0].reshape(-1, 1)).solution.item()
    assert gate.reader == "1"
    assert gate.factors[0] == pytest.approx(wanted, rel=1e-5)
    assert gate.factors[2] == 1.0, "a channel that is always zero keeps its weights"


class Odd(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return self[2](self[1](x) + x)


def test_without_a_known_reader_a_block_is_dropped_without_its_gate(example: Tensor) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 3, 1)
    shared = SqueezeExcitation(3, 2)
    for model in (
        nn.Sequential(conv, SqueezeExcitation(3, 2)),
        nn.Sequential(conv, SqueezeExcitation(3, 2), nn.BatchNorm2d(3), conv),
        nn.Sequential(conv, SqueezeExcitation(3, 2), nn.Conv2d(3, 3, 1, groups=3)),
        nn.Sequential(conv, SqueezeExcitation(3, 2), conv),
        nn.Sequential(shared, nn.Conv2d(3, 3, 1), shared, nn.Conv2d(3, 3, 1)),
        Odd(conv, SqueezeExcitation(3, 2), nn.Conv2d(3, 3, 1)),
    ):
        dropped, plan = drop_squeeze_excite(model, example)
        assert plan.gates == ()
        assert plan.edits
        assert blocks(dropped) == []


@pytest.mark.parametrize(
    ("name", "ignore", "sentence"),
    [
        (
            "resnet",
            [],
            "Cannot drop squeeze-and-excitation blocks: no module of the network is one (two layers that weigh each "
            "channel by its mean over the image); leave this stage out, or make a module of code that stands in a "
            "forward.",
        ),
        (
            "efficientnet",
            ["features"],
            "Cannot drop squeeze-and-excitation blocks: all 16 of the network are named in ignore; leave this stage "
            "out.",
        ),
        ("efficientnet", ["featurs"], 'Unknown module in ignore "featurs": did you mean "features"?'),
        (
            "efficientnet",
            ["features.0"],
            'Cannot use "features.0" in ignore: it holds no squeeze-and-excitation block; take it out of ignore.',
        ),
    ],
)
def test_refusals(make: Make, name: str, ignore: list[str], sentence: str) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        drop_squeeze_excite(make(name), ignore=ignore)
    assert str(caught.value) == sentence


def test_images_that_do_not_fit_are_an_error(make: Make, example: Tensor) -> None:
    with pytest.raises(EdgeLatheError, match=r"Cannot run the network on images of shape \[1 x 32 x 32\]"):
        drop_squeeze_excite(make("efficientnet"), example[:, :1])


def test_a_plan_for_other_widths_is_refused(make: Make, example: Tensor) -> None:
    plan = plan_drop(make("efficientnet"), example)
    gate = replace(plan.gates[0], factors=plan.gates[0].factors[1:])
    with pytest.raises(EdgeLatheError, match=r"features.1.conv.2.0 is no convolution of 7 channels"):
        apply_plan(make("efficientnet"), replace(plan, gates=(gate,)))
