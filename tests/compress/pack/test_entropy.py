from __future__ import annotations

import sys

import numpy as np
import pytest
from edgelathe.compress.pack.contexts import Contexts
from edgelathe.compress.pack.entropy import coder, decode, encode
from edgelathe.errors import EdgeLatheError
from hypothesis import given, settings
from hypothesis import strategies as st

EVERY = np.arange(-128, 128)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4).map(tuple),
    st.integers(1, 300),
    st.integers(0, 2**32 - 1),
)
def test_decode_gives_what_was_encoded(shape: tuple[int, ...], alphabet: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    heights = random.integers(-128, 128, alphabet)
    symbols = random.integers(0, alphabet, shape)
    writing, reading = Contexts(), Contexts()
    data = encode(symbols, heights, writing)
    np.testing.assert_array_equal(decode(data, shape, heights, reading), symbols)
    np.testing.assert_array_equal(reading.counts, writing.counts)


def test_independent_values_take_little_more_than_their_entropy() -> None:
    random = np.random.default_rng(0)
    share = np.exp(-np.abs(EVERY) / 12)
    share /= share.sum()
    symbols = random.choice(256, (64, 64, 3, 3), p=share)
    entropy = -np.log2(share[symbols]).sum() / 8
    assert entropy < len(encode(symbols, EVERY, Contexts())) < 1.02 * entropy


def test_kernels_of_different_size_take_less_than_the_entropy_of_all_values() -> None:
    random = np.random.default_rng(0)
    sizes = random.choice([0.5, 30.0], (64, 32, 1, 1))
    values = np.clip(np.rint(random.laplace(0, sizes, (64, 32, 3, 3))), -128, 127).astype(np.int64)
    share = np.bincount(values.ravel() + 128, minlength=256) / values.size
    entropy = -np.log2(share[values + 128]).sum() / 8
    assert len(encode(values + 128, EVERY, Contexts())) < 0.97 * entropy


def test_one_value_takes_no_bytes() -> None:
    assert encode(np.zeros((4, 9), np.int64), np.zeros(1, np.int64), Contexts()) == b""
    np.testing.assert_array_equal(decode(b"", (4, 9), np.zeros(1, np.int64), Contexts()), np.zeros((4, 9)))


@pytest.mark.parametrize("data", [b"abc", b"\xff" * 8])
def test_bytes_that_no_encoder_writes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="coded bytes"):
        decode(data, (40,), EVERY, Contexts())
    with pytest.raises(ValueError, match="coded bytes"):
        decode(data, (40,), np.zeros(1, np.int64), Contexts())


def test_without_the_library_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert coder().startswith("constriction ")
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(EdgeLatheError, match="pip install constriction"):
        coder()
