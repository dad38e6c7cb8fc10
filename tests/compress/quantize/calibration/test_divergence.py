from __future__ import annotations

import numpy as np
import pytest
from edgelathe.compress.quantize.calibration.divergence import _divergences, _without_zero, entropy
from edgelathe.compress.quantize.calibration.histogram import Histogram

from .test_ranges import histogram


def plainly(found: Histogram, low: float, high: float) -> float:
    """KL(P, Q) bin by bin, as the definition says it."""
    width, counts = 2.0**found.exponent, _without_zero(found)
    begin = max(0, int(np.floor(low / width)) - found.first)
    end = min(len(counts), int(np.ceil(high / width)) - found.first)
    p = counts[begin:end].copy()
    p[0] += counts[:begin].sum()
    p[-1] += counts[end:].sum()
    uncut, q = counts[begin:end], np.zeros(end - begin)
    scale = float(np.float32((max(high, 0) - min(low, 0)) / 255))
    middles = (found.first + np.arange(begin, end) + 0.5) * width
    codes = np.clip(np.floor(middles / scale + 0.5) + np.rint(-min(low, 0) / scale), 0, 255)
    for code in np.unique(codes):
        members = (codes == code) & (p > 0)
        q[members] = uncut[codes == code].sum() / max(1, members.sum())
    p, q = p / p.sum(), q / q.sum()
    full = p > 0
    with np.errstate(divide="ignore"):
        return float((p[full] * np.log(p[full] / q[full])).sum())


@pytest.mark.parametrize("seed", range(4))
def test_the_divergence_is_the_definitions(seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(df=4, size=5000)
    found = histogram(np.maximum(values, 0) if seed % 2 else values)
    for cut in (1.0, 2.5, 6.0):
        low, high = max(found.low, -cut), min(found.high, cut)
        got = _divergences(_without_zero(found), found.first, 2.0**found.exponent, np.array([low]), np.array([high]))
        assert got[0] == pytest.approx(plainly(found, low, high), rel=1e-6, abs=1e-9)


def test_long_tails_are_cut_and_flat_ones_kept() -> None:
    rng = np.random.default_rng(0)
    tails = histogram(np.concatenate([rng.normal(size=10**6), [60.0, -50.0]]))
    low, high = entropy(tails)
    assert 2.5 < high < 20.0
    assert -20.0 < low < -2.5
    flat = histogram(rng.uniform(0, 1, 10**6))
    assert entropy(flat)[1] > 0.98


def test_zeros_after_a_relu_do_not_decide() -> None:
    values = np.abs(np.random.default_rng(1).normal(size=200_000))
    with_zeros = np.concatenate([values, np.zeros(2_000_000)])
    assert entropy(histogram(with_zeros))[1] == pytest.approx(entropy(histogram(values))[1], rel=0.1)
