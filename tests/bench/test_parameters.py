from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgelathe.bench.graph import inspect_graph
from edgelathe.bench.parameters import count_bytes, count_ops, count_parameters
from onnx import numpy_helper

HEAD = '<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>\n'


def load(path: Path) -> onnx.ModelProto:
    return onnx.load_model(path)


@pytest.mark.parametrize(
    ("depth", "published", "channels"),
    # Published counts hold scale and shift of each batch norm; folding leaves one value per channel.
    [(20, 269_722, 688), (32, 464_154, 1_136), (56, 853_018, 2_032)],
)
def test_cifar_resnets_have_the_published_parameters(
    resnet_file: Callable[..., Path], depth: int, published: int, channels: int
) -> None:
    assert count_parameters(load(resnet_file(depth))) == published - channels


def test_quantized_weights_count_and_their_scales_do_not(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        HEAD
        + """g (float[n,4] x) => (float[n,3] y)
        <float s = {0.1}, uint8 z = {0}, float[3] ws, int8[3] wz, int8[4,3] w, int32[3] b, float[3] bs>
        {
            xq = QuantizeLinear(x, s, z)
            xd = DequantizeLinear(xq, s, z)
            wd = DequantizeLinear<axis=1>(w, ws, wz)
            bd = DequantizeLinear<axis=0>(b, bs)
            y = Gemm(xd, wd, bd)
        }"""
    )
    assert count_parameters(load(path)) == 4 * 3 + 3
    assert count_bytes(load(path)) == {"float32": 4 * (1 + 3 + 3), "int32": 12, "int8": 12 + 3, "uint8": 1}


def test_operator_format_counts_like_qdq_format(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        HEAD
        + """g (uint8[n,4,8,8] x) => (uint8[n,3,8,8] y)
        <float s, uint8 z, float[3] ws, int8[3] wz, int8[3,4,1,1] w, int32[3] b>
        { y = QLinearConv(x, s, z, w, ws, wz, s, z, b) }"""
    )
    facts = inspect_graph(path)
    assert facts.parameters == 15
    assert facts.macs == facts.int8_macs == 8 * 8 * 12


def test_settings_statistics_and_bare_constants_are_no_parameters(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        HEAD
        + """g (float[n,4,8,8] x) => (float[n,4,16] y)
        <float[4] scale, float[4] shift, float[4] mean, float[4] var, float low = {0.0}, float high = {6.0},
         float sixth = {0.1667}, int64[3] shape = {0, 4, -1}, float[4,1,1] slope>
        {
            a = BatchNormalization(x, scale, shift, mean, var)
            b = Clip(a, low, high)
            c = Mul(b, sixth)
            d = PRelu(c, slope)
            e = MaxPool<kernel_shape=[2,2], strides=[2,2]>(d)
            y = Reshape(e, shape)
        }"""
    )
    assert count_parameters(load(path)) == 4 + 4 + 4


def test_a_shared_weight_counts_once_and_an_unused_one_not(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        HEAD
        + """g (float[n,4] x) => (float[n,4] y) <float[4,4] w, float[7] idle>
        { h = MatMul(x, w)  y = MatMul(h, w) }"""
    )
    assert count_parameters(load(path)) == 16
    assert count_bytes(load(path)) == {"float32": 4 * 23}


def test_weights_in_constant_nodes_count(save_text: Callable[[str], Path]) -> None:
    path = save_text(HEAD + "g (float[n,4] x) => (float[n,3] y) <float[4,3] w> { y = MatMul(x, w) }")
    model = load(path)
    value = onnx.helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(np.ones((4, 3), np.float32)))
    del model.graph.initializer[:]
    model.graph.node.insert(0, value)
    assert count_parameters(model) == 12
    assert count_bytes(model) == {"float32": 48}
    assert count_ops(model.graph) == {"Constant": 1, "MatMul": 1}


def test_ops_of_another_domain_carry_it(save_text: Callable[[str], Path]) -> None:
    path = save_text(HEAD + "g (float[n,4] x) => (float[n,4] y) { a = Relu(x)  y = com.microsoft.Gelu(a) }")
    assert count_ops(load(path).graph) == {"Relu": 1, "com.microsoft.Gelu": 1}
