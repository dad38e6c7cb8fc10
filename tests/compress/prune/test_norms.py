from __future__ import annotations

import pytest
import torch
from edgelathe.compress.prune.norms import over_kept_channels
from torch import Tensor, nn
from torch.nn import functional as F

from .conftest import MapNorm

KEPT, REMOVED = torch.tensor([0, 3, 5, 7]), torch.tensor([1, 2, 4, 6])


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", [nn.LayerNorm, MapNorm])
def test_layer_norm_takes_its_statistics_from_the_kept_channels(kind: type[nn.LayerNorm]) -> None:
    norm = kind(8)
    with torch.no_grad():
        norm.weight.copy_(_noise(8))
        norm.bias.copy_(_noise(8).flip(0))
    axis = 1 if kind is MapNorm else -1
    x = _noise(2, 8, 3, 4) if kind is MapNorm else _noise(2, 3, 8)
    found = over_kept_channels(norm, REMOVED)(x)
    assert found.shape == x.shape
    few = x.index_select(axis, KEPT).movedim(axis, -1)
    wanted = F.layer_norm(few, (4,), norm.weight[KEPT], norm.bias[KEPT], norm.eps).movedim(-1, axis)
    assert torch.allclose(found.index_select(axis, KEPT), wanted, rtol=0, atol=1e-5)
    assert not torch.allclose(norm(x).index_select(axis, KEPT), wanted, rtol=0, atol=1e-2)


def test_group_norm_takes_its_statistics_from_the_kept_channels_of_each_group() -> None:
    norm = nn.GroupNorm(2, 8)
    x = 2 + 3 * _noise(2, 8, 3, 4)
    found = over_kept_channels(norm, REMOVED)(x)[:, KEPT]
    wanted = F.group_norm(x[:, KEPT], 2, norm.weight[KEPT], norm.bias[KEPT], norm.eps)
    assert torch.allclose(found, wanted, rtol=0, atol=1e-5)


def test_removed_channels_have_no_say_and_norms_without_scales_work() -> None:
    norm = over_kept_channels(nn.LayerNorm(8, elementwise_affine=False), REMOVED)
    x = _noise(2, 8)
    assert torch.equal(norm(x)[:, KEPT], norm(x.index_fill(1, REMOVED, 1e3))[:, KEPT])
