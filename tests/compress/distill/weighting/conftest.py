"""Batches of one training step with logits of a teacher, made up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from edgelathe.compress.mix import Mixing
from edgelathe.compress.objective import Batch
from edgelathe.data import Preprocess
from torch import Tensor


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    """A batch of black pixels with these labels; what the student answers to it is zero for every class."""

    def make(labels: Tensor, classes: int = 2, mixing: Mixing | None = None) -> Batch:
        count = len(labels)
        return Batch(
            logits=torch.zeros(count, classes, requires_grad=True),
            labels=labels,
            images=torch.zeros(count, 2, 2, 1, dtype=torch.uint8),
            inputs=torch.zeros(count, 1, 2, 2),
            preprocess=Preprocess((0.0,), (1.0,)),
            autocast=nullcontext,
            numbers=torch.arange(count),
            mixing=mixing,
        )

    return make
