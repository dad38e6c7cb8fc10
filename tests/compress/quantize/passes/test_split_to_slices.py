from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.passes.infer_shapes import infer_shapes
from edgelathe.compress.quantize.passes.split_to_slices import split_to_slices

from ..conftest import images, model_from_text, run

HALVES = "agraph (float[N,5,4,4] x) => (float[N,a,4,4] p, float[N,b,4,4] q)"


@pytest.mark.parametrize(
    "body",
    [
        "{ p, q = Split<axis = 1, num_outputs = 2>(x) }",
        "<int64[2] sizes = {1, 4}>{ p, q = Split<axis = 1>(x, sizes) }",
        "<int64[2] sizes = {2, 3}>{ p, q = Split<axis = -3>(x, sizes) }",
    ],
)
def test_parts_become_slices(body: str) -> None:
    before = model_from_text(HALVES + body, {}, seed=0)
    model = ir.from_proto(before)
    infer_shapes(model)
    assert split_to_slices(model) == 1
    assert [node.op_type for node in model.graph] == ["Slice", "Slice"]
    assert len({node.name for node in model.graph}) == 2
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    x = images(2, (5, 4, 4), seed=1)
    for part in ("p", "q"):
        np.testing.assert_array_equal(only(model, part, x), only(ir.from_proto(before), part, x))


def only(model: ir.Model, output: str, x: np.ndarray) -> np.ndarray:
    copy = model.clone()
    kept = next(value for value in copy.graph.outputs if value.name == output)
    copy.graph.outputs.clear()
    copy.graph.outputs.append(kept)
    return run(copy, x)


def test_sizes_known_at_run_time_only_stay() -> None:
    text = "agraph (float[N,5] x, int64[2] sizes) => (float[N,a] p, float[N,b] q) { p, q = Split<axis = 1>(x, sizes) }"
    model = ir.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> {text}'))
    assert split_to_slices(model) == 0
