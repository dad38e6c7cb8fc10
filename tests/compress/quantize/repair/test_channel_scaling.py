from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.passes.prepare import prepare
from edgelathe.compress.quantize.repair.channel_scaling import channel_groups, scale_channels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..conftest import images, model_from_text, run

BRANCHES = """
branches (float[N,4,6,6] input) => (float[N,5] logits) {
  c0 = Conv (input, w0, b0)
  d = Conv <group = 8> (c0, w1)
  g = Conv <group = 2> (d, w2, b2)
  r = Relu (g)
  p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (g)
  q = AveragePool <kernel_shape = [2,2], strides = [2,2]> (r)
  joined = Concat <axis = 1> (p, q)
  m = GlobalAveragePool (joined)
  f = Flatten (m)
  h = Sigmoid (f)
  a = Gemm <transB = 1> (f, w3, b3)
  b = MatMul (h, w4)
  logits = Add (a, b)
}
"""
BRANCHES_WEIGHTS = {
    "w0": (8, 4, 1, 1), "b0": (8,), "w1": (8, 1, 3, 3), "w2": (6, 4, 1, 1), "b2": (6,), "w3": (5, 12), "b3": (5,),
    "w4": (12, 5),
}  # fmt: skip


def _branches() -> ir.Model:
    model = ir.from_proto(model_from_text(BRANCHES, BRANCHES_WEIGHTS, seed=3))
    ir.passes.common.ShapeInferencePass()(model)
    return model


@pytest.fixture
def prepared(residual: onnx.ModelProto, tmp_path) -> ir.Model:
    onnx.save(residual, tmp_path / "m.onnx")
    return prepare(tmp_path / "m.onnx")


def _factors(model: ir.Model, seed: int) -> tuple[np.ndarray, int]:
    groups = channel_groups(model)
    drawn = np.exp2(np.random.default_rng(seed).uniform(-2, 2, len(groups.free)))
    return np.where(groups.free, drawn, 1.0), int(groups.free.sum())


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000))
def test_scaling_channels_keeps_the_function(prepared: ir.Model, seed: int) -> None:
    x = images(4, (3, 8, 8), seed=1)
    factors, _ = _factors(prepared, seed)
    scaled = scale_channels(prepared, channel_groups(prepared), factors)
    np.testing.assert_allclose(run(scaled, x), run(prepared, x), rtol=0, atol=1e-5)


def test_the_channels_of_a_residual_stage_share_their_factors_and_a_clamp_at_six_has_none(prepared: ir.Model) -> None:
    groups = channel_groups(prepared)
    by_op = {node.op_type + str(i): str(node.outputs[0].name) for i, node in enumerate(prepared.graph)}
    stage = [groups.of_value[name] for key, name in by_op.items() if key.startswith(("Add", "MaxPool", "Global"))]
    assert len(stage) == 3
    assert all((found == stage[0]).all() for found in stage)
    assert groups.free[stage[0]].all()
    clipped = [groups.of_value[name] for key, name in by_op.items() if key.startswith("Clip")]
    assert len(clipped) == 1
    assert not groups.free[clipped[0]].any()
    assert not groups.free[groups.of_value["input"]].any()
    assert not groups.free[groups.of_value["logits"]].any()


def test_depthwise_grouped_and_joined_channels_are_scaled_too() -> None:
    model = _branches()
    groups = channel_groups(model)
    assert groups.free[groups.of_value["c0"]].all()
    assert (groups.of_value["joined"] == np.concatenate([groups.of_value["g"], groups.of_value["r"]])).all()
    assert not groups.free[groups.of_value["f"]].any(), "a sigmoid reads it"
    factors, free = _factors(model, 7)
    assert free == 16
    scaled = scale_channels(model, groups, factors)
    x = images(3, (4, 6, 6), seed=2)
    np.testing.assert_allclose(run(scaled, x), run(model, x), rtol=0, atol=1e-5)


def test_the_model_given_is_left_alone(prepared: ir.Model) -> None:
    before = ir.to_proto(prepared).SerializeToString(deterministic=True)
    factors, _ = _factors(prepared, 0)
    scale_channels(prepared, channel_groups(prepared), factors)
    assert ir.to_proto(prepared).SerializeToString(deterministic=True) == before


def test_channels_can_be_scaled_again(prepared: ir.Model) -> None:
    x = images(4, (3, 8, 8), seed=4)
    groups = channel_groups(prepared)
    factors, _ = _factors(prepared, 5)
    there = scale_channels(prepared, groups, factors)
    back = scale_channels(there, groups, 1 / factors)
    np.testing.assert_allclose(run(back, x), run(prepared, x), rtol=0, atol=1e-5)
