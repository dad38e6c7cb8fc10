"""The whole quantizer: what the file computes, what the runtime makes of it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from edgelathe.compress.quantize.audit import audit
from edgelathe.compress.quantize.placing.placement import NodePlan
from edgelathe.compress.quantize.quantize import quantize
from edgelathe.errors import EdgeLatheError

from .conftest import decibels, images, model_from_text, run

OPTION_A = """
shortcut (float[N,3,8,8] x) => (float[N,8,4,4] y) {
  a = Conv <pads = [1,1,1,1]> (x, w0)
  r = Relu (a)
  c = Conv <pads = [1,1,1,1], strides = [2,2]> (r, w1)
  starts = Constant <value = int64[2] {0, 0}> ()
  ends = Constant <value = int64[2] {100, 100}> ()
  axes = Constant <value = int64[2] {2, 3}> ()
  steps = Constant <value = int64[2] {2, 2}> ()
  s = Slice (r, starts, ends, axes, steps)
  pads = Constant <value = int64[8] {0, 2, 0, 0, 0, 2, 0, 0}> ()
  p = Pad (s, pads)
  t = Add (c, p)
  u = Relu (t)
  y = Conv <pads = [1,1,1,1]> (u, w2)
}
"""

DENSE = """
dense (float[N,3,8,8] x) => (float[N,5] y) {
  a = Conv <pads = [1,1,1,1]> (x, w0)
  n = BatchNormalization (a, g, b, m, v)
  r = Relu (n)
  c = Conv <pads = [1,1,1,1]> (r, w1)
  j = Concat <axis = 1> (a, c)
  q = AveragePool <kernel_shape = [2,2], strides = [2,2]> (j)
  axes = Constant <value = int64[2] {2, 3}> ()
  p = ReduceMean <keepdims = 0> (q, axes)
  y = Gemm <transB = 1> (p, w2, b2)
}
"""

SQUEEZE = """
squeeze (float[N,3,8,8] x) => (float[N,5] y) {
  a = Conv <pads = [1,1,1,1]> (x, w0)
  s = Sigmoid (a)
  h = Mul (a, s)
  p = GlobalAveragePool (h)
  e = Conv (p, w1, b1)
  z = Sigmoid (e)
  k = Mul (h, z)
  d = Conv <pads = [1,1,1,1], group = 4> (k, w2)
  o = GlobalAveragePool (d)
  f = Flatten (o)
  y = MatMul (f, w3)
}
"""

MIXED = """
mixed (float[N,3,8,8] x) => (float[N,4,8,8] y) {
  a = Conv <pads = [1,1,1,1]> (x, w0)
  zero = Constant <value_float = 0.0> ()
  top = Constant <value_float = 0.5> ()
  r = Clip (a, zero, top)
  c = Conv <pads = [1,1,1,1]> (r, w1)
  j = Concat <axis = 1> (r, c)
  y = Conv (j, w2)
}
"""

NETWORKS = {
    "clamped and unclamped joined": (MIXED, {"w0": (4, 3, 3, 3), "w1": (4, 4, 3, 3), "w2": (4, 8, 1, 1)}),
    "option A shortcut": (OPTION_A, {"w0": (4, 3, 3, 3), "w1": (8, 4, 3, 3), "w2": (8, 8, 3, 3)}),
    "dense block": (
        DENSE,
        {"w0": (4, 3, 3, 3), "g": (4,), "b": (4,), "m": (4,), "v": (4,), "w1": (4, 4, 3, 3), "w2": (5, 8), "b2": (5,)},
    ),
    "squeeze and excitation": (
        SQUEEZE,
        {"w0": (4, 3, 3, 3), "w1": (4, 4, 1, 1), "b1": (4,), "w2": (4, 1, 3, 3), "w3": (4, 5)},
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
def test_networks_stay_close_and_fuse_completely(name: str, method: str, save, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    text, weights = NETWORKS[name]
    source = save(model_from_text(text, weights, seed=0, positive=("v", "g")))
    output = tmp_path / "int8.onnx"
    result = quantize(source, output, images(64, (3, 8, 8), seed=1), method=method)  # type: ignore[arg-type]

    onnx.checker.check_model(str(output), full_check=True)
    assert {node.kind for node in result.audit.nodes if node.op == "Conv"} == {"int8"}
    assert result.audit.survivors == ()
    assert result.audit.broken_promises == ()
    x = images(32, (3, 8, 8), seed=2)
    assert decibels(run(source, x), run(output, x)) > 24.0
    assert {entry.domain for entry in onnx.load(output).opset_import} <= {"", "ai.onnx"}


def test_results_do_not_depend_on_the_batch_size(residual: onnx.ModelProto, save, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    output = tmp_path / "int8.onnx"
    quantize(save(residual), output, images(16, (3, 8, 8), seed=1))
    x = images(7, (3, 8, 8), seed=2)
    one_by_one = np.concatenate([run(output, x[i : i + 1]) for i in range(7)])
    np.testing.assert_array_equal(one_by_one, run(output, x))


def test_the_file_is_the_same_every_time_and_however_images_are_batched(
    residual: onnx.ModelProto,
    save,
    tmp_path: Path,  # type: ignore[no-untyped-def]
) -> None:
    source, x = save(residual), images(10, (3, 8, 8), seed=1)
    for number, batches in enumerate((x, [x[:3], x[3:]], [x[i : i + 1] for i in range(10)])):
        quantize(source, tmp_path / f"{number}.onnx", batches)
    assert (tmp_path / "0.onnx").read_bytes() == (tmp_path / "1.onnx").read_bytes()
    assert (tmp_path / "0.onnx").read_bytes() == (tmp_path / "2.onnx").read_bytes()


def test_per_channel_weights_are_closer_than_one_scale_for_all(save, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    text = "agraph (float[N,3,8,8] x) => (float[N,4,8,8] y) { y = Conv (x, w) }"
    model = model_from_text(text, {"w": (4, 3, 1, 1)}, seed=0)
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0]) * np.array([1, 0.1, 0.01, 1e-3]).reshape(4, 1, 1, 1)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight.astype(np.float32), "w"))
    source, x = save(model), images(16, (3, 8, 8), seed=1)
    noise = {}
    for per_channel in (True, False):
        quantize(source, tmp_path / "int8.onnx", x, per_channel=per_channel)
        noise[per_channel] = np.abs(run(tmp_path / "int8.onnx", x) - run(source, x)).max()
    assert noise[True] <= noise[False]


def test_no_two_products_of_a_file_for_avx2_overflow_int16(residual: onnx.ModelProto, save, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    quantize(save(residual), tmp_path / "int8.onnx", images(4, (3, 8, 8), seed=1), target="x86-avx2")
    stored = onnx.load(tmp_path / "int8.onnx").graph.initializer
    codes = [onnx.numpy_helper.to_array(tensor) for tensor in stored if tensor.name.endswith("weight_codes")]
    assert len(codes) == 4
    for array in codes:
        ordered = np.sort(array.reshape(len(array), -1).astype(int), axis=1)
        assert 255 * ordered[:, -2:].clip(0).sum(1).max() <= np.iinfo(np.int16).max
        assert 255 * ordered[:, :2].clip(None, 0).sum(1).min() >= np.iinfo(np.int16).min


def test_metadata_survives_and_names_the_parent(residual: onnx.ModelProto, save, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    onnx.helper.set_model_props(residual, {"edgelathe.mean": "[0.5]"})
    quantize(save(residual), tmp_path / "int8.onnx", images(4, (3, 8, 8), seed=1))
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "int8.onnx").metadata_props}
    assert properties["edgelathe.mean"] == "[0.5]"
    assert properties["edgelathe.quantized"] == "x86-vnni mse, per-channel, empirical bias correction"
    assert len(properties["edgelathe.parent_sha256"]) == 64


def test_audit_exposes_a_broken_promise(residual: onnx.ModelProto, save) -> None:  # type: ignore[no-untyped-def]
    found = audit(save(residual), tuple(NodePlan(node.name, node.op_type, "int8", "") for node in named(residual)))
    convolution = next(node for node in found.nodes if node.op == "Conv")
    assert convolution.kind == "float"
    assert convolution.reason.startswith("ONNX Runtime has no int8 kernel for it here and runs")


def named(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
    return [node for node in model.graph.node if node.op_type == "Conv"]


def test_nothing_to_quantize(save, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    text = "agraph (float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Tanh (x) }"
    with pytest.raises(EdgeLatheError, match="no operator of it can run in int8, most often because there is no int8"):
        quantize(save(model_from_text(text, {}, seed=0)), tmp_path / "o.onnx", images(2, (3, 8, 8), seed=0))
    assert not (tmp_path / "o.onnx").exists()


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"target": "x86-vnn"}, 'Unknown target "x86-vnn": did you mean "x86-vnni"?'),
        ({"method": "max"}, 'Unknown calibration method "max": did you mean "minmax"?'),
    ],
)
def test_unknown_choices(keys: dict, sentence: str, residual: onnx.ModelProto, save, tmp_path: Path) -> None:  # type: ignore[type-arg, no-untyped-def]
    with pytest.raises(EdgeLatheError) as caught:
        quantize(save(residual), tmp_path / "o.onnx", images(2, (3, 8, 8), seed=0), **keys)
    assert str(caught.value) == sentence
