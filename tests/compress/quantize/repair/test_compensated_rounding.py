from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.apply import apply_plan
from edgelathe.compress.quantize.calibration.calibrate import calibrate
from edgelathe.compress.quantize.passes.prepare import prepare
from edgelathe.compress.quantize.placing.placement import place
from edgelathe.compress.quantize.placing.targets import PAIR_MAX
from edgelathe.compress.quantize.plan import QuantPlan, plan_from
from edgelathe.compress.quantize.repair.compensated_rounding import _moments, _round_by_input, compensate_rounding
from edgelathe.compress.quantize.weights import output_axis, quantize_weight
from edgelathe.models.onnx_graph import add_initializer, constant
from hypothesis import given, settings
from hypothesis import strategies as st

from ..conftest import decibels, images, model_from_text, run

NETWORK = """
network (float[N,3,9,9] input) => (float[N,6] logits) {
  c0 = Conv <pads = [1,0,1,2], strides = [2,1]> (input, w0, b0)
  r0 = Relu (c0)
  c1 = Conv <group = 8, dilations = [2,1]> (r0, w1)
  r1 = Relu (c1)
  c2 = Conv <group = 2> (r1, w2, b2)
  r2 = Relu (c2)
  p = GlobalAveragePool (r2)
  f = Flatten (p)
  g = Gemm (f, w3)
  r3 = Relu (g)
  h = Gemm <transB = 1> (r3, w4)
  logits = MatMul (h, w5)
}
"""
WEIGHTS = {
    "w0": (8, 3, 3, 3), "b0": (8,), "w1": (8, 1, 2, 3), "w2": (6, 4, 1, 1), "b2": (6,), "w3": (6, 12), "w4": (12, 12),
    "w5": (12, 6),
}  # fmt: skip


@pytest.fixture
def prepared(save: Callable[[onnx.ModelProto], Path]) -> ir.Model:
    return prepare(save(model_from_text(NETWORK, WEIGHTS, seed=0)))


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return images(48, (3, 9, 9), seed=1) + np.float32(0.5)


def planned(
    prepared: ir.Model, x: np.ndarray, *, target: str = "x86-vnni", per_channel: bool = True, bits: int = 4
) -> QuantPlan:
    placement = place(prepared, target=target)
    statistics = calibrate(prepared, placement.values, x)
    coarse = {str(node.name): bits for node in prepared.graph if node.op_type in ("Conv", "Gemm", "MatMul")}
    return plan_from(
        prepared, placement, statistics, target=target, method="minmax", per_channel=per_channel, weight_bits=coarse
    )


def weights(model: ir.Model) -> dict[str, np.ndarray]:
    found = {str(node.name): constant(node.inputs[1]) for node in model.graph if len(node.inputs) > 1}
    return {name: weight for name, weight in found.items() if weight is not None}


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_outputs_of_a_coarse_grid_come_nearer(per_channel: bool, prepared: ir.Model, x: np.ndarray) -> None:
    plan, unseen = planned(prepared, x, per_channel=per_channel), images(48, (3, 9, 9), seed=2) + np.float32(0.5)
    rounded, wanted = compensate_rounding(prepared, plan, x), run(prepared, unseen)
    noise = decibels(wanted, run(apply_plan(prepared, plan), unseen))
    assert decibels(wanted, run(apply_plan(rounded, plan), unseen)) > noise + 2.0


@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_lie_on_the_grid_and_within_a_step_or_so(per_channel: bool, prepared: ir.Model, x: np.ndarray) -> None:
    plan = planned(prepared, x, per_channel=per_channel)
    before, after = weights(prepared), weights(compensate_rounding(prepared, plan, x))
    assert set(after) == set(before) == set(plan.weights)
    for name, codes in plan.weights.items():
        shape = [-1 if axis == codes.axis else 1 for axis in range(before[name].ndim)]
        scales = codes.array.reshape(shape)
        written = quantize_weight(after[name], codes.array, codes.axis, limit=codes.limit)
        np.testing.assert_array_equal(written * scales, after[name])
        assert np.abs(written).max() <= codes.limit
        assert not np.array_equal(after[name], before[name])


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 300), correlation=st.floats(0.3, 0.95))
def test_what_the_error_does_to_the_outputs_is_less(seed: int, count: int, correlation: float) -> None:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(2, count, 4 * count)) * np.sqrt(1 - correlation) + rng.normal(size=(2, 1, 4 * count))
    moments = inputs @ inputs.transpose(0, 2, 1)
    wanted = rng.uniform(-5, 5, (2, 16, count))
    limit = np.full(wanted.shape, 7.0)

    def harm(codes: np.ndarray) -> float:
        error = codes - wanted
        return float(np.einsum("poi,pij,poj->", error, moments, error))

    assert harm(_round_by_input(wanted, moments, limit)) < 0.9 * harm(np.round(wanted))


def test_without_correlation_codes_are_the_nearest() -> None:
    wanted = np.random.default_rng(0).uniform(-9, 9, (3, 4, 10))
    codes = _round_by_input(wanted, np.tile(np.diag(np.arange(1.0, 11.0)), (3, 1, 1)), np.full(wanted.shape, 7.0))
    np.testing.assert_array_equal(codes, np.clip(np.round(wanted), -7, 7))


def test_moments_are_those_of_what_a_convolution_adds_up(prepared: ir.Model, x: np.ndarray) -> None:
    """An output is the product of weights and inputs, so its mean square is w H w^T."""
    nodes = [node for node in prepared.graph if node.op_type in ("Conv", "Gemm", "MatMul")]
    found = _moments(prepared, nodes, x, None)
    for node in nodes:
        model = prepared.clone()
        (twin,) = [other for other in model.graph if other.name == node.name]
        if len(twin.inputs) > 2:
            twin.resize_inputs(2)
        model.graph.outputs.clear()
        model.graph.outputs.append(twin.outputs[0])
        outputs = run(model, x)
        weight, moments = constant(node.inputs[1]), found[str(node.name)]
        assert weight is not None
        rows = np.moveaxis(weight, output_axis(node), 0).reshape(len(moments), -1, moments.shape[1])
        squares = np.einsum("poi,pij,poj->po", rows, moments, rows).ravel()
        others = tuple(axis for axis in range(outputs.ndim) if axis != 1)
        np.testing.assert_allclose(squares, np.square(outputs).sum(others), rtol=1e-4)


@pytest.mark.parametrize("most", [1, 9, 30])
def test_layers_cut_into_blocks_still_gain(
    most: int, prepared: ir.Model, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgelathe.compress.quantize.repair.compensated_rounding.MOST_INPUTS", most)
    plan, wanted = planned(prepared, x), run(prepared, x)
    rounded = compensate_rounding(prepared, plan, x)
    gain = decibels(wanted, run(apply_plan(rounded, plan), x)) - decibels(wanted, run(apply_plan(prepared, plan), x))
    assert gain > (0.5 if most > 1 else -0.5)


def test_sums_of_pairs_stay_within_what_saturating_processors_add(prepared: ir.Model, x: np.ndarray) -> None:
    plan = planned(prepared, x, target="x86-avx2", bits=8)
    for name, weight in weights(compensate_rounding(prepared, plan, x)).items():
        codes = plan.weights[name]
        assert codes.axis is not None
        written = quantize_weight(weight, codes.array, codes.axis, limit=codes.limit).astype(np.int64)
        rows = np.sort(np.moveaxis(written, codes.axis, 0).reshape(written.shape[codes.axis], -1), axis=1)
        if rows.shape[1] > 1:
            assert rows[:, -2:].sum(1).max() <= PAIR_MAX
            assert rows[:, :2].sum(1).min() >= -PAIR_MAX


def test_batches_do_not_change_a_byte_and_images_are_counted(
    prepared: ir.Model, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgelathe.compress.quantize.repair.compensated_rounding.CHUNK_BYTES", 40_000)
    plan, calls = planned(prepared, x), list[tuple[int, int]]()
    before = weights(prepared)
    whole = weights(compensate_rounding(prepared, plan, x, on_progress=lambda *call: calls.append(call)))
    parts = weights(compensate_rounding(prepared, plan, [x[:5], x[5:]]))
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    assert len(calls) > 1 and calls[-1] == (48, 48)
    assert all(np.array_equal(before[name], weight) for name, weight in weights(prepared).items())


def test_what_was_pruned_stays_zero(prepared: ir.Model, x: np.ndarray) -> None:
    (node,) = (node for node in prepared.graph if node.name == "c1" or str(node.outputs[0].name) == "c1")
    pruned = weights(prepared)[str(node.name)].copy()
    pruned[:, :, 0] = 0
    node.replace_input_with(1, add_initializer(prepared.graph, "pruned", pruned))
    found = weights(compensate_rounding(prepared, planned(prepared, x), x))[str(node.name)]
    assert not found[:, :, 0].any()
    assert not np.array_equal(found, pruned)


def test_what_stays_float_keeps_its_weights(prepared: ir.Model, x: np.ndarray) -> None:
    placement = place(prepared, keep_float=("c0",))
    statistics = calibrate(prepared, placement.values, x)
    plan = plan_from(prepared, placement, statistics, target="x86-vnni", method="minmax", per_channel=True)
    before, after = weights(prepared), weights(compensate_rounding(prepared, plan, x))
    unplanned = set(before) - set(plan.weights)
    assert len(unplanned) == 1
    assert all(np.array_equal(before[name], after[name]) for name in unplanned)
