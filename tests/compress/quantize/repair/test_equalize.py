from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.apply import apply_plan
from edgelathe.compress.quantize.calibration.calibrate import calibrate
from edgelathe.compress.quantize.calibration.histogram import Histogram
from edgelathe.compress.quantize.passes.prepare import prepare
from edgelathe.compress.quantize.placing.placement import place
from edgelathe.compress.quantize.plan import plan_from
from edgelathe.compress.quantize.repair.channel_scaling import scale_channels
from edgelathe.compress.quantize.repair.equalize import (
    HEADROOM,
    By,
    automatic,
    equalizable,
    equalize,
    plan_equalization,
)
from edgelathe.models.onnx_graph import constant
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..conftest import decibels, images, model_from_text, run

CLIPPED = """
clipped (float[N,3,8,8] input) => (float[N,5] logits) {
  zero = Constant <value_float = 0.0> ()
  six = Constant <value_float = 6.0> ()
  c0 = Conv <pads = [1,1,1,1]> (input, w0, b0)
  r0 = Clip (c0, zero, six)
  c1 = Conv <pads = [1,1,1,1], group = 8> (r0, w1, b1)
  r1 = Clip (c1, zero, six)
  c2 = Conv (r1, w2, b2)
  s2 = PRelu (c2, slopes)
  c3 = Conv <pads = [1,1,1,1]> (s2, w3)
  sum = Add (c3, s2)
  r3 = LeakyRelu <alpha = 0.1> (sum)
  both = Concat <axis = 1> (r3, r1)
  p = GlobalAveragePool (both)
  f = Flatten (p)
  logits = Gemm <transB = 1> (f, w4, b4)
}
"""
WEIGHTS = {
    "w0": (8, 3, 3, 3), "b0": (8,), "w1": (8, 1, 3, 3), "b1": (8,), "w2": (6, 8, 1, 1), "b2": (6,),
    "slopes": (6, 1, 1), "w3": (6, 6, 3, 3), "w4": (5, 14), "b4": (5,),
}  # fmt: skip


def uneven(seed: int, spread: float, text: str = CLIPPED) -> onnx.ModelProto:
    """Weights whose channels differ by factors of up to 10 ** spread."""
    model = model_from_text(text, WEIGHTS, seed=seed, positive=("slopes",))
    rng = np.random.default_rng(seed)
    for tensor in model.graph.initializer:
        if tensor.name in ("w0", "w1", "w2", "w3", "b0", "b1"):
            array = onnx.numpy_helper.to_array(tensor)
            factors = 10.0 ** rng.uniform(-spread, spread / 2, (len(array), *[1] * (array.ndim - 1)))
            tensor.CopyFrom(onnx.numpy_helper.from_array((array * factors * 2).astype(np.float32), tensor.name))
    return model


def seen(prepared: ir.Model, x: np.ndarray) -> dict[str, Histogram]:
    return calibrate(prepared, equalizable(prepared, by="activations"), x)


def weight_of(model: ir.Model, result: str) -> np.ndarray:
    (node,) = [node for node in model.graph if node.outputs[0].name == result]
    weight = constant(node.inputs[1])
    assert weight is not None
    return weight


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return images(16, (3, 8, 8), seed=1)


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), spread=st.floats(0.0, 1.5), by=st.sampled_from(["weights", "activations"]))
def test_computes_the_same_on_the_calibration_images(
    seed: int, spread: float, by: By, x: np.ndarray, tmp_path: Path
) -> None:
    onnx.save(uneven(seed, spread), tmp_path / "model.onnx")
    prepared = prepare(tmp_path / "model.onnx")
    before = run(prepared, x)
    statistics = seen(prepared, x)
    np.testing.assert_allclose(
        run(equalize(prepared, by=by, statistics=statistics), x), before, rtol=0, atol=1e-5 * np.abs(before).max()
    )
    assert np.array_equal(run(prepared, x), before), "the graph handed over was changed"
    planned = plan_equalization(prepared, by=by, statistics=statistics)
    assert (planned.factors[~planned.groups.free] == 1.0).all()


def test_without_clips_it_is_the_same_function_on_any_image(save: Callable[[onnx.ModelProto], Path]) -> None:
    text = CLIPPED.replace("Clip (c0, zero, six)", "Relu (c0)").replace("Clip (c1, zero, six)", "Relu (c1)")
    prepared = prepare(save(uneven(4, 1.5, text)))
    planned = plan_equalization(prepared, by="weights")
    assert planned.summary().endswith("for the same function")
    far = 100 * images(4, (3, 8, 8), seed=5)
    before = run(prepared, far)
    np.testing.assert_allclose(
        run(equalize(prepared, by="weights"), far), before, rtol=0, atol=1e-5 * np.abs(before).max()
    )


def test_channels_end_with_equal_shares_of_both_layers(save: Callable[[onnx.ModelProto], Path]) -> None:
    text = """pair (float[N,3,8,8] input) => (float[N,6,8,8] c2) {
      c0 = Conv <pads = [1,1,1,1]> (input, w0, b0)
      r0 = Relu (c0)
      c1 = Conv <pads = [1,1,1,1], group = 8> (r0, w1, b1)
      r1 = Relu (c1)
      c2 = Conv (r1, w2, b2)
    }"""
    model = equalize(prepare(save(uneven(6, 1.0, text))), by="weights")
    first, second, third = (np.abs(weight_of(model, name)) for name in ("c0", "c1", "c2"))
    written, kernels, read = first.max((1, 2, 3)), second.max((1, 2, 3)), third.max((0, 2, 3))
    for one, other in ((written, kernels), (kernels, read)):
        shares = (one / one.max()) / (other / other.max())
        np.testing.assert_allclose(shares, 1.0, rtol=0.05)


def test_one_scale_per_tensor_gets_back_what_uneven_channels_cost_it(
    save: Callable[[onnx.ModelProto], Path], x: np.ndarray
) -> None:
    text = CLIPPED.replace("Clip (c0, zero, six)", "Relu (c0)").replace("Clip (c1, zero, six)", "Relu (c1)")
    even = prepare(save(model_from_text(text, WEIGHTS, seed=8, positive=("slopes",))))
    groups = plan_equalization(even, by="weights").groups
    factors = np.where(groups.free, 10.0 ** np.random.default_rng(8).uniform(-1.0, 1.0, len(groups.free)), 1.0)
    made_uneven = scale_channels(even, groups, factors)

    def noise(graph: ir.Model) -> float:
        placement = place(graph)
        statistics = calibrate(graph, placement.values, x)
        plan = plan_from(graph, placement, statistics, target="x86-vnni", method="minmax", per_channel=False)
        return decibels(run(even, x), run(apply_plan(graph, plan), x))

    assert noise(made_uneven) < noise(even) - 6.0
    assert noise(equalize(made_uneven, by="weights")) > noise(even) - 3.0


def test_activations_come_to_use_their_codes(save: Callable[[onnx.ModelProto], Path], x: np.ndarray) -> None:
    prepared = prepare(save(uneven(2, 1.0)))

    def spread(graph: ir.Model) -> float:
        highs = np.concatenate([h.channel_highs / h.high for h in seen(graph, x).values()])
        return float(np.median(highs[highs > 0]))

    even = equalize(prepared, by="activations", statistics=seen(prepared, x), strength=1.0)
    half = equalize(prepared, by="activations", statistics=seen(prepared, x))
    assert spread(even) > spread(half) > spread(prepared)


def test_channels_of_a_clip_are_left_alone_where_nothing_was_seen(save: Callable[[onnx.ModelProto], Path]) -> None:
    prepared = prepare(save(uneven(3, 1.0)))
    equalized = equalize(prepared, by="weights")
    assert np.array_equal(weight_of(equalized, "c0"), weight_of(prepared, "c0"))
    assert np.array_equal(weight_of(equalized, "c1"), weight_of(prepared, "c1"))
    assert not np.array_equal(weight_of(equalized, "c2"), weight_of(prepared, "c2"))


def test_channels_cut_by_their_clip_keep_their_factor_and_others_stay_below_it(
    save: Callable[[onnx.ModelProto], Path], x: np.ndarray
) -> None:
    prepared = prepare(save(uneven(3, 1.0)))
    statistics = seen(prepared, x)
    planned = plan_equalization(prepared, by="weights", statistics=statistics)
    factors, highest = planned.factors[planned.groups.of_value["r0"]], statistics["r0"].channel_highs
    assert (highest == 6.0).any() and (highest < 6.0).any()
    assert (factors[highest == 6.0] == 1.0).all()
    assert (factors[highest < 6.0] * highest[highest < 6.0] <= 6.0 / HEADROOM * (1 + 1e-6)).all()
    assert planned.recut > 0
    assert "cut elsewhere by their Clip once their values exceed all calibration images' by 10%" in planned.summary()


def test_a_graph_that_holds_every_channel_says_so(save: Callable[[onnx.ModelProto], Path], x: np.ndarray) -> None:
    text = """held (float[N,3,8,8] input) => (float[N,8,8,8] s) {
      c0 = Conv <pads = [1,1,1,1]> (input, w0, b0)
      s = Sigmoid (c0)
    }"""
    prepared = prepare(save(uneven(0, 1.0, text)))
    assert (
        plan_equalization(prepared, by="weights").summary() == "no channel can be scaled without changing the function"
    )
    assert np.array_equal(run(equalize(prepared, by="weights"), x), run(prepared, x))


def test_dead_channels_do_not_get_huge_factors(save: Callable[[onnx.ModelProto], Path], x: np.ndarray) -> None:
    model = uneven(7, 0.5)
    for tensor in model.graph.initializer:
        if tensor.name == "w0":
            array = onnx.numpy_helper.to_array(tensor).copy()
            array[0], array[1] = 0.0, array[1] * 1e-9
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, "w0"))
    prepared = prepare(save(model))
    for by in ("weights", "activations"):
        factors = plan_equalization(prepared, by=by, statistics=seen(prepared, x)).factors  # type: ignore[arg-type]
        assert np.isfinite(factors).all() and factors.min() >= 0.01 and factors.max() <= 100.0


def test_by_weights_statistics_of_what_clips_cut_are_enough(
    save: Callable[[onnx.ModelProto], Path], x: np.ndarray
) -> None:
    prepared = prepare(save(uneven(3, 1.0)))
    few = calibrate(prepared, equalizable(prepared, by="weights"), x)
    assert set(few) == {"r0", "r1"}
    one, other = (plan_equalization(prepared, by="weights", statistics=known) for known in (few, seen(prepared, x)))
    assert np.array_equal(one.factors, other.factors)


CONCATENATED = """dense (float[N,3,8,8] input) => (float[N,6,8,8] c1) {
  c0 = Conv <pads = [1,1,1,1]> (input, w0, b0)
  both = Concat <axis = 1> (c0, input)
  n0 = Conv <group = 11> (both, scale, shift)
  r0 = Relu (n0)
  c1 = Conv (r0, w1)
}"""


def test_a_normalisation_of_what_was_concatenated_wants_equalization(save: Callable[[onnx.ModelProto], Path]) -> None:
    weights = {"w0": (8, 3, 3, 3), "b0": (8,), "scale": (11, 1, 1, 1), "shift": (11,), "w1": (6, 11, 1, 1)}
    pooled = CONCATENATED.replace("both = Concat", "all = Concat").replace(
        "n0 =", "both = MaxPool <kernel_shape = [1,1]> (all)\n  n0 ="
    )
    for text in (CONCATENATED, pooled):
        assert automatic(prepare(save(model_from_text(text, weights, seed=0))), per_channel=True) == "weights"


def test_otherwise_only_one_scale_per_tensor_wants_it(residual: onnx.ModelProto, save: Callable[..., Path]) -> None:
    for prepared in (prepare(save(residual)), prepare(save(uneven(3, 1.0)))):
        assert automatic(prepared, per_channel=True) is None
        assert automatic(prepared, per_channel=False) == "weights"
