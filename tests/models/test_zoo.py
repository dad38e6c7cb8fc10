"""Every network by name: shapes, published sizes, and what cannot be built."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from edgelathe.errors import EdgeLatheError
from edgelathe.models import zoo


def _parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _refusal(source: str, **arguments: object) -> str:
    with pytest.raises(EdgeLatheError) as refusal:
        zoo.build(source, **{"num_classes": 10, **arguments})
    return str(refusal.value)


TINY: dict[str, dict[str, object]] = {
    "cifar_resnet8": {"width": 4},
    "cifar_resnet20": {"width": 4, "shortcut": "B"},
    "mlperf_resnet8": {"width": 4},
    "cifar_densenet": {"growth": 4, "blocks": [2, 2, 2]},
    "cifar_mobilenet_v2": {"width_mult": 0.1},
    "cifar_efficientnet_b0": {"width_mult": 0.1},
    "torchvision:shufflenet_v2_x0_5": {},
}


@pytest.mark.parametrize("source", TINY)
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 16)])
def test_logits_have_one_column_per_class(source: str, channels: int, size: int) -> None:
    model = zoo.build(source, num_classes=7, in_channels=channels, **TINY[source]).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize(
    ("source", "parameters"),
    [
        ("cifar_resnet20", 269_722),
        ("cifar_resnet32", 464_154),
        ("cifar_resnet44", 658_586),
        ("cifar_resnet56", 853_018),
        ("cifar_resnet110", 1_727_962),
        ("mlperf_resnet8", 78_186),
        ("cifar_densenet", 769_210),
        ("cifar_mobilenet_v2", 2_236_682),
        ("cifar_efficientnet_b0", 4_020_358),
    ],
)
def test_published_sizes(source: str, parameters: int) -> None:
    with torch.device("meta"):
        assert _parameters(zoo.build(source, num_classes=10)) == parameters


@pytest.mark.parametrize("source", ["cifar_mobilenet_v2", "cifar_efficientnet_b0"])
def test_mobile_families_are_torchvisions_but_for_strides(source: str) -> None:
    with torch.device("meta"):
        ours = zoo.build(source, num_classes=10).eval()
        theirs = zoo.build(f"torchvision:{source.removeprefix('cifar_')}", num_classes=10).eval()
        assert _parameters(ours) == _parameters(theirs)
        assert ours.features(torch.zeros(1, 3, 32, 32)).shape[2:] == (4, 4)
        assert theirs.features(torch.zeros(1, 3, 32, 32)).shape[2:] == (1, 1)


def test_drop_path_skips_branches_in_training_only() -> None:
    torch.manual_seed(0)
    model = zoo.build("cifar_efficientnet_b0", num_classes=3, width_mult=0.1, dropout=0.0, drop_path=0.5)
    rates = [module.drop_path for module in model.modules() if hasattr(module, "drop_path")]
    assert rates[0] == 0 and rates == sorted(rates) and rates[-1] == pytest.approx(0.5 * 15 / 16, abs=1e-9)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
    x = torch.randn(4, 3, 32, 32)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_torchvision_networks_give_one_tensor_in_training(name: str) -> None:
    with torch.device("meta"):
        model = zoo.build(f"torchvision:{name}", num_classes=5, init_weights=False)
        assert model(torch.zeros(2, 3, 96, 96)).shape == (2, 5)


def test_user_factory_gets_what_it_asks_for(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def plain(): return nn.Identity()\n"
        "def full(num_classes, in_channels, width=2): return nn.Linear(in_channels * width, num_classes)\n"
        "def wrong(num_classes): return num_classes\n"
    )
    source = f"{tmp_path}/mine.py"
    assert isinstance(zoo.build(f"{source}:plain", num_classes=10), torch.nn.Identity)
    assert zoo.build(f"{source}:full", num_classes=10, in_channels=1, width=5).weight.shape == (10, 5)
    assert _refusal(f"{source}:wrong") == (
        f"Cannot use {source}:wrong: it must return a torch.nn.Module and returned int."
    )
    assert _refusal(f"{source}:full", widht=3) == (f'Unknown argument of {source}:full "widht": did you mean "width"?')


def test_unknown_names_and_arguments_name_the_nearest() -> None:
    assert _refusal("cifar_resnet23") == 'Unknown network "cifar_resnet23": did you mean "cifar_resnet32"?'
    assert _refusal("torchvision:mobilenet_v9").startswith('Unknown torchvision network "mobilenet_v9": did you')
    assert _refusal("cifar_resnet20", shortcuts="A") == (
        'Unknown argument of cifar_resnet20 "shortcuts": did you mean "shortcut"?'
    )
    assert _refusal("cifar_resnet20", shortcut="C") == 'Unknown shortcut "C": valid are: A, B.'
    assert _refusal("cifar_densenet", blocks=3).startswith("Cannot build cifar_densenet with these arguments: ")
    assert _refusal("torchvision:resnet18", widht=3).startswith("Cannot build torchvision:resnet18 with these ")
