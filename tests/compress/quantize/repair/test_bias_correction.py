from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.apply import apply_plan
from edgelathe.compress.quantize.calibration.calibrate import calibrate
from edgelathe.compress.quantize.passes.prepare import prepare
from edgelathe.compress.quantize.placing.placement import place
from edgelathe.compress.quantize.plan import QuantPlan, WeightCodes, plan_from
from edgelathe.compress.quantize.repair.bias_correction import Method, _sums_to_put_right, correct_bias
from edgelathe.compress.quantize.value_codes import Codes
from edgelathe.errors import EdgeLatheError
from edgelathe.models.onnx_graph import add_initializer, constant

from ..conftest import decibels, images, model_from_text, run

NETWORK = """
network (float[N,3,8,8] input) => (float[N,6] logits) {
  c0 = Conv <pads = [1,1,1,1]> (input, w0, b0)
  r0 = Relu (c0)
  c1 = Conv <group = 8> (r0, w1)
  r1 = Relu (c1)
  c2 = Conv <group = 2> (r1, w2, b2)
  r2 = Relu (c2)
  p = GlobalAveragePool (r2)
  f = Flatten (p)
  logits = Gemm (f, w3)
}
"""
WEIGHTS = {"w0": (8, 3, 3, 3), "b0": (8,), "w1": (8, 1, 3, 3), "w2": (6, 4, 1, 1), "b2": (6,), "w3": (6, 6)}
METHODS: tuple[Method, ...] = ("analytic", "empirical")


@pytest.fixture
def prepared(save: Callable[[onnx.ModelProto], object]) -> ir.Model:
    return prepare(save(model_from_text(NETWORK, WEIGHTS, seed=0)))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return images(64, (3, 8, 8), seed=1) + np.float32(0.5)


def coarse_plan(prepared: ir.Model, x: np.ndarray, bits: int = 4, keep_float: tuple[str, ...] = ()) -> QuantPlan:
    placement = place(prepared, keep_float=keep_float)
    statistics = calibrate(prepared, placement.values, x)
    kept = {node.name for node in placement.nodes if node.kind == "float"}
    coarse = {
        str(node.name): bits for node in prepared.graph if node.op_type in ("Conv", "Gemm") and node.name not in kept
    }
    return plan_from(
        prepared, placement, statistics, target="x86-vnni", method="minmax", per_channel=True, weight_bits=coarse
    )


def constants(model: ir.Model) -> dict[str, list[bytes]]:
    """By node, the bytes of its weights and bias."""
    return {
        str(node.name): [array.tobytes() for value in node.inputs[1:] if (array := constant(value)) is not None]
        for node in model.graph
    }


def named(model: ir.Model, result: str) -> str:
    return next(str(node.name) for node in model.graph if node.outputs[0].name == result)


@pytest.mark.parametrize(("method", "share"), [("analytic", 0.5), ("empirical", 0.05)])
def test_the_mean_error_of_the_outputs_drops(method: Method, share: float, prepared: ir.Model, x: np.ndarray) -> None:
    plan, wanted = coarse_plan(prepared, x), run(prepared, x)
    before = run(apply_plan(prepared, plan), x)
    after = run(apply_plan(correct_bias(prepared, plan, x, method=method), plan), x)
    assert np.abs((after - wanted).mean(0)).sum() < share * np.abs((before - wanted).mean(0)).sum()
    assert decibels(wanted, after) > decibels(wanted, before) + 3.0


@pytest.mark.parametrize("method", METHODS)
def test_other_images_gain_as_well(method: Method, prepared: ir.Model, x: np.ndarray) -> None:
    plan, unseen = coarse_plan(prepared, x), images(64, (3, 8, 8), seed=2) + np.float32(0.5)
    wanted = run(prepared, unseen)
    corrected = apply_plan(correct_bias(prepared, plan, x, method=method), plan)
    assert decibels(wanted, run(corrected, unseen)) > decibels(wanted, run(apply_plan(prepared, plan), unseen)) + 2.0


@pytest.mark.parametrize("method", METHODS)
def test_nodes_without_a_bias_get_one_and_weights_stay(method: Method, prepared: ir.Model, x: np.ndarray) -> None:
    before = constants(prepared)
    after = constants(correct_bias(prepared, coarse_plan(prepared, x), x, method=method))
    for result in ("c0", "c1", "c2", "logits"):
        name = named(prepared, result)
        assert len(after[name]) == 2
        assert after[name][0] == before[name][0]
        assert after[name][1:] != before[name][1:]
    assert constants(prepared) == before, "the graph handed over was changed"


@pytest.mark.parametrize("method", METHODS)
def test_what_stays_float_keeps_its_bytes(method: Method, prepared: ir.Model, x: np.ndarray) -> None:
    plan = coarse_plan(prepared, x, keep_float=("c0",))
    name = named(prepared, "c0")
    corrected = correct_bias(prepared, plan, x, method=method)
    assert constants(corrected)[name] == constants(prepared)[name]
    assert constants(corrected) != constants(prepared)


@pytest.mark.parametrize("method", METHODS)
def test_without_quantization_error_nothing_changes(method: Method, save: Callable[[onnx.ModelProto], object]) -> None:
    """Everything is a whole number up to 255, and every step is 1."""
    model = model_from_text(NETWORK.replace("GlobalAveragePool", "GlobalMaxPool"), WEIGHTS, seed=0)
    rng = np.random.default_rng(3)
    for tensor in model.graph.initializer:
        whole = (rng.random(tuple(tensor.dims)) < 0.2).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(whole, tensor.name))
    prepared = prepare(save(model))  # type: ignore[arg-type]
    dots = rng.integers(0, 2, (8, 3, 8, 8)).astype(np.float32)
    plan = coarse_plan(prepared, dots, bits=8)
    assert {"input", "r0", "r1"} <= set(plan.codes)
    exact = dataclasses.replace(
        plan,
        codes={name: Codes(1.0, 0) for name in plan.codes},
        weights={name: WeightCodes((1.0,), None, 127) for name in plan.weights},
    )
    assert np.array_equal(run(apply_plan(prepared, exact), dots), run(prepared, dots))
    assert constants(correct_bias(prepared, exact, dots, method=method)) == constants(prepared)


@pytest.mark.parametrize("method", METHODS)
def test_batches_do_not_change_a_byte(
    method: Method, prepared: ir.Model, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgelathe.compress.quantize.repair.channel_means.CHUNK_BYTES", 8 * 8 * 8 * 4 * 10)
    plan, calls = coarse_plan(prepared, x), list[tuple[int, int]]()
    whole = correct_bias(prepared, plan, x, method=method, on_progress=lambda *call: calls.append(call))
    parts = correct_bias(prepared, plan, [x[:3], x[3:40], x[40:]], method=method)
    assert constants(whole) == constants(parts)
    passes = 2 if method == "empirical" else 1
    assert calls == passes * [(done, 64) for done in (10, 20, 30, 40, 50, 60, 64)]


@pytest.mark.parametrize("method", METHODS)
def test_a_network_with_changed_weights_is_made_like_the_one_before(
    method: Method, prepared: ir.Model, x: np.ndarray
) -> None:
    changed = prepared.clone()
    for node in changed.graph:
        if node.op_type == "Conv":
            weight = constant(node.inputs[1])
            assert weight is not None
            moved = np.float32(weight + 0.02)
            node.replace_input_with(1, add_initializer(changed.graph, f"{node.name}_moved", moved))
    plan, wanted = coarse_plan(changed, x, bits=8), run(prepared, x)

    def mean_error(corrected: ir.Model) -> float:
        return float(np.abs((run(apply_plan(corrected, plan), x) - wanted).mean(0)).sum())

    like_before = correct_bias(changed, plan, x, method=method, reference=prepared)
    assert mean_error(like_before) < 0.5 * mean_error(correct_bias(changed, plan, x, method=method))


def test_an_opset_whose_means_take_axes_as_attributes_works_too(
    save: Callable[[onnx.ModelProto], object], x: np.ndarray
) -> None:
    model = model_from_text(NETWORK, WEIGHTS, seed=0)
    model.opset_import[0].version = 13
    prepared = prepare(save(model))  # type: ignore[arg-type]
    plan, wanted = coarse_plan(prepared, x), run(prepared, x)
    for method in METHODS:
        corrected = apply_plan(correct_bias(prepared, plan, x, method=method), plan)
        assert decibels(wanted, run(corrected, x)) > decibels(wanted, run(apply_plan(prepared, plan), x)) + 3.0


def test_correcting_twice_is_possible(prepared: ir.Model, x: np.ndarray) -> None:
    plan, wanted = coarse_plan(prepared, x), run(prepared, x)
    once = correct_bias(prepared, plan, x, method="empirical")
    twice = correct_bias(once, plan, x, method="empirical", reference=prepared)
    noise = [decibels(wanted, run(apply_plan(model, plan), x)) for model in (once, twice)]
    assert noise[1] > noise[0] - 0.5


def test_images_that_are_not_finite_are_refused(prepared: ir.Model, x: np.ndarray) -> None:
    plan, bad = coarse_plan(prepared, x), x.copy()
    bad[7, 0, 0, 0] = np.nan
    with pytest.raises(EdgeLatheError, match="7"):
        correct_bias(prepared, plan, bad, method="empirical")


def test_a_residual_sum_ends_with_the_mean_of_the_float_one(save: Callable[[onnx.ModelProto], object]) -> None:
    text = """residual (float[N,3,8,8] input) => (float[N,8,8,8] s2) {
      c0 = Conv <pads = [1,1,1,1]> (input, w0, b0)
      r0 = Relu (c0)
      c1 = Conv <pads = [1,1,1,1]> (r0, w1)
      s1 = Add (c1, r0)
      c2 = Conv (s1, w2)
      c3 = Conv (s1, w3)
      s2 = Add (c3, c2)
    }"""
    shapes = {"w0": (8, 3, 3, 3), "b0": (8,), "w1": (8, 8, 3, 3), "w2": (8, 8, 1, 1), "w3": (8, 8, 1, 1)}
    prepared, x = prepare(save(model_from_text(text, shapes, seed=4))), images(32, (3, 8, 8), seed=5)  # type: ignore[arg-type]
    assert _sums_to_put_right(prepared, [str(node.name) for node in prepared.graph]) == {
        named(prepared, "c1"): (named(prepared, "s1"), 1),
        named(prepared, "c3"): (named(prepared, "s2"), 1),
    }
    plan, wanted = coarse_plan(prepared, x), run(prepared, x)

    def mean_error(model: ir.Model) -> float:
        return float(np.abs((run(apply_plan(model, plan), x) - wanted).mean((0, 2, 3))).max())

    assert mean_error(correct_bias(prepared, plan, x, method="empirical")) < 0.1 * mean_error(prepared)
