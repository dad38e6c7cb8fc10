from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.calibration import calibrate as module
from edgelathe.compress.quantize.calibration.calibrate import calibrate
from edgelathe.compress.quantize.passes.prepare import prepare
from edgelathe.errors import EdgeLatheError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..conftest import images, model_from_text
from .test_tally import assert_same

TENSORS = ("input", "r0", "r1", "r2")


@pytest.fixture
def prepared(residual: onnx.ModelProto, save) -> ir.Model:  # type: ignore[no-untyped-def]
    return prepare(save(residual))


def test_ranges_and_counts_are_those_of_the_values(prepared: ir.Model) -> None:
    x = images(9, (3, 8, 8), seed=0)
    found = calibrate(prepared, TENSORS, x)
    values = x.ravel()
    assert (found["input"].low, found["input"].high) == (values.min(), values.max())
    edges = np.ldexp(found["input"].first + np.arange(len(found["input"].counts) + 1.0), found["input"].exponent)
    np.testing.assert_array_equal(found["input"].counts, np.histogram(values.astype(np.float64), edges)[0])
    np.testing.assert_array_equal(found["input"].channel_highs, x.max((0, 2, 3)))
    assert (found["input"].images, found["input"].values) == (9, values.size)
    assert found["r0"].low == 0.0
    assert found["r1"].high <= 6.0
    assert list(found) == list(TENSORS)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.sets(st.integers(1, 10), max_size=5))
def test_statistics_do_not_depend_on_batching(prepared: ir.Model, cuts: set[int]) -> None:
    x = images(11, (3, 8, 8), seed=1)
    whole = calibrate(prepared, TENSORS, x)
    parts = calibrate(prepared, TENSORS, np.split(x, sorted(cuts)))
    for name in TENSORS:
        assert_same(whole[name], parts[name])
        assert whole[name].averaged == parts[name].averaged


@pytest.mark.parametrize(("chunk_bytes", "several"), [(1, 1), (1, 4), (40_000, 1), (10**9, 4)])
def test_statistics_do_not_depend_on_the_chunk(
    prepared: ir.Model, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int, several: int
) -> None:
    x = images(11, (3, 8, 8), seed=2)
    expected = calibrate(prepared, TENSORS, x)
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(module, "SEVERAL", several)
    found = calibrate(prepared, TENSORS, x)
    for name in TENSORS:
        assert found[name].high == pytest.approx(expected[name].high, rel=1e-6)
        assert found[name].averaged == pytest.approx(expected[name].averaged, rel=1e-6)
        # A value on the edge of two bins may fall on either side: the runtime adds in another order.
        assert found[name].counts.shape == expected[name].counts.shape
        assert np.abs(found[name].counts - expected[name].counts).sum() <= 8


def test_statistics_do_not_depend_on_the_order(prepared: ir.Model) -> None:
    x = images(11, (3, 8, 8), seed=6) * np.float32(2.0) ** np.arange(11, dtype=np.float32)[:, None, None, None]
    one, other = calibrate(prepared, TENSORS, x), calibrate(prepared, TENSORS, x[::-1].copy())
    for name in TENSORS:
        assert one[name].high == pytest.approx(other[name].high, rel=1e-6)
        assert one[name].counts.shape == other[name].counts.shape
        assert np.abs(one[name].counts - other[name].counts).sum() <= 8


def test_large_tensors_are_sampled_evenly(prepared: ir.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(32, (3, 8, 8), seed=7)
    whole = calibrate(prepared, TENSORS, x)["r0"]
    monkeypatch.setattr(module, "SAMPLES", 4000)
    some = calibrate(prepared, TENSORS, x)["r0"]
    assert (some.low, some.high, some.values) == (whole.low, whole.high, whole.samples)
    assert 3000 < some.samples <= 4000
    assert np.average(some.centers, weights=some.counts) == pytest.approx(
        np.average(whole.centers, weights=whole.counts), rel=0.05
    )


def test_channels_are_those_of_the_operators() -> None:
    text = """agraph (float[N,3,4,4] x) => (float[N,5,8] y) {
                c = Conv <pads = [1,1,1,1]> (x, w)
                rows = Constant <value = int64[3] {0, 5, 16}> ()
                r = Reshape (c, rows)
                y = MatMul (r, v)
              }"""
    model = ir.from_proto(model_from_text(text, {"w": (5, 3, 3, 3), "v": (16, 8)}, seed=8))
    for name, shape in {"c": (None, 5, 4, 4), "r": (None, 5, 16), "y": (None, 5, 8)}.items():
        next(value for node in model.graph for value in node.outputs if value.name == name).shape = ir.Shape(shape)
    found = calibrate(model, ("x", "c", "r", "y"), images(6, (3, 4, 4), seed=9))
    assert {name: len(one.channel_lows) for name, one in found.items()} == {"x": 3, "c": 5, "r": 16, "y": 8}


def test_progress_counts_images(prepared: ir.Model) -> None:
    seen: list[tuple[int, int]] = []
    calibrate(prepared, TENSORS, images(5, (3, 8, 8), seed=3), on_progress=lambda *at: seen.append(at))
    assert seen == [(5, 5)]


def test_no_images(prepared: ir.Model) -> None:
    with pytest.raises(EdgeLatheError, match="there are no calibration images"):
        calibrate(prepared, TENSORS, images(0, (3, 8, 8), seed=0))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_pixels_name_the_image(prepared: ir.Model, bad: float) -> None:
    x = images(6, (3, 8, 8), seed=4)
    x[4, 1, 2, 3] = bad
    with pytest.raises(EdgeLatheError, match=r"calibrate with image 4: it holds NaN or infinite"):
        calibrate(prepared, TENSORS, x)


def test_wrong_shape_names_both_shapes(prepared: ir.Model) -> None:
    with pytest.raises(EdgeLatheError, match=r"shape N x 3 x 8 x 8 with images of shape 1 x 8 x 8 x 3"):
        calibrate(prepared, TENSORS, np.zeros((2, 8, 8, 3), np.float32))


def test_the_image_that_breaks_an_activation_is_named() -> None:
    model = ir.from_proto(
        model_from_text("agraph (float[N,1,2,2] x) => (float[N,1,2,2] y) { y = Log (x) }", {}, seed=0)
    )
    x = np.ones((5, 1, 2, 2), np.float32)
    x[3, 0, 1, 1] = -1.0
    with pytest.raises(EdgeLatheError, match=r'tensor "y": it becomes NaN or infinite within images 3 to 3'):
        calibrate(model, ("y",), x)


def test_overflowing_activation_names_the_tensor() -> None:
    text = "agraph (float[N,1,2,2] x) => (float[N,1,2,2] y) { e = Exp (x)\n y = Mul (e, e) }"
    model = ir.from_proto(model_from_text(text, {}, seed=0))
    with pytest.raises(EdgeLatheError, match=r'tensor "y": it becomes NaN or infinite within images 0 to 0'):
        calibrate(model, ("e", "y"), np.full((1, 1, 2, 2), 60.0, np.float32))


PEAK = """
import resource, sys
import numpy as np
from edgelathe.compress.quantize.calibration.calibrate import calibrate
from edgelathe.compress.quantize.placing.placement import place
from edgelathe.compress.quantize.passes.prepare import prepare

class Endless:
    def __len__(self): return int(sys.argv[2])
    def __getitem__(self, cut):
        start, stop, _ = cut.indices(len(self))
        return np.random.default_rng(start).normal(size=(stop - start, 3, 64, 64)).astype(np.float32)

model = prepare(sys.argv[1])
calibrate(model, place(model).values, Endless())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_the_images(save) -> None:  # type: ignore[no-untyped-def]
    text = """agraph (float[N,3,64,64] x) => (float[N,32,64,64] y) {
                a = Conv <pads = [1,1,1,1]> (x, w)
                y = Conv <pads = [1,1,1,1]> (a, v)
              }"""
    path = save(model_from_text(text, {"w": (32, 3, 3, 3), "v": (32, 32, 3, 3)}, seed=5))
    few, many = (
        int(subprocess.run([sys.executable, "-c", PEAK, str(path), str(n)], check=True, capture_output=True).stdout)
        for n in (64, 512)
    )
    assert many <= few + 16, f"{few} MiB for 64 images, {many} MiB for 512"
