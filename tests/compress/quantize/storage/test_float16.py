from __future__ import annotations

import numpy as np
from edgelathe.compress.quantize.storage.float16 import float16
from edgelathe.compress.quantize.storage.weight_only import Encoded
from hypothesis import given
from hypothesis import strategies as st


@given(size=st.floats(-3, 4), seed=st.integers(0, 10**6))
def test_eleven_bits_are_kept(size: float, seed: int) -> None:
    weight = (10**size * np.random.default_rng(seed).uniform(0.1, 1.0, (5, 7))).astype(np.float32)
    found = float16(weight, 0)
    assert isinstance(found, Encoded)
    assert found.codes.dtype == np.float16
    assert found.scales is None
    assert np.all(np.abs(found.decoded() - weight) <= 2.0**-11 * weight)
    assert found.error <= 2.0**-11


def test_what_float16_cannot_hold_is_left_with_the_reason() -> None:
    assert isinstance(float16(np.full((2, 2), 65504.0, np.float32), 0), Encoded)
    assert float16(np.array([1.0, -70000.0], np.float32), 0) == "its largest weight, 7e+04, is beyond float16"
