from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from edgelathe.bench.graph import inspect_graph, macs_by_node

HEAD = '<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>\n'


@pytest.mark.parametrize(("depth", "millions"), [(20, 40.6), (32, 68.9), (44, 97.2), (56, 125.5), (110, 252.9)])
def test_cifar_resnets_have_the_published_macs(resnet_file: Callable[..., Path], depth: int, millions: float) -> None:
    facts = inspect_graph(resnet_file(depth))
    assert round(facts.macs / 1e6, 1) == millions
    assert facts.notes == ()


def test_mobilenet_v1_has_the_published_macs(test_data: Path) -> None:
    facts = inspect_graph(test_data / "weights/imagenet/mobilenet_v1_0.75_224.onnx")
    assert facts.macs == 325_400_448
    # 2,585,560 as published counts scale and shift of 27 batch norms; folding leaves one of the two (8,208).
    assert facts.parameters == 2_585_560 - 8_208
    assert facts.int8_macs == 0


# Each case: the graph after "g", MACs by hand at batch 1.
CASES = {
    "grouped convolution": (
        "(float[n,4,8,8] x) => (float[n,6,4,4] y) <float[6,2,3,3] w> "
        "{ y = Conv<group=2, strides=[2,2], pads=[1,1,1,1]>(x, w) }",
        4 * 4 * 6 * 2 * 9,
    ),
    "depthwise convolution": (
        "(float[n,4,8,8] x) => (float[n,4,8,8] y) <float[4,1,3,3] w> { y = Conv<group=4, pads=[1,1,1,1]>(x, w) }",
        8 * 8 * 4 * 9,
    ),
    "transposed convolution": (
        "(float[n,4,5,5] x) => (float[n,6,10,10] y) <float[4,6,2,2] w> { y = ConvTranspose<strides=[2,2]>(x, w) }",
        5 * 5 * 4 * 6 * 4,
    ),
    "Gemm": (
        "(float[n,7] x) => (float[n,3] y) <float[3,7] w, float[3] b> { y = Gemm<transB=1>(x, w, b) }",
        21,
    ),
    "Gemm with a transposed input": (
        "(float[7,1] x) => (float[1,3] y) <float[7,3] w> { y = Gemm<transA=1>(x, w) }",
        21 // 7,  # a fixed "batch" of 7 is divided out
    ),
    "batched MatMul": (
        "(float[n,2,5,7] x, float[n,2,7,3] z) => (float[n,2,5,3] y) { y = MatMul(x, z) }",
        2 * 5 * 3 * 7,
    ),
    "integer convolution": (
        "(uint8[n,4,8,8] x) => (int32[n,6,8,8] y) <int8[6,4,1,1] w> { y = ConvInteger(x, w) }",
        8 * 8 * 6 * 4,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_macs_by_hand(name: str, save_text: Callable[[str], Path]) -> None:
    graph, macs = CASES[name]
    facts = inspect_graph(save_text(f"{HEAD} g {graph}"))
    assert facts.macs == macs
    assert facts.int8_macs == (macs if "integer" in name else 0)


QUANTIZED = """
    g (float[n,4,8,8] x) => (float[n,3,8,8] y)
    <float s = {0.1}, uint8 z = {128}, float[3] ws = {0.1, 0.1, 0.1}, int8[3] wz = {0, 0, 0},
     int8[3,4,1,1] w, float[3,4,1,1] wf>
    {
        xq = QuantizeLinear(x, s, z)
        xd = DequantizeLinear(xq, s, z)
        wd = DequantizeLinear<axis=0>(w, ws, wz)
        y = Conv(%s, %s)
    }
"""


@pytest.mark.parametrize(
    ("left", "right", "int8"),
    [("xd", "wd", True), ("x", "wd", False), ("xd", "wf", False), ("x", "wf", False)],
)
def test_int8_needs_both_sides_dequantized(save_text: Callable[[str], Path], left: str, right: str, int8: bool) -> None:
    path = save_text(HEAD + QUANTIZED % (left, right))
    (node,) = macs_by_node(path)
    assert (node.op, node.macs, node.int8) == ("Conv", 8 * 8 * 3 * 4, int8)
    assert inspect_graph(path).int8_macs == (768 if int8 else 0)


def test_sixteen_bit_operands_are_not_int8(save_text: Callable[[str], Path]) -> None:
    text = QUANTIZED.replace("uint8 z = {128}", "uint16 z = {128}")
    path = save_text(HEAD.replace('"" : 20', '"" : 21') + text % ("xd", "wd"))
    assert [node.int8 for node in macs_by_node(path)] == [False]


def test_operators_that_cannot_be_counted_are_noted(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        HEAD + 'g (float[n,3] x, float[3,4] z) => (float[n,4] y) { y = Einsum<equation="ij,jk->ik">(x, z) }'
    )
    facts = inspect_graph(path)
    assert facts.macs == 0
    assert facts.notes == ('MACs of Einsum "y" are not counted',)


def test_a_shape_that_depends_on_values_is_noted(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        HEAD
        + """g (float[n,3] x) => (float[m,2] y) <float[1,2] w, int64[1] k = {0}>
        { i = NonZero(x)  f = Cast<to=1>(i)  t = Transpose(f)  c = Gather<axis=1>(t, k)  y = MatMul(c, w) }"""
    )
    facts = inspect_graph(path)
    assert facts.notes == (
        'MACs of MatMul "y" are not counted: its shapes are unknown',
        "the activation peak leaves out 5 tensors of unknown shape",
    )


def test_both_branches_of_an_if_are_counted(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        HEAD
        + """g (bool c, float[n,3] x) => (float[n,4] y) <float[3,4] w> {
            y = If(c) <then_branch = a () => (float[n,4] p) { p = MatMul(x, w) },
                       else_branch = b () => (float[n,4] q) { q = MatMul(x, w) }>
        }"""
    )
    facts = inspect_graph(path)
    assert facts.macs == 24
    assert facts.parameters == 12
    assert facts.ops == {"If": 1, "MatMul": 2}
    assert facts.notes == ("operators inside If, Loop and Scan are counted once",)
