"""Every pass computes what the graph before it computed."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.passes.norm_to_depthwise import norm_to_depthwise
from edgelathe.compress.quantize.passes.prepare import infer_shapes, prepare
from edgelathe.errors import EdgeLatheError

from ..conftest import images, model_from_text, run

NORM = {"g": (4,), "b": (4,), "m": (4,), "v": (4,)}


def test_norm_without_convolution_becomes_depthwise() -> None:
    text = """agraph (float[N,4,5,5] x) => (float[N,4,5,5] y) {
                n = BatchNormalization (x, g, b, m, v)
                y = Relu (n)
              }"""
    proto = model_from_text(text, NORM, seed=1, positive=("v",))
    x = images(2, (4, 5, 5), seed=2)
    model = ir.from_proto(proto)
    infer_shapes(model)
    assert norm_to_depthwise(model) == 1
    assert [node.op_type for node in model.graph] == ["Conv", "Relu"]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    np.testing.assert_allclose(run(model, x), run(proto, x), rtol=1e-5, atol=1e-6)


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
