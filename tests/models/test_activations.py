from __future__ import annotations

import pytest
import torch
from edgelathe.models.activations import activation_of
from torch import Tensor, nn
from torch.nn import functional as F


class Swish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


class HandMadeHardSwish(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.clip = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.clip(x + 3) / 6


class InPlaceGelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.copy_(F.gelu(x))


class NeedsTwo(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class ScaledSwish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Learnt(Swish):
    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.SiLU(), "silu"),
        (nn.SiLU(inplace=True), "silu"),
        (nn.Hardswish(inplace=True), "hardswish"),
        (nn.GELU(), "gelu"),
        (nn.Mish(), "mish"),
        (nn.Sigmoid(), "sigmoid"),
        (nn.Hardsigmoid(), "hardsigmoid"),
        (Swish(), "silu"),
        (HandMadeHardSwish(), "hardswish"),
        (InPlaceGelu(), "gelu"),
        (nn.ReLU(), None),
        (nn.ReLU6(), None),
        (nn.Identity(), None),
        (nn.Dropout(0.5), None),
        (nn.Sequential(nn.SiLU()), None),
        (nn.Linear(6, 6), None),
        (NeedsTwo(), None),
        (ScaledSwish(), None),
        (Learnt(), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_an_activation_is_known_by_its_class_or_by_what_it_computes(module: nn.Module, name: str | None) -> None:
    assert activation_of(module) == name
