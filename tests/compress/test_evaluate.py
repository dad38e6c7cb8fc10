from __future__ import annotations

import numpy as np
import torch
from edgelathe.compress.evaluate import evaluate
from edgelathe.data import Preprocess, Split
from torch import Tensor, nn


class Brightest(nn.Module):
    """Answers with the channel of the largest mean."""

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        return x.mean(dim=(2, 3))


def test_counts_every_image_once_whatever_the_batch() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (23, 4, 4, 3), dtype=np.uint8)
    y = rng.integers(0, 3, 23)
    wanted = int((x.mean(axis=(1, 2)).argmax(axis=1) == y).sum())
    model = Brightest().train()
    preprocess = Preprocess((0.5,) * 3, (0.25,) * 3)
    assert [evaluate(model, Split(x, y), preprocess, batch=batch) for batch in (1, 5, 23, 250)] == [wanted] * 4
    assert model.training
