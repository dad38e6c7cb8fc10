from __future__ import annotations

import onnx_ir as ir
import pytest
import torch
from edgelathe.compress.quantize.learning.torch_graph import TorchGraph
from edgelathe.compress.quantize.repair.noise_gains import noise_gains

from ..conftest import images, model_from_text

BODY = """
toy (float[N,3,4,4] input) => (float[N,5] logits) {
  c = Conv (input, w0)
  r = Relu (c)
  m = GlobalAveragePool (r)
  f = Flatten (m)
  logits = Gemm <transB = 1> (f, w1)
}
"""


def test_gains_foretell_how_much_noise_arrives() -> None:
    model = ir.from_proto(model_from_text(BODY, {"w0": (6, 3, 1, 1), "w1": (5, 6)}, seed=0))
    graph = TorchGraph(model).requires_grad_(False)
    x = torch.from_numpy(images(512, (3, 4, 4), seed=1))
    random = torch.Generator().manual_seed(2)
    gains = noise_gains(graph, ["f", "r", "input"], x, random)
    weight = graph.constant("w1")
    assert weight is not None
    exact = float(weight.square().sum())
    assert gains["f"] == pytest.approx(exact, rel=0.1)

    def noisy(name: str, value: torch.Tensor) -> torch.Tensor:
        return value + 0.01 * torch.randn(value.shape, generator=random) * (value != 0) if name == "r" else value

    clean = graph(x)
    graph.on_value = noisy
    measured = float((graph(x) - clean).square().sum() / len(x) / 0.01**2)
    assert gains["r"] == pytest.approx(measured, rel=0.15)
    assert 0 < gains["r"] < gains["f"] / 16, "a mean over 16 elements, some of them 0"
    assert gains["input"] > 0


def test_hooks_are_put_back_and_values_without_effect_have_no_gain() -> None:
    model = ir.from_proto(model_from_text(BODY, {"w0": (6, 3, 1, 1), "w1": (5, 6)}, seed=0))
    graph = TorchGraph(model).requires_grad_(False)
    x = torch.from_numpy(images(4, (3, 4, 4), seed=1))
    random = torch.Generator().manual_seed(0)
    assert noise_gains(graph, ["nowhere"], x, random) == {"nowhere": 0.0}
    assert noise_gains(graph, ["r", "nowhere"], x, random)["nowhere"] == 0.0
    assert graph.on_value is None
