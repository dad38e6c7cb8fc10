"""Toy data and networks that train in milliseconds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from edgelathe.data import Dataset, Preprocess, Split
from torch import nn


@pytest.fixture(scope="session")
def blobs() -> Dataset:
    """Three classes of 8x8 RGB images: which colour is bright tells the class."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        y = np.arange(count, dtype=np.int64) % 3
        x = rng.integers(0, 120, (count, 8, 8, 3))
        x[np.arange(count), :, :, y] += 60
        return Split(x.astype(np.uint8), y)

    preprocess = Preprocess((0.3, 0.3, 0.3), (0.2, 0.2, 0.2))
    return Dataset("blobs", split(96), split(45), ("red", "green", "blue"), preprocess)


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
