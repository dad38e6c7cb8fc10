"""Toy networks whose activations are modules, functions, or written out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from edgelathe.models import zoo
from torch import Tensor, nn
from torch.nn import functional as F


class Swish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


class Mixed(nn.Module):
    """One SiLU of PyTorch's, used twice under two names, one of a class of its own, one function."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.act = nn.SiLU(inplace=True)
        self.same = self.act
        self.own = Swish()

    def forward(self, x: Tensor) -> Tensor:
        x = self.same(self.second(self.own(self.act(self.first(x)))))
        return F.silu(x).mean((2, 3))


class Functions(nn.Module):
    """All activations are functions."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleDict({"block": WrittenOut()})
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.hardswish(self.body["block"](self.conv(x)))).mean((2, 3))


class WrittenOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * F.relu6(x + 3) / 6


MODELS: dict[str, Callable[[], nn.Module]] = {
    "Mixed": Mixed,
    "Functions": Functions,
    "resnet": lambda: zoo.build("cifar_resnet8", num_classes=3, width=4),
    "efficientnet": lambda: zoo.build("cifar_efficientnet_b0", num_classes=3, width_mult=0.25),
    "mobilenet_v3": lambda: zoo.build("torchvision:mobilenet_v3_small", num_classes=3, width_mult=0.25),
}


@pytest.fixture(scope="session")
def make() -> Callable[[str], nn.Module]:
    """A network by name, seeded, with statistics that make batch norms matter."""

    def build(name: str) -> nn.Module:
        torch.manual_seed(0)
        model = MODELS[name]()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        return model.eval()

    return build


@pytest.fixture(scope="session")
def example() -> Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
