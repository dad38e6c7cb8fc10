"""Every pass computes what the graph before it computed."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.canonical_pooling import canonical_pooling
from edgelathe.compress.quantize.merge_slices import merge_slices
from edgelathe.compress.quantize.norm_to_depthwise import norm_to_depthwise
from edgelathe.compress.quantize.prepare import fold_constants, infer_shapes, prepare
from edgelathe.errors import EdgeLatheError

from .conftest import images, model_from_text, run

NORM = {"g": (4,), "b": (4,), "m": (4,), "v": (4,)}

CASES = {
    "norm without convolution": (
        norm_to_depthwise,
        """agraph (float[N,4,5,5] x) => (float[N,4,5,5] y) {
             n = BatchNormalization (x, g, b, m, v)
             y = Relu (n)
           }""",
        NORM,
        1,
        ["Conv", "Relu"],
    ),
    "mean over space, flattened": (
        canonical_pooling,
        """agraph (float[N,4,5,5] x) => (float[N,4] y) {
             axes = Constant <value = int64[2] {-1, 2}> ()
             y = ReduceMean <keepdims = 0> (x, axes)
           }""",
        {},
        1,
        ["GlobalAveragePool", "Flatten"],
    ),
    "mean over space, kept": (
        canonical_pooling,
        """agraph (float[N,4,5,5] x) => (float[N,4,1,1] y) {
             axes = Constant <value = int64[2] {2, 3}> ()
             y = ReduceMean (x, axes)
           }""",
        {},
        1,
        ["GlobalAveragePool"],
    ),
    "mean over channels stays": (
        canonical_pooling,
        """agraph (float[N,4,5,5] x) => (float[N,1,5,5] y) {
             axes = Constant <value = int64[1] {1}> ()
             y = ReduceMean (x, axes)
           }""",
        {},
        0,
        ["ReduceMean"],
    ),
    "slices over two axes": (
        merge_slices,
        """agraph (float[N,4,6,6] x) => (float[N,4,3,3] y) {
             s = Constant <value = int64[1] {0}> ()
             e = Constant <value = int64[1] {100}> ()
             a = Constant <value = int64[1] {2}> ()
             b = Constant <value = int64[1] {3}> ()
             t = Constant <value = int64[1] {2}> ()
             c = Slice (x, s, e, a, t)
             y = Slice (c, s, e, b, t)
           }""",
        {},
        1,
        ["Slice"],
    ),
    "slices over one axis stay": (
        merge_slices,
        """agraph (float[N,4,6,6] x) => (float[N,4,2,6] y) {
             s = Constant <value = int64[1] {1}> ()
             e = Constant <value = int64[1] {100}> ()
             a = Constant <value = int64[1] {2}> ()
             t = Constant <value = int64[1] {2}> ()
             c = Slice (x, s, e, a, t)
             y = Slice (c, s, e, a)
           }""",
        {},
        0,
        ["Slice", "Slice"],
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_pass_keeps_the_function(case: tuple) -> None:  # type: ignore[type-arg]
    rewrite, text, weights, fired, operators = case
    proto = model_from_text(text, weights, seed=1, positive=("v",))
    shape = tuple(dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim[1:])
    x = images(2, shape, seed=2)
    expected = run(proto, x)
    model = ir.from_proto(proto)
    fold_constants(model)
    infer_shapes(model)

    assert rewrite(model) == fired
    assert [node.op_type for node in model.graph] == operators
    assert [value.name for value in model.graph.outputs] == ["y"]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-5, atol=1e-6)


def test_prepare_folds_batch_norm(save) -> None:  # type: ignore[no-untyped-def]
    text = """agraph (float[N,3,5,5] x) => (float[N,4,5,5] y) {
                c = Conv <pads = [1,1,1,1]> (x, w)
                n = BatchNormalization <epsilon = 0.01> (c, g, b, m, v)
                y = Relu (n)
              }"""
    proto = model_from_text(text, {"w": (4, 3, 3, 3), **NORM}, seed=5, positive=("v",))
    model = prepare(save(proto))
    assert [node.op_type for node in model.graph] == ["Conv", "Relu"]
    x = images(2, (3, 5, 5), seed=6)
    np.testing.assert_allclose(run(model, x), run(proto, x), rtol=1e-5, atol=1e-6)


def test_prepare_folds_everything(residual: onnx.ModelProto, save) -> None:  # type: ignore[no-untyped-def]
    x = images(3, (3, 8, 8), seed=3)
    model = prepare(save(residual))
    assert "Constant" not in {node.op_type for node in model.graph}
    assert all(value.shape is not None for node in model.graph for value in node.outputs)
    np.testing.assert_allclose(run(model, x), run(residual, x), rtol=1e-5, atol=1e-6)


def test_prepare_upgrades_an_opset_without_per_channel_scales(save) -> None:  # type: ignore[no-untyped-def]
    text = "agraph (float[N,3,4,4] x) => (float[N,2,4,4] y) { c = Conv (x, w)\n y = Relu (c) }"
    old = model_from_text(text, {"w": (2, 3, 1, 1)}, seed=4)
    old.opset_import[0].version = 11
    assert prepare(save(old)).opset_imports[""] == 13


def test_truncated_file_is_refused(residual: onnx.ModelProto, save, tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = save(residual)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(EdgeLatheError, match=r"Cannot read the model .*model\.onnx: it is truncated or no ONNX"):
        prepare(path)


def test_missing_file_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EdgeLatheError, match="there is no such file"):
        prepare(tmp_path / "nothing.onnx")
