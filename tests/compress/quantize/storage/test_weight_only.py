from __future__ import annotations

import numpy as np
import pytest
from edgelathe.compress.quantize.storage.weight_only import Encoded, int4_blocks, int8_channels
from hypothesis import given
from hypothesis import strategies as st


def weights(shape: tuple[int, ...], seed: int, spread: float = 1.0) -> np.ndarray:
    """Normal, each channel along the first axis of another size."""
    random = np.random.default_rng(seed)
    sizes = np.exp(spread * random.standard_normal((shape[0], *[1] * (len(shape) - 1))))
    return (random.standard_normal(shape) * sizes).astype(np.float32)


def relative(encoded: Encoded, weight: np.ndarray) -> float:
    return float(np.sqrt(np.mean((encoded.decoded() - weight) ** 2) / np.mean(weight**2)))


@given(
    shape=st.sampled_from([(4, 3, 3, 3), (6, 40), (2, 5, 7), (3, 3)]),
    axis=st.integers(0, 1),
    seed=st.integers(0, 10**6),
)
def test_int8_is_off_by_half_a_step_at_most(shape: tuple[int, ...], axis: int, seed: int) -> None:
    weight = weights(shape, seed, spread=3.0)
    found = int8_channels(weight, axis)
    others = tuple(i for i in range(len(shape)) if i != axis)
    assert found.scales is not None
    assert found.codes.dtype == np.int8
    assert np.abs(found.codes.astype(int)).max() == 127
    assert found.scales.shape == tuple(size if i == axis else 1 for i, size in enumerate(shape))
    np.testing.assert_allclose(found.scales * 127, np.abs(weight).max(others, keepdims=True), rtol=1e-6)
    assert np.all(np.abs(found.decoded() - weight) <= found.scales * (0.5 + 1e-4))
    assert found.error == pytest.approx(relative(found, weight), rel=1e-5)


@given(seed=st.integers(0, 10**6), axis=st.sampled_from([0, -1]))
def test_int4_never_errs_more_than_rounding_to_fifteen_levels(seed: int, axis: int) -> None:
    """The scale that holds the largest weight at 7 is no candidate, yet the best one does at least as well."""
    weight = weights((8, 64), seed) if axis == 0 else weights((64, 8), seed)
    found = int4_blocks(weight, axis % 2)
    groups = weight.reshape(8, 2, 32) if axis == 0 else weight.reshape(2, 32, 8)
    along = 2 if axis == 0 else 1
    scales = np.abs(groups).max(axis=along, keepdims=True) / 7
    plain = np.sum((np.round(groups / scales) * scales - groups) ** 2)
    assert found.codes.dtype.name == "int4"
    assert found.codes.shape == groups.shape
    assert found.codes.astype(int).min() >= -8
    assert np.sum((found.decoded() - weight) ** 2) <= 1.02 * plain
    assert found.error == pytest.approx(relative(found, weight), rel=1e-5)


@pytest.mark.parametrize(
    ("shape", "axis", "codes"),
    [
        ((6, 16, 3, 3), 0, (6, 6, 24)),
        ((6, 64, 1, 1), 0, (6, 2, 32)),
        ((6, 37), 0, (6, 1, 37)),
        ((6, 3, 7, 7), 0, (6, 7, 21)),
        ((96, 10), 1, (3, 32, 10)),
        ((2, 48, 10), 2, (2, 2, 24, 10)),
    ],
)
def test_blocks_divide_the_weights_of_a_channel(shape: tuple[int, ...], axis: int, codes: tuple[int, ...]) -> None:
    weight = weights(shape, seed=1)
    found = int4_blocks(weight, axis)
    assert found.codes.shape == codes
    assert found.shape == found.decoded().shape == shape
    assert relative(found, weight) < 0.15


@pytest.mark.parametrize(("shape", "axis"), [((32, 1, 3, 3), 0), ((8, 12), 0), ((12, 8), 1), ((16, 16, 3, 3), 1)])
def test_where_channels_are_narrower_than_a_block_int4_becomes_int8(shape: tuple[int, ...], axis: int) -> None:
    found = int4_blocks(weights(shape, seed=2), axis)
    assert found.codes.dtype == np.int8


@pytest.mark.parametrize("encode", [int8_channels, int4_blocks])
def test_zeros_stay_zeros(encode) -> None:  # type: ignore[no-untyped-def]
    found = encode(np.zeros((4, 32), np.float32), 0)
    assert not found.decoded().any()
    assert found.error == 0.0
    weight = np.ones((4, 32), np.float32)
    weight[1] = 0
    np.testing.assert_array_equal(encode(weight, 0).decoded(), weight)
