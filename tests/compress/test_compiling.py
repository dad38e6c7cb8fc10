from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from edgelathe.compress import compiling
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

SEEDS = st.integers(0, 2**16)


def _norm(function: Callable[..., Tensor], x: Tensor, seed: int, **options: object) -> list[Tensor]:
    """The result, the running statistics, and the gradients of x, weight and bias."""
    generator = torch.Generator().manual_seed(seed)
    channels = x.shape[1]
    kind = torch.promote_types(x.dtype, torch.float32)
    mean, variance, weight, bias = (torch.rand(channels, generator=generator).to(kind) + 0.5 for _ in range(4))
    weight, bias = weight.requires_grad_(), bias.requires_grad_()
    x = x.clone().requires_grad_()
    result = function(x, mean, variance, weight, bias, training=True, momentum=0.3, eps=1e-5, **options)
    result.backward(torch.randn(x.shape, generator=generator).bfloat16().to(result.dtype))
    gradients = [part.grad for part in (x, weight, bias)]
    assert all(part is not None for part in gradients)
    return [result.detach(), mean, variance, *(part for part in gradients if part is not None)]


@given(seed=SEEDS, dims=st.integers(0, 2), offset=st.floats(-50, 50), spread=st.floats(0.1, 10))
def test_batch_norm_in_16_bits_is_torchs_in_float32(seed: int, dims: int, offset: float, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(32, 3, *[4] * dims, generator=generator) * spread + offset).bfloat16()
    found, wanted = _norm(compiling.batch_norm, x, seed), _norm(F.batch_norm, x.float(), seed)
    assert found[0].dtype == found[3].dtype == torch.bfloat16
    for ours, exact in zip(found, wanted, strict=True):
        # 2**-8 is the rounding of results to bf16; sums lose less.
        assert torch.allclose(ours.float(), exact, rtol=2**-8, atol=2**-8 * float(exact.abs().max()))


@given(seed=SEEDS, offset=st.floats(-50, 50), spread=st.floats(0.1, 10))
def test_batch_norm_in_float32_is_torchs_in_float64(seed: int, offset: float, spread: float) -> None:
    x = torch.randn(32, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * spread + offset
    found, wanted = _norm(compiling.batch_norm, x, seed), _norm(F.batch_norm, x.double(), seed)
    for ours, exact in zip(found, wanted, strict=True):
        assert torch.allclose(ours, exact.float(), rtol=1e-4, atol=1e-4 * float(exact.abs().max()))


def test_a_channel_of_one_value_stays_finite() -> None:
    x = torch.full((16, 3, 4, 4), 1000.0, dtype=torch.bfloat16)
    result, *_, of_x, of_weight, of_bias = _norm(compiling.batch_norm, x, seed=0)
    assert all(bool(part.isfinite().all()) for part in (result, of_x, of_weight, of_bias))


def test_batch_norm_with_fixed_statistics_moves_none() -> None:
    x, mean, variance = torch.randn(4, 3, 2, 2).bfloat16(), torch.ones(3), torch.ones(3)
    result = compiling.batch_norm(x, mean, variance, torch.ones(3), torch.zeros(3))
    assert torch.equal(result, F.batch_norm(x, torch.ones(3), torch.ones(3), torch.ones(3), torch.zeros(3)))
    assert torch.equal(mean, torch.ones(3))


def test_relu_has_the_gradient_of_torchs() -> None:
    x = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    compiling.relu(x).backward(torch.tensor([3.0, 3.0, 3.0]))
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 0.0, 3.0]


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)))
        x = F.relu(self.second(x))
        return F.relu(x.mean((2, 3)), inplace=True)


def test_what_is_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def keep(module: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        compiling.rewrite(module.graph)
        module.recompile()
        seen.extend(node.target for node in module.graph.nodes if node.op == "call_function")
        return module.forward

    monkeypatch.setattr(compiling, "_by_inductor", keep)
    network, x = _Net().train(), torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = compiling.compile_anew(network)(x)
    functions = [target for target in seen if target in (F.relu, F.batch_norm, compiling.relu, compiling.batch_norm)]
    # The first ReLU is read by a convolution, and the last one works in place: both are left.
    assert functions == [compiling.batch_norm, F.relu, compiling.relu, F.relu]
    assert torch.allclose(found, network(x), atol=1e-5)
    torch.compiler.reset()
