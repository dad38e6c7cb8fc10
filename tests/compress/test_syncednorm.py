from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from edgelathe.compress.parallel import ALONE
from edgelathe.compress.syncednorm import synced_norms
from torch import Tensor, nn


@dataclass(frozen=True)
class Together:
    """Stands for a team of which the other processes hold the same inputs: what is summed over them is known."""

    size: int = 2

    def gathered(self, tensor: Tensor) -> Tensor:
        return torch.stack([tensor] * self.size)

    def sum(self, tensors: list[Tensor]) -> None:
        for tensor in tensors:
            tensor.mul_(self.size)


@pytest.mark.parametrize("make", [lambda: nn.BatchNorm2d(3), lambda: nn.BatchNorm2d(3, affine=False, momentum=None)])
def test_normalises_as_one_process_with_the_whole_batch(make: Callable[[], nn.Module]) -> None:
    generator = torch.Generator().manual_seed(0)
    own = 3 + 2 * torch.randn(4, 3, 5, 5, generator=generator)
    pull = torch.randn(4, 3, 5, 5, generator=generator)

    def run(norm: nn.Module, x: Tensor, weights: Tensor, team: Any) -> tuple[Tensor, Tensor, nn.Module]:
        x = x.clone().requires_grad_()
        with synced_norms([norm, None], team):
            y = norm(x)
        (y * weights).sum().backward()
        assert x.grad is not None
        return y.detach(), x.grad, norm

    whole, whole_gradient, plain = run(make(), torch.cat([own, own]), torch.cat([pull, pull]), ALONE)
    part, gradient, synced = run(make(), own, pull, Together())
    torch.testing.assert_close(part, whole[:4], rtol=0, atol=1e-5)
    torch.testing.assert_close(gradient, whole_gradient[:4], rtol=0, atol=1e-5)
    for name, wanted in plain.state_dict().items():
        torch.testing.assert_close(synced.state_dict()[name], wanted, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(synced.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(2 * mine.grad, theirs.grad, rtol=1e-4, atol=1e-4)  # type: ignore[operator]


def test_is_taken_off_again_and_leaves_eval_mode_alone() -> None:
    norm = nn.BatchNorm2d(2)
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    wanted = norm.eval()(x)
    with synced_norms([norm], Together()):  # type: ignore[arg-type]
        assert "forward" in vars(norm)
        assert torch.equal(norm(x), wanted)
    assert "forward" not in vars(norm)
    with pytest.raises(KeyError), synced_norms([norm], Together()):  # type: ignore[arg-type]
        raise KeyError
    assert "forward" not in vars(norm)
