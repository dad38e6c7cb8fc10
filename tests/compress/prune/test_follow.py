from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from edgelathe.compress.prune.follow import follow
from edgelathe.compress.prune.trace import trace_groups
from edgelathe.errors import EdgeLatheError
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.shufflenetv2 import ShuffleNetV2

Make = Callable[[str], nn.Module]


def test_a_network_is_followed_in_one(make: Make, example: Tensor) -> None:
    (whole,) = follow(make("Inverted"), example[:1])
    assert whole.name == ""
    assert len(whole.groups) == 4


def test_what_is_beyond_is_gone_round_and_looked_into(example: Tensor) -> None:
    torch.manual_seed(0)
    model = ShuffleNetV2([1, 4, 1], [8, 8, 16, 24, 12], num_classes=4).eval()
    images = example.repeat(1, 1, 4, 4)
    found = {followed.name: followed for followed in follow(model, images[:1])}
    assert list(found) == ["", "stage3.0", "stage3.1", "stage3.2", "stage3.3"]
    assert set(found[""].entrances.values()) == {"stage3"}
    assert not any(module._forward_hooks for module in model.modules())
    reasons = {group.layer: group.reason for group in trace_groups(model, images, [])}
    assert reasons["stage3.1.branch2.0"] == reasons["conv5.0"] == ""
    assert reasons["stage3.1.branch2.5"] == "its channels leave stage3.1, and cannot be followed beyond it"
    assert reasons["stage2.0.branch2.5"] == "its channels enter stage3, and cannot be followed through it"


def test_a_network_of_which_nothing_can_be_followed() -> None:
    class Refusing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                raise RuntimeError("not in training")
            return F.conv2d(x, self.conv.weight).mean(dim=(2, 3))

    with pytest.raises(EdgeLatheError, match="Cannot follow the channels through the network: RuntimeError: not in"):
        list(follow(Refusing(), torch.ones(1, 3, 4, 4)))
