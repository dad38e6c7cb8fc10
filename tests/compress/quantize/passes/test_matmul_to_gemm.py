from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.passes.infer_shapes import infer_shapes
from edgelathe.compress.quantize.passes.matmul_to_gemm import matmul_to_gemm
from edgelathe.compress.quantize.quantize import quantize

from ..conftest import decibels, model_from_text, run

WEIGHTS = {"w": (6, 4), "b": (4,)}
FIRES = {
    "tokens": ("[N,5,6]", "[N,5,4]", "{ m = MatMul (x, w) y = Add (m, b) }"),
    "a fixed batch": ("[2,5,6]", "[2,5,4]", "{ m = MatMul (x, w) y = Add (b, m) }"),
    "windows": ("[N,3,5,6]", "[N,3,5,4]", "{ m = MatMul (x, w) y = Add (m, b) }"),
    "rows": ("[N,6]", "[N,4]", "{ m = MatMul (x, w) y = Add (m, b) }"),
}
STAYS = {
    "two open dimensions": ("[N,T,6]", "[N,T,4]", "{ m = MatMul (x, w) y = Add (m, b) }", WEIGHTS),
    "a residual": ("[N,4,4]", "[N,4,4]", "{ m = MatMul (x, w) y = Add (m, x) }", {"w": (4, 4)}),
    "a bias per token": ("[N,5,6]", "[N,5,4]", "{ m = MatMul (x, w) y = Add (m, b) }", {"w": (6, 4), "b": (5, 4)}),
    "one number": ("[N,5,6]", "[N,5,4]", "{ m = MatMul (x, w) y = Add (m, b) }", {"w": (6, 4), "b": (1,)}),
    "another reader": ("[N,5,6]", "[N,5,4]", "{ m = MatMul (x, w) a = Add (m, b) y = Mul (a, m) }", WEIGHTS),
}


def graph(read: str, written: str, body: str, weights: dict[str, tuple[int, ...]]) -> onnx.ModelProto:
    return model_from_text(f"agraph (float{read} x) => (float{written} y) {body}", weights, seed=0)


def tokens(model: onnx.ModelProto, seed: int) -> np.ndarray:
    shape = [dim.dim_value or 2 for dim in model.graph.input[0].type.tensor_type.shape.dim]
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("read", "written", "body"), FIRES.values(), ids=FIRES.keys())
def test_product_becomes_gemm(read: str, written: str, body: str) -> None:
    before = graph(read, written, body, WEIGHTS)
    model = ir.from_proto(before)
    infer_shapes(model)
    assert matmul_to_gemm(model) == 1
    assert [node.op_type for node in model.graph] == ["Reshape", "Gemm", "Reshape"]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    np.testing.assert_allclose(run(model, tokens(before, 1)), run(before, tokens(before, 1)), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("read", "written", "body", "weights"), STAYS.values(), ids=STAYS.keys())
def test_product_stays(read: str, written: str, body: str, weights: dict[str, tuple[int, ...]]) -> None:
    model = ir.from_proto(graph(read, written, body, weights))
    infer_shapes(model)
    assert matmul_to_gemm(model) == 0


@pytest.mark.parametrize("batch", ["N", "1"])
def test_a_linear_layer_runs_in_int8_with_open_and_fixed_batch(batch: str, save, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    text = f"""agraph (float[{batch},5,6] x) => (float[{batch},5,4] y)
               {{ m = MatMul (x, w) a = Add (m, b) t = Tanh (a) n = MatMul (t, v) o = Add (n, b) y = Sigmoid (o) }}"""
    source = save(model_from_text(text, {**WEIGHTS, "v": (4, 4)}, seed=0))
    x = np.random.default_rng(1).normal(size=(16, 5, 6)).astype(np.float32)
    result = quantize(source, tmp_path / "int8.onnx", x)
    assert [node.kind for node in result.audit.nodes if node.op == "Gemm"] == ["int8", "int8"]
    assert result.audit.broken_promises == ()
    assert decibels(run(source, x[:1]), run(tmp_path / "int8.onnx", x[:1])) > 30.0
