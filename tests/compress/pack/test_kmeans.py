from __future__ import annotations

import numpy as np
from edgelathe.compress.pack.kmeans import kmeans, linear_centroids
from hypothesis import given, settings
from hypothesis import strategies as st

numbers = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=60)


def test_the_first_centroids_are_evenly_spaced_from_the_least_to_the_largest() -> None:
    np.testing.assert_allclose(linear_centroids(-1.0, 2.0, 4), [-1.0, 0.0, 1.0, 2.0])
    np.testing.assert_allclose(linear_centroids(-1.0, 2.0, 1), [0.5])


def test_two_heaps_by_hand() -> None:
    found = kmeans(np.array([[10.0, 0.0], [1.0, 9.0]]), 2)
    np.testing.assert_allclose(found.centroids, [0.5, 9.5])
    np.testing.assert_array_equal(found.indices, [[1, 0], [0, 1]])
    # first centroids 0 and 10: 1 + 1; then four errors of 0.5
    np.testing.assert_allclose(found.errors[0], 2.0)
    np.testing.assert_allclose(found.errors[-1], 1.0)


def test_a_centroid_without_members_stays_where_it_is() -> None:
    found = kmeans(np.array([0.0, 0.0, 4.0]), 5)
    np.testing.assert_allclose(found.centroids, [0.0, 1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(found.indices, [0, 0, 4])


@settings(max_examples=60, deadline=None)
@given(numbers, st.integers(1, 9))
def test_the_error_never_rises_and_centroids_lie_within_the_values(values: list[float], count: int) -> None:
    array = np.array(values, np.float32)
    found = kmeans(array, count)
    falling = np.array(found.errors)
    assert (falling[1:] <= falling[:-1] * (1 + 1e-12) + 1e-9).all()
    assert found.centroids.shape == (count,)
    assert (np.diff(found.centroids) >= 0).all()
    assert found.centroids.min() >= array.min()
    assert found.centroids.max() <= array.max()


@settings(max_examples=60, deadline=None)
@given(numbers, st.integers(1, 9))
def test_every_value_has_its_nearest_centroid(values: list[float], count: int) -> None:
    array = np.array(values, np.float32)
    found = kmeans(array, count)
    distances = np.abs(array[:, None].astype(np.float64) - found.centroids)
    chosen = distances[np.arange(len(array)), found.indices]
    np.testing.assert_allclose(chosen, distances.min(axis=1), atol=1e-9)
    np.testing.assert_allclose(np.square(chosen).sum(), found.errors[-1], rtol=1e-9, atol=1e-9)


def test_steps_end_early_where_they_are_few() -> None:
    values = np.random.default_rng(0).standard_normal(500)
    short, whole = kmeans(values, 16, steps=1), kmeans(values, 16)
    assert len(short.errors) == 2
    assert len(whole.errors) > 5
    assert whole.errors[-1] < short.errors[-1] < short.errors[0]
