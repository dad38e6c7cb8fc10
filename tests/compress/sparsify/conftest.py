"""A network small enough to sparsify and train in milliseconds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn


@pytest.fixture
def conv_net() -> Callable[[], nn.Sequential]:
    """Two convolutions, a depthwise one and a classifier for three classes: the same weights at every call."""

    def make() -> nn.Sequential:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            return nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
                nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
                nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU(),
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3),
            )  # fmt: skip

    return make


@pytest.fixture
def example() -> torch.Tensor:
    return torch.zeros(1, 3, 8, 8)
