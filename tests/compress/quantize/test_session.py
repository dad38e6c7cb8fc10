from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from edgelathe.compress.quantize.session import open_session

from .conftest import images, model_from_text

TWO_BRANCHES = """
branches (float[N, 25, 8, 8] input) => (float[N, 25, 8, 8] output, float[N, 25, 8, 8] left) {
    left = Conv <pads = [1, 1, 1, 1]> (input, a, c)
    right = Conv (input, b)
    sum = Add (left, right)
    output = Relu (sum)
}
"""


@pytest.fixture
def two_branches() -> ir.Model:
    return ir.from_proto(model_from_text(TWO_BRANCHES, {"a": (25, 25, 3, 3), "b": (25, 25, 1, 1), "c": (25,)}, seed=0))


def test_a_convolution_that_an_addition_reads_can_be_an_output(two_branches: ir.Model) -> None:
    x = images(2, (25, 8, 8), seed=0)
    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    as_written = onnxruntime.InferenceSession(ir.to_proto(two_branches).SerializeToString(), plain)
    for found, expected in zip(
        open_session(two_branches).run(None, {"input": x}), as_written.run(None, {"input": x}), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_model_keeps_its_weights(two_branches: ir.Model) -> None:
    before = ir.to_proto(two_branches).SerializeToString()
    open_session(two_branches)
    assert ir.to_proto(two_branches).SerializeToString() == before
