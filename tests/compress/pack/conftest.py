"""Small ONNX models with weights of every kind that is stored."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
toy (float[N,8,6,6] x) => (float[N,10] y) {
    a = Conv <pads = [1,1,1,1]> (x, w)
    r = Relu (a)
    g = GlobalAveragePool (r)
    f = Flatten (g)
    y = Gemm <transB = 1> (f, fc, c)
}"""


def toy_model(arrays: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    model = onnx.parser.parse_model(TEXT)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    w = random.laplace(0, 0.1, (32, 8, 3, 3)).astype(np.float32)
    w[np.abs(w) < 0.05] = 0
    return {
        "w": w,
        "fc": random.standard_normal((10, 32)).astype(np.float32),
        "c": random.standard_normal(10).astype(np.float32),
    }


@pytest.fixture
def float_model(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    return toy_model(weights)


@pytest.fixture
def int8_model(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Weights in int8 behind DequantizeLinear, and tensors of other types as attributes and initializers."""
    codes = {f"{name}_q": np.rint(weights[name] / np.abs(weights[name]).max() * 127) for name in ("w", "fc")}
    model = toy_model({"c": weights["c"]})
    for name in ("w", "fc"):
        model.graph.initializer.append(numpy_helper.from_array(codes[f"{name}_q"].astype(np.int8), f"{name}_q"))
        model.graph.initializer.append(numpy_helper.from_array(np.float32(0.01), f"{name}_s"))
        node = helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s"], [name])
        model.graph.node.insert(0, node)
    half = numpy_helper.from_array(np.linspace(0, 1, 300).astype(np.float16))
    model.graph.node.insert(0, helper.make_node("Constant", [], ["half"], value=half))
    four = helper.make_tensor("four", TensorProto.INT4, [8, 9], bytes(range(36)), raw=True)
    model.graph.initializer.append(four)
    return model
