"""Option A shortcuts: their arithmetic, and that inner channels around them can be removed."""

from __future__ import annotations

import pytest
import torch
from edgelathe.models.resnet import BasicBlock, OptionAShortcut


@pytest.mark.parametrize(("in_channels", "out_channels"), [(2, 4), (3, 6), (4, 4), (2, 5)])
def test_shortcut_takes_every_second_pixel_and_pads_channels(in_channels: int, out_channels: int) -> None:
    shortcut = OptionAShortcut(in_channels, out_channels, stride=2)
    x = torch.randn(2, in_channels, 6, 6, generator=torch.Generator().manual_seed(0))
    y = shortcut(x)
    first = (out_channels - in_channels) // 2
    assert y.shape == (2, out_channels, 3, 3)
    assert torch.equal(y[:, first : first + in_channels], x[:, :, ::2, ::2])
    assert y.count_nonzero() == x[:, :, ::2, ::2].count_nonzero()
    assert not list(shortcut.parameters())


def test_block_without_an_inner_channel_equals_the_block_with_it_zeroed() -> None:
    torch.manual_seed(0)
    block = BasicBlock(4, 8, 2, "A").eval()
    with torch.no_grad():
        for parameter in (block.bn1.weight, block.bn1.bias):
            parameter[0] = 0
        x = torch.randn(2, 4, 8, 8)
        zeroed = block(x)
        block.conv1.weight = torch.nn.Parameter(block.conv1.weight[1:])
        block.conv2.weight = torch.nn.Parameter(block.conv2.weight[:, 1:])
        norm = torch.nn.BatchNorm2d(7).eval()
        norm.load_state_dict({k: v[1:] if v.ndim else v for k, v in block.bn1.state_dict().items()})
        block.bn1 = norm
        torch.testing.assert_close(block(x), zeroed, rtol=0, atol=1e-6)
