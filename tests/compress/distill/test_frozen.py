from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from edgelathe.compress.checkpoint import state_sha256
from edgelathe.compress.distill.frozen import folded
from edgelathe.models.zoo import build
from torch import Tensor, nn


def _norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def _seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """In eval mode, with statistics and scales that are not 0 and 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = make().eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                for tensor in (module.running_mean, module.bias.data):
                    tensor.normal_()
                for tensor in (module.running_var, module.weight.data):
                    tensor.uniform_(0.5, 2.0)
    return network


def _images(count: int = 4, side: int = 8) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_one_layer_by_hand() -> None:
    convolution, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.0)
    weights = {
        "0.weight": 3.0,
        "0.bias": 1.0,
        "1.weight": 5.0,
        "1.bias": 7.0,
        "1.running_mean": 2.0,
        "1.running_var": 4.0,
    }
    network = nn.Sequential(convolution, norm).eval()
    network.load_state_dict(
        {key: torch.full_like(value, weights.get(key, 0.0)) for key, value in network.state_dict().items()}
    )
    made = folded(network, torch.ones(2, 1, 3, 3))
    assert _norms(made) == 0
    # 5 (3 x + 1 - 2) / 2 + 7 = 7.5 x + 4.5
    assert torch.allclose(made(torch.full((1, 1, 1, 1), 2.0)), torch.tensor(19.5), rtol=1e-6)


@pytest.mark.parametrize("source", ["cifar_resnet8", "mlperf_resnet8", "torchvision:mobilenet_v2"])
def test_networks_answer_as_before_without_their_norms(source: str) -> None:
    network = _seeded(lambda: build(source, num_classes=10, in_channels=3))
    images = _images(3, 32)
    before = state_sha256(network)
    made = folded(network, images[:2])
    assert _norms(network) > 0
    assert _norms(made) == 0
    assert state_sha256(network) == before
    with torch.no_grad():
        wanted = network(images)
        assert torch.allclose(made(images), wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


class Branching(nn.Module):
    """The output of the convolution goes to the norm and around it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x)
        return (self.norm(x) + x).mean(dim=(2, 3))


class Repeated(nn.Module):
    """The convolution is run twice, the norm after one of the times."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.convolution(self.convolution(x).relu())).mean(dim=(2, 3))


@pytest.mark.parametrize("make", [Branching, Repeated])
def test_norms_that_cannot_be_folded_stay(make: Callable[[], nn.Module]) -> None:
    network = _seeded(make)
    made = folded(network, _images())
    assert _norms(made) == 1
    with torch.no_grad():
        assert torch.allclose(made(_images()), network(_images()), rtol=0, atol=1e-5)


class Deciding(nn.Module):
    """What it does depends on the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x).mean(dim=(2, 3))
        return -y if y.sum() > 0 else y


class Counting(nn.Module):
    """Tracing writes down the number of one call."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.calls = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.body(x).mean(dim=(2, 3)) * self.calls


@pytest.mark.parametrize("make", [Deciding, Counting])
def test_networks_that_cannot_be_traced_stay_as_they_are(make: Callable[[], nn.Module]) -> None:
    network = _seeded(make)
    assert folded(network, _images()) is network


def test_networks_without_norms_are_not_traced() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    assert folded(network, _images()) is network


def test_a_norm_without_statistics_stays() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten()).eval()
    assert _norms(folded(copy.deepcopy(network), _images())) == 1
