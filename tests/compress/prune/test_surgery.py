from __future__ import annotations

import pytest
import torch
from edgelathe.compress.prune.surgery import blocks, filters, narrow, refusal, sides, width
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from .conftest import MapNorm, NextBlock


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_without_some_inputs_and_outputs(kind: type[nn.Conv2d], groups: int) -> None:
    layer = kind(6, 8, 3, groups=groups)
    x = _noise(2, 6, 5, 5)
    inputs, outputs = torch.tensor([0, 2, 4, 5]), torch.tensor([1, 2, 3, 4, 5, 7])
    silenced = torch.zeros_like(x)
    silenced[:, inputs] = x[:, inputs]
    with torch.no_grad():
        wanted = layer(silenced)[:, outputs]
        narrow(layer, "in", inputs)
        narrow(layer, "out", outputs)
        assert torch.allclose(layer(x[:, inputs]), wanted, rtol=0, atol=1e-5)
    assert (layer.in_channels, layer.out_channels, layer.groups) == (4, 6, groups)
    assert (width(layer, "in"), width(layer, "out"), blocks(layer)) == (4, 6, groups)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("groups", [1, 2])
def test_filters_are_what_makes_each_output(kind: type[nn.Conv2d], groups: int) -> None:
    layer = kind(6, 8, 3, groups=groups, bias=False)
    assert filters(layer).shape == (8, 6 // groups * 9)
    with torch.no_grad():
        x = _noise(1, 6, 5, 5)
        before = layer(x)
        rows = filters(layer).clone()
        layer.weight.zero_()
        assert float(layer(x).abs().max()) == 0
        layer.weight.copy_(_without(kind, rows, groups, silent=5))
        after = layer(x)
    assert float(after[:, 5].abs().max()) == 0
    others = [channel for channel in range(8) if channel != 5]
    assert torch.equal(after[:, others], before[:, others])


def _without(kind: type[nn.Conv2d], rows: Tensor, groups: int, *, silent: int) -> Tensor:
    """The weight back from its filters, with those of one output zero."""
    rows = rows.clone()
    rows[silent] = 0
    weight = rows.reshape(8, 6 // groups, 3, 3)
    if kind is nn.Conv2d:
        return weight
    return torch.cat([part.transpose(0, 1) for part in weight.chunk(groups)])


@pytest.mark.parametrize("norm", [nn.LayerNorm(6), MapNorm(6), nn.GroupNorm(2, 6), nn.GroupNorm(2, 6, affine=False)])
def test_norms(norm: nn.Module) -> None:
    assert sides(norm) == ("channels",)
    assert width(norm, "channels") == 6
    assert blocks(norm) == (2 if isinstance(norm, nn.GroupNorm) else 1)
    scale = None if norm.weight is None else norm.weight.detach().clone()
    narrow(norm, "channels", torch.tensor([0, 2, 3, 5]))
    assert width(norm, "channels") == 4
    assert scale is None or torch.equal(norm.weight, scale[[0, 2, 3, 5]])  # type: ignore[arg-type]


def test_a_bare_parameter() -> None:
    block = NextBlock(6, 1.0)
    block.layer_scale.requires_grad = False
    assert refusal(block, "block", "layer_scale") == ""
    assert width(block, "channels", "layer_scale") == 6
    wanted = block.layer_scale[[1, 4]]
    narrow(block, "channels", torch.tensor([1, 4]), "layer_scale")
    assert torch.equal(block.layer_scale, wanted)
    assert not block.layer_scale.requires_grad


def test_what_cannot_be_cut_says_why() -> None:
    two_axes = nn.LayerNorm([4, 5])
    assert refusal(two_axes, "norm") == "norm normalises over 2 axes at once"
    assert refusal(nn.Bilinear(2, 2, 2), "join") == "join (Bilinear) is of a kind whose channels are not cut"
    assert refusal(nn.Linear(2, 2), "fc", "weight") == "fc (Linear) has no parameter weight whose channels can be cut"
    block = NextBlock(6, 1.0)
    assert refusal(block, "block", "scale") == "block (NextBlock) has no parameter scale whose channels can be cut"
    block.layer_scale = nn.Parameter(torch.ones(1))
    assert refusal(block, "block", "layer_scale") == "the parameter layer_scale of block is a single number"
    computed = parametrizations.weight_norm(nn.Linear(2, 2))
    assert refusal(computed, "fc") == "the weights of fc are computed from others (parametrized)"
