"""The need for a limit, replayed: 16-bit sums of full-range weights saturate, those of limited weights cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from edgelathe.compress.quantize.calibration.calibrate import calibrate
from edgelathe.compress.quantize.pair_sums import pair_scales, worst_pair_sums
from edgelathe.compress.quantize.passes.prepare import prepare
from edgelathe.compress.quantize.placing.placement import place
from edgelathe.compress.quantize.placing.saturation import INT16, saturation_report
from edgelathe.compress.quantize.placing.targets import PAIR_MAX, TARGETS
from edgelathe.compress.quantize.plan import QuantPlan, plan_from
from edgelathe.compress.quantize.weights import quantize_weight, weight_scales
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ..conftest import images


def vpmaddubsw(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What the instruction computes: sums of neighbouring products, int16 with saturation."""
    products = activations.astype(np.int64) * weights.astype(np.int64)
    return np.clip(products[..., ::2] + products[..., 1::2], INT16.min, INT16.max)


def exact_pairs(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    products = activations.astype(np.int64) * weights.astype(np.int64)
    return products[..., ::2] + products[..., 1::2]


def limited(weight: np.ndarray, *, per_channel: bool = True) -> np.ndarray:
    """Codes of weights [channels, K] under the rule of x86-avx2."""
    axis = 0 if per_channel else None
    scales = weight_scales(weight, axis, limit=127, bias=None, input_scale=1.0)
    scales = pair_scales(weight, scales, 0, limit=127, pair_max=PAIR_MAX)
    return quantize_weight(weight, scales, axis, limit=127)


finite = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)
weights_of_any_shape = st.tuples(st.integers(1, 5), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=finite)
)


@settings(max_examples=150, deadline=None)
@given(weights_of_any_shape, st.booleans(), st.integers(0, 2**32 - 1))
def test_no_order_of_limited_weights_saturates(weight: np.ndarray, per_channel: bool, seed: int) -> None:
    codes = limited(weight, per_channel=per_channel)
    sums = worst_pair_sums(codes, 0)
    assert sums.min() >= INT16.min
    assert sums.max() <= INT16.max
    rng = np.random.default_rng(seed)
    even = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2)))
    for _ in range(3):
        packed = even[:, rng.permutation(even.shape[1])]
        for activations in (np.full(packed.shape[1], 255), 255 * rng.integers(0, 2, packed.shape[1])):
            assert (vpmaddubsw(activations, packed) == exact_pairs(activations, packed)).all()


@settings(max_examples=150, deadline=None)
@given(weights_of_any_shape)
def test_the_report_is_the_worst_that_any_order_can_do(weight: np.ndarray) -> None:
    codes = quantize_weight(weight, weight_scales(weight, 0, limit=127, bias=None, input_scale=1.0), 0, limit=127)
    worst = worst_pair_sums(codes, 0)
    for row, (low, high) in zip(codes.astype(np.int64), worst, strict=True):
        pairs = [255 * max(0, a) + 255 * max(0, b) for i, a in enumerate(row) for b in row[i + 1 :]]
        assert high == max([255 * max(0, a) for a in row] + pairs)
        pairs = [255 * min(0, a) + 255 * min(0, b) for i, a in enumerate(row) for b in row[i + 1 :]]
        assert low == min([255 * min(0, a) for a in row] + pairs)


def test_full_range_weights_saturate() -> None:
    weight = np.array([[0.9, 1.0, -0.2, 0.1]], np.float32)
    full = quantize_weight(weight, weight_scales(weight, 0, limit=127, bias=None, input_scale=1.0), 0, limit=127)
    bright = np.full(4, 255)
    assert (vpmaddubsw(bright, full) != exact_pairs(bright, full)).any()
    assert (vpmaddubsw(bright, limited(weight)) == exact_pairs(bright, limited(weight))).all()


def test_a_single_large_weight_costs_nothing() -> None:
    """The reason to limit sums: limiting every weight to 64 would halve the precision of this channel."""
    weight = np.array([[1.0, 0.005, -0.4, -0.3]], np.float32)
    assert np.abs(limited(weight)).max() == 127


def test_scales_are_as_small_as_they_can_be() -> None:
    weight = np.random.default_rng(0).normal(size=(16, 72)).astype(np.float32)
    codes = limited(weight).astype(int)
    largest = np.sort(codes, axis=1)
    sums = np.maximum(largest[:, -1] + largest[:, -2], -largest[:, 0] - largest[:, 1])
    assert sums.max() <= PAIR_MAX
    assert sums.min() >= PAIR_MAX - 1


def test_products_with_a_matrix_have_channels_in_columns() -> None:
    codes = np.array([[100, 1], [100, 1], [0, -7]], np.int8)
    assert worst_pair_sums(codes, 1).tolist() == [[0, 255 * 200], [-7 * 255, 255 * 2]]


def planned(path: Path, target: str) -> tuple[object, QuantPlan]:
    model = prepare(path)
    placement = place(model, target=target)
    statistics = calibrate(model, placement.values, images(8, (3, 8, 8), seed=1))
    return model, plan_from(model, placement, statistics, target=target, method="minmax", per_channel=True)


def test_report_of_a_network(residual: onnx.ModelProto, save) -> None:  # type: ignore[no-untyped-def]
    model, plan = planned(save(residual), "x86-vnni")
    report = saturation_report(model, plan)  # type: ignore[arg-type]
    assert [layer.op for layer in report] == ["Conv", "Conv", "Conv", "Gemm"]
    assert [layer.channels for layer in report] == [8, 8, 8, 10]
    assert all(layer.saturating > 0 and abs(layer.worst) > INT16.max for layer in report)

    model, plan = planned(save(residual), "x86-avx2")
    report = saturation_report(model, plan)  # type: ignore[arg-type]
    assert all(layer.saturating == 0 and abs(layer.worst) <= 255 * PAIR_MAX for layer in report)


@pytest.mark.parametrize("target", [name for name in TARGETS if TARGETS[name].pair_max is None])
def test_other_targets_use_the_full_range(target: str, residual: onnx.ModelProto, save) -> None:  # type: ignore[no-untyped-def]
    model, plan = planned(save(residual), target)
    assert max(abs(layer.worst) for layer in saturation_report(model, plan)) > 255 * PAIR_MAX  # type: ignore[arg-type]
