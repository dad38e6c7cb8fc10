from __future__ import annotations

import math

import numpy as np
import pytest
from edgelathe.bench.stats import (
    binomial_tail,
    bootstrap_clusters,
    bootstrap_median,
    mcnemar,
    percentile,
    quartiles,
    wilson,
)
from edgelathe.errors import EdgeLatheError
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    # Newcombe (1998), table I: 81/263, 15/148, 0/20, 1/29, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_newcombes_figures(correct: int, total: int, low: float, high: float) -> None:
    assert wilson(correct, total) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_surrounds_the_share_and_stays_in_range(case: tuple[int, int]) -> None:
    correct, total = case
    low, high = wilson(correct, total)
    assert 0 <= low <= correct / total <= high <= 1
    mirrored = wilson(total - correct, total)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-12)


def test_wilson_of_nothing_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 40), st.integers(0, 40), st.floats(0.01, 0.99))
def test_the_binomial_tail_is_the_sum_of_its_terms(trials: int, successes: int, share: float) -> None:
    terms = sum(math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(successes, trials + 1))
    assert binomial_tail(successes, trials, share) == pytest.approx(min(1.0, terms), abs=1e-9)


def test_the_binomial_tail_at_its_ends() -> None:
    assert [
        binomial_tail(0, 5, 0.3),
        binomial_tail(6, 5, 0.3),
        binomial_tail(2, 5, 0.0),
        binomial_tail(2, 5, 1.0),
    ] == [
        1.0,
        0.0,
        0.0,
        1.0,
    ]


@pytest.mark.parametrize(
    ("gained", "lost", "p"), [(0, 0, 1.0), (5, 5, 1.0), (0, 6, 2 / 64), (6, 0, 2 / 64), (1, 9, 22 / 1024)]
)
def test_mcnemar_by_hand(gained: int, lost: int, p: float) -> None:
    assert mcnemar(gained, lost) == pytest.approx(p, abs=1e-12)


def test_quartiles_of_five() -> None:
    assert quartiles([5.0, 1.0, 4.0, 2.0, 3.0]) == (2.0, 3.0, 4.0)


@pytest.mark.parametrize(("quantile", "needed"), [(0.5, 20), (0.9, 100), (0.99, 1000), (0.999, 10_000), (0.05, 200)])
def test_a_percentile_needs_ten_samples_beyond_it(quantile: float, needed: int) -> None:
    samples = np.arange(needed, dtype=np.float64)
    assert percentile(samples, quantile) == pytest.approx(quantile * (needed - 1), abs=1e-9)
    with pytest.raises(EdgeLatheError) as caught:
        percentile(samples[:-1], quantile)
    assert str(caught.value) == (
        f"Cannot give the {100 * quantile:g} % percentile of {needed - 1} samples: at least {needed} are "
        "needed to have ten beyond it; measure longer, or ask for the median."
    )


@pytest.mark.parametrize("quantile", [0.0, 1.0, 99.0])
def test_a_percentile_is_a_share(quantile: float) -> None:
    with pytest.raises(EdgeLatheError, match="must be between 0 and 1"):
        percentile([1.0] * 100, quantile)


def test_bootstrap_is_seeded() -> None:
    values = np.random.default_rng(3).normal(1, 0.1, 50)
    assert bootstrap_median(values, seed=1) == bootstrap_median(values, seed=1)
    assert bootstrap_median(values, seed=1)[1:] != bootstrap_median(values, seed=2)[1:]


def test_one_cluster_is_judged_by_its_values() -> None:
    values = np.random.default_rng(3).normal(1, 0.1, 50)
    assert bootstrap_clusters([values.tolist()], seed=1) == bootstrap_median(values, seed=1)


def test_clusters_of_unequal_length_count_alike() -> None:
    middle, low, high = bootstrap_clusters([[1.0] * 3, [2.0] * 9, [3.0] * 3], seed=0)
    assert (middle, low, high) == (2.0, 1.0, 3.0)


def test_the_interval_covers_the_truth_when_processes_differ() -> None:
    """A/A: six processes that differ by 1 %, eight rounds each that differ by 0.5 %."""
    random = np.random.default_rng(7)
    trials, clustered, naive = 200, 0, 0
    for _ in range(trials):
        values = 1 + random.normal(0, 0.01, (6, 1)) + random.normal(0, 0.005, (6, 8))
        _, low, high = bootstrap_clusters(values.tolist(), seed=0, resamples=500)
        clustered += low <= 1 <= high
        _, low, high = bootstrap_median(values.ravel(), seed=0, resamples=500)
        naive += low <= 1 <= high
    assert clustered / trials >= 0.88
    assert naive / trials <= 0.75
