"""More input channels, the same bits."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize import apply
from edgelathe.compress.quantize.passes.stem_channels import pad_stem_channels
from edgelathe.compress.quantize.quantize import quantize

from ..conftest import images, model_from_text, run


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_stem_computes_the_same_bits(channels: int, kernel: int, save, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    pads = [kernel // 2] * 4
    text = f"""agraph (float[N,{channels},9,9] x) => (float[N,16,5,5] y)
               {{ a = Conv <pads = {pads}, strides = [2, 2]> (x, w, b)
                  r = Relu (a) y = Conv (r, v) }}"""
    weights = {"w": (16, channels, kernel, kernel), "b": (16,), "v": (16, 16, 1, 1)}
    source, x = save(model_from_text(text, weights, seed=0)), images(8, (channels, 9, 9), seed=1)
    quantize(source, tmp_path / "padded.onnx", x)
    monkeypatch.setattr(apply, "pad_stem_channels", lambda model, multiple: 0)
    quantize(source, tmp_path / "plain.onnx", x)
    stem = onnx.load(tmp_path / "padded.onnx").graph
    shapes = {tensor.name: list(tensor.dims) for tensor in stem.initializer}
    assert shapes["r_weight_codes"] == [16, 4, kernel, kernel]
    np.testing.assert_array_equal(run(tmp_path / "padded.onnx", x), run(tmp_path / "plain.onnx", x))
    onnx.checker.check_model(str(tmp_path / "padded.onnx"), full_check=True)


@pytest.mark.parametrize(
    ("weight", "group"), [((8, 4, 3, 3), 1), ((8, 3, 1, 1), 1), ((3, 1, 3, 3), 3), ((8, 6, 3, 3), 1)]
)
def test_other_convolutions_stay(weight: tuple[int, ...], group: int, save, tmp_path) -> None:  # type: ignore[no-untyped-def]
    channels = weight[1] * group
    text = f"agraph (float[N,{channels},9,9] x) => (float[N,{weight[0]},a,b] y) {{ y = Conv <group = {group}> (x, w) }}"
    source = save(model_from_text(text, {"w": weight}, seed=0))
    quantize(source, tmp_path / "int8.onnx", images(8, (channels, 9, 9), seed=1))
    assert pad_stem_channels(ir.load(tmp_path / "int8.onnx"), 4) == 0
    assert "Pad" not in {node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node}
