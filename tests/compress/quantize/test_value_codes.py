"""Codes that follow from something else than a range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from edgelathe.compress.quantize.calibration.ranges import LEVELS, affine
from edgelathe.compress.quantize.quantize import quantize
from edgelathe.compress.quantize.value_codes import COARSER, hitting
from hypothesis import given
from hypothesis import strategies as st

from .conftest import decibels, images, model_from_text, run


@given(st.floats(-40.0, 0.0), st.floats(0.1, 40.0), st.floats(-6.0, -0.5))
def test_codes_hit_the_point_exactly_or_stay_what_they_were(low: float, high: float, point: float) -> None:
    scale, zero_point = hitting(low, high, point)
    if (scale, zero_point) == affine(low, high):
        return
    steps = -point / scale
    assert steps == pytest.approx(round(steps), abs=1e-4)
    assert zero_point - round(steps) >= 0
    assert scale <= COARSER * affine(low, high)[0]
    assert -zero_point * scale <= min(low, point) + scale
    assert (LEVELS - 1 - zero_point) * scale >= high - scale


def hard_swish_network(gain: float) -> onnx.ModelProto:
    text = """agraph (float[N,3,8,8] x) => (float[N,4,8,8] y)
              { a = Conv (x, w) h = HardSwish (a) y = Conv (h, v) }"""
    model = model_from_text(text, {"w": (4, 3, 1, 1), "v": (4, 4, 1, 1)}, seed=0)
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0]) * np.float32(gain)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "w"))
    return model


def test_a_wide_hard_swish_clamps_codes(save, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source, output = save(hard_swish_network(5.0)), tmp_path / "int8.onnx"
    result = quantize(source, output, images(32, (3, 8, 8), seed=1))
    assert {node.kind for node in result.audit.nodes} == {"int8"}
    assert result.audit.survivors == ()
    nodes = {node.op_type for node in onnx.load(output).graph.node}
    assert "Clip" in nodes
    assert "HardSigmoid" not in nodes
    x = images(32, (3, 8, 8), seed=2)
    assert decibels(run(source, x), run(output, x)) > 30.0


def test_a_narrow_hard_swish_keeps_its_fine_codes(save, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source, output = save(hard_swish_network(0.05)), tmp_path / "int8.onnx"
    result = quantize(source, output, images(32, (3, 8, 8), seed=1))
    (gate,) = [node for node in result.plan.nodes if node.op == "HardSigmoid"]
    assert gate.kind == "float"
    assert gate.reason.startswith("its input stays so close to 0")
    assert {node.kind for node in result.audit.nodes if node.op != "HardSigmoid"} == {"int8"}
    x = images(32, (3, 8, 8), seed=2)
    assert decibels(run(source, x), run(output, x)) > 28.0


def test_the_clamp_is_exact(save, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Between its codes and those of the product nothing else is rounded: the gate itself is x / 6 + 1/2 exactly."""
    source, output = save(hard_swish_network(5.0)), tmp_path / "int8.onnx"
    result = quantize(source, output, images(32, (3, 8, 8), seed=1))
    source_codes, gate = result.plan.codes["a"], result.plan.codes["h_gate"]
    codes = np.arange(256)
    values = (codes - source_codes.zero_point) * source_codes.scale
    clamped = np.clip(codes, gate.zero_point, gate.zero_point + round(1 / gate.scale))
    np.testing.assert_allclose(
        (clamped - gate.zero_point) * gate.scale, np.clip(values / 6 + 0.5, 0, 1), rtol=0, atol=0.5 * gate.scale + 1e-6
    )
    low = values <= -3
    assert (clamped[low] == gate.zero_point).all()
    middle = (values > -3) & (values < 3)
    np.testing.assert_allclose((clamped - gate.zero_point)[middle] * gate.scale, values[middle] / 6 + 0.5, atol=1e-5)
