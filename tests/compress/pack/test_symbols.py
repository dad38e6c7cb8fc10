from __future__ import annotations

import numpy as np
import pytest
from edgelathe.compress.pack.symbols import Kind, heights, shape_of_symbols, to_bytes, to_symbols
from onnx import TensorProto

DTYPES = {
    TensorProto.INT8: np.int8,
    TensorProto.UINT8: np.uint8,
    TensorProto.BOOL: np.uint8,
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
    TensorProto.DOUBLE: np.float64,
    TensorProto.INT32: np.int32,
    TensorProto.UINT16: np.uint16,
    TensorProto.INT64: np.int64,
}


@pytest.mark.parametrize("type_", DTYPES)
def test_bytes_come_back(type_: int) -> None:
    raw = np.random.default_rng(0).integers(0, 120, (6, 7)).astype(DTYPES[type_]).tobytes()
    found = to_symbols(raw, (6, 7), type_)
    assert found is not None
    assert found.values.shape == (6, 7)
    assert found.values.max() < len(found.heights)
    assert to_bytes(found.kind, found.values, type_, found.codebook) == raw


def test_bits_that_compare_equal_or_not_at_all_come_back_as_they_are() -> None:
    raw = np.array([0.0, -0.0, np.nan, np.inf], np.float32).tobytes() + b"\x01\x00\xc0\xff"  # another NaN
    found = to_symbols(raw, (5,), TensorProto.FLOAT)
    assert found is not None
    assert len(found.heights) == 5
    assert to_bytes("codebook", found.values, TensorProto.FLOAT, found.codebook) == raw


@pytest.mark.parametrize("type_", [TensorProto.INT4, TensorProto.UINT4])
def test_halves_of_bytes_come_low_half_first(type_: int) -> None:
    found = to_symbols(bytes([0x21, 0xF8]), (2, 2), type_)
    assert found is not None
    assert found.kind == "nibbles"
    np.testing.assert_array_equal(found.values, [[1, 2], [8, 15]])
    assert to_bytes("nibbles", found.values, type_, b"") == bytes([0x21, 0xF8])


def test_an_odd_number_of_halves_keeps_the_last_one() -> None:
    found = to_symbols(bytes([0x21, 0x08]), (3,), TensorProto.INT4)
    assert found is not None
    assert found.values.shape == (4,)
    assert to_bytes("nibbles", found.values, TensorProto.INT4, b"") == bytes([0x21, 0x08])


@pytest.mark.parametrize(
    ("kind", "type_", "codebook", "expected"),
    [
        ("bytes", TensorProto.INT8, b"", {0: 0, 1: 1, 127: 127, 128: -128, 255: -1}),
        ("bytes", TensorProto.UINT8, b"", {0: -128, 128: 0, 255: 127}),
        ("nibbles", TensorProto.INT4, b"", {0: 0, 7: 112, 8: -128, 15: -16}),
        ("nibbles", TensorProto.UINT4, b"", {0: -128, 8: 0, 15: 112}),
        ("codebook", TensorProto.FLOAT, np.array([-1.0, 0.25, 2.0], "<f4").tobytes(), {0: -64, 1: 16, 2: 127}),
        ("codebook", TensorProto.FLOAT, np.array([np.nan, 1.0], "<f4").tobytes(), {0: 0, 1: 0}),
    ],
)
def test_heights_are_in_proportion_to_values(kind: Kind, type_: int, codebook: bytes, expected: dict[int, int]) -> None:
    found = heights(kind, type_, codebook)
    assert {symbol: int(found[symbol]) for symbol in expected} == expected
    assert found.min() >= -128
    assert found.max() <= 127


def test_what_has_no_small_alphabet_is_left() -> None:
    assert to_symbols(np.arange(513, dtype="<f4").tobytes(), (513,), TensorProto.FLOAT) is None
    assert to_symbols(b"abc", (1,), TensorProto.FLOAT) is None
    assert to_symbols(b"", (0,), TensorProto.FLOAT) is None
    assert to_symbols(b"words", (5,), TensorProto.STRING) is None
    assert to_symbols(b"\x01\x02", (1,), TensorProto.BFLOAT16) is None


def test_a_shape_that_bytes_do_not_fill_is_not_believed() -> None:
    assert shape_of_symbols("bytes", 12, (3, 4), TensorProto.INT8) == (3, 4)
    assert shape_of_symbols("bytes", 12, (3, 5), TensorProto.INT8) == (12,)
    assert shape_of_symbols("codebook", 12, (2**40, 2**40), TensorProto.FLOAT) == (3,)
    assert shape_of_symbols("bytes", 1, (), TensorProto.INT8) == (1,)
