from __future__ import annotations

import pytest
import torch
from edgelathe.models.efficientnet import SqueezeExcitation
from edgelathe.models.squeeze_excite import is_squeeze_excite
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation as TorchvisionBlock


class LinearBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.widen = nn.Linear(8, 2), nn.Linear(2, 8)

    def gate(self, x: Tensor) -> Tensor:
        return self.widen(self.narrow(x.mean((2, 3))).relu()).sigmoid()[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class Residual(LinearBlock):
    def forward(self, x: Tensor) -> Tensor:
        return x + x * self.gate(x)


class ByMaximum(LinearBlock):
    """Its gate follows from something else than the mean."""

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x[:, :, :1, :1])


class PerPixel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.widen = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.widen(self.narrow(x)))


class Failing(LinearBlock):
    def forward(self, x: Tensor) -> Tensor:
        raise ZeroDivisionError


BLOCKS = [
    SqueezeExcitation(8, 2),
    SqueezeExcitation(8, 8),
    SqueezeExcitation(8, 1).double(),
    TorchvisionBlock(8, 2, activation=nn.SiLU),
    TorchvisionBlock(8, 2, scale_activation=nn.Hardsigmoid),
    LinearBlock(),
]
OTHERS = [
    Residual(),
    ByMaximum(),
    PerPixel(),
    Failing(),
    nn.Conv2d(8, 8, 1),
    nn.Sequential(nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)),
    nn.Sequential(nn.Conv2d(8, 4, 1), nn.Conv2d(4, 4, 1)),
    nn.Sequential(nn.Conv2d(8, 2, 3, padding=1), nn.Conv2d(2, 8, 3, padding=1)),
    nn.Sequential(nn.BatchNorm2d(8), nn.BatchNorm2d(8)),
    nn.Identity(),
]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: type(block).__name__)
def test_blocks_are_recognised_by_what_they_compute(block: nn.Module) -> None:
    assert is_squeeze_excite(block)
    assert block.training, "it was left as it was"


@pytest.mark.parametrize("module", OTHERS, ids=lambda module: type(module).__name__)
def test_what_only_looks_like_a_block_is_none(module: nn.Module) -> None:
    assert not is_squeeze_excite(module)
