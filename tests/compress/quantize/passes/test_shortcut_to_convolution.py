from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.passes.prepare import prepare
from edgelathe.compress.quantize.passes.shortcut_to_convolution import selects_channels, shortcut_to_convolution
from edgelathe.compress.quantize.quantize import quantize

from ..conftest import images, model_from_text, run

SHORTCUT = """
option_a (float[N,3,8,8] x) => (float[N,10] y) {
  c = Conv <pads = [1,1,1,1]> (x, w0)
  r = Relu (c)
  starts = Constant <value = int64[2] {0, 0}> ()
  ends = Constant <value = int64[2] {8, 9223372036854775807}> ()
  axes = Constant <value = int64[2] {2, 3}> ()
  steps = Constant <value = int64[2] {2, 2}> ()
  s = Slice (r, starts, ends, axes, steps)
  amounts = Constant <value = int64[8] {0, 1, 0, 0, 0, 3, 0, 0}> ()
  p = Pad (s, amounts)
  d = Conv <pads = [1,1,1,1], strides = [2,2]> (r, w1)
  a = Add (d, p)
  g = GlobalAveragePool (a)
  f = Flatten (g)
  y = Gemm <transB = 1> (f, w2)
}
"""
WEIGHTS = {"w0": (4, 3, 3, 3), "w1": (8, 4, 3, 3), "w2": (10, 8)}


def test_the_function_stays_the_same() -> None:
    model = ir.from_proto(onnx.shape_inference.infer_shapes(model_from_text(SHORTCUT, WEIGHTS, seed=0)))
    inputs = images(3, (3, 8, 8), seed=0)
    wanted = run(model, inputs)
    assert shortcut_to_convolution(model) == 1
    assert not {"Slice", "Pad"} & {node.op_type for node in model.graph}
    np.testing.assert_allclose(run(model, inputs), wanted, rtol=1e-6, atol=1e-6)


def test_in_int8_it_copies_codes_exactly(tmp_path: Path) -> None:
    onnx.save(model_from_text(SHORTCUT, WEIGHTS, seed=0), tmp_path / "float.onnx")
    inputs = images(16, (3, 8, 8), seed=1)
    quantize(tmp_path / "float.onnx", tmp_path / "int8.onnx", inputs)
    model = onnx.load(tmp_path / "int8.onnx")
    for name in ("r_quantized", "p_quantized"):
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None))
    del model.graph.output[0]
    options_off = _all_outputs(model, inputs)
    source, copied = options_off["r_quantized"], options_off["p_quantized"]
    assert np.array_equal(copied[:, 1:5], source[:, :, ::2, ::2])
    assert source.max() > 200


def _all_outputs(model: onnx.ModelProto, inputs: np.ndarray) -> dict[str, np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": inputs}), strict=True))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{0, 0}> ()", "{1, 0}> ()"),
        ("steps = Constant <value = int64[2] {2, 2}>", "steps = Constant <value = int64[2] {2, 4}>"),
        ("{0, 1, 0, 0, 0, 3, 0, 0}", "{0, 1, 1, 0, 0, 3, 0, 0}"),
    ],
    ids=["a cut", "two steps", "padding of the image"],
)
def test_other_slices_and_pads_are_left_alone(old: str, new: str) -> None:
    model = model_from_text(SHORTCUT.replace(old, new, 1).replace("a = Add (d, p)", "a = Relu (d)"), WEIGHTS, seed=0)
    changed = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    assert shortcut_to_convolution(changed) == 0


def test_only_a_selection_is_one(tmp_path: Path) -> None:
    onnx.save(model_from_text(SHORTCUT, WEIGHTS, seed=0), tmp_path / "float.onnx")
    convolutions = [node for node in prepare(tmp_path / "float.onnx").graph if node.op_type == "Conv"]
    assert [selects_channels(node) for node in convolutions] == [False, True, False]
