"""Toy data and networks that train in milliseconds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from edgelathe.data import Dataset
from torch import nn

from .launched import toy_data


@pytest.fixture(scope="session")
def blobs() -> Dataset:
    return toy_data()


@pytest.fixture
def small_net() -> Callable[[], nn.Module]:
    """A convolution, batch norm, dropout and a classifier: the same weights at every call."""

    def make() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            return nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1, bias=False),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Dropout(0.1),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(8, 3),
            )

    return make
