from __future__ import annotations

import pytest
import torch
from edgelathe.compress.distill.means import Means


def test_means_over_steps_since_the_last_time() -> None:
    means = Means()
    means.add(a=torch.tensor([1.0, 3.0], requires_grad=True), b=torch.tensor(5.0))
    means.add(a=torch.tensor(4.0))
    assert means.take() == pytest.approx({"a": 3.0, "b": 5.0})
    assert means.take() == {}
