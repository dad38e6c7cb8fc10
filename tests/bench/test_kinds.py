from __future__ import annotations

import onnx
import pytest
from edgelathe.bench.kinds import KINDS, kinds_of


def kinds(body: str) -> dict[str, str]:
    graph = onnx.parser.parse_graph(body)
    for node in graph.node:
        node.name = node.output[0]
    return kinds_of(graph)


def test_no_operator_has_two_kinds() -> None:
    listed = [op for ops in KINDS.values() for op in ops]
    assert len(listed) == len(set(listed))


def test_what_is_not_listed_is_its_own_kind() -> None:
    assert kinds("g (float[2] x) => (float[2] y) { a = Erf (x) y = Add (a, x) }") == {"a": "Erf", "y": "sum"}


@pytest.mark.parametrize("product", ["Mul (x, s)", "Mul (s, x)"])
def test_x_times_its_sigmoid_is_silu(product: str) -> None:
    found = kinds(f"g (float[2] x) => (float[2] y) {{ s = Sigmoid (x) y = {product} }}")
    assert found == {"s": "SiLU", "y": "SiLU"}


def test_another_values_sigmoid_is_a_gate() -> None:
    found = kinds("g (float[2] x, float[2] z) => (float[2] y) { s = Sigmoid (z) y = Mul (x, s) }")
    assert found == {"s": "sigmoid", "y": "product"}


def test_conversions_in_between_do_not_hide_a_silu() -> None:
    body = """g (uint8[2] c, float s, uint8 z) => (float[2] y) {
      x = DequantizeLinear (c, s, z)
      a = Sigmoid (x)
      q = QuantizeLinear (a, s, z)
      d = DequantizeLinear (q, s, z)
      x2 = DequantizeLinear (c, s, z)
      y = Mul (x2, d)
    }"""
    found = kinds(body)
    assert (found["a"], found["y"], found["q"]) == ("SiLU", "SiLU", "conversion")


def test_int8_silu_and_hard_swish() -> None:
    body = """g (uint8[2] x, float s, uint8 z) => (uint8[2] y) {
      a = QLinearSigmoid (x, s, z, s, z)
      y = QLinearMul (x, s, z, a, s, z, s, z)
    }"""
    assert kinds(body) == {"a": "SiLU", "y": "SiLU"}
    hard = "g (float[2] x) => (float[2] y) { s = HardSigmoid (x) y = Mul (x, s) }"
    assert set(kinds(hard).values()) == {"hard-swish"}
