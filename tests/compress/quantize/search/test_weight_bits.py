from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgelathe.compress.quantize.builder import Builder, Scheme
from edgelathe.compress.quantize.search.weight_bits import (
    LayerBits,
    coded_bytes,
    measure_bits,
    search_bits,
    spend_bytes,
)
from edgelathe.errors import EdgeLatheError
from hypothesis import given
from hypothesis import strategies as st

from ..conftest import decibels, images, run

SCHEME = Scheme("minmax", per_channel=True)


@pytest.fixture
def builder(residual: onnx.ModelProto, save: Callable[[onnx.ModelProto], Path]) -> Builder:
    return Builder(save(residual), images(32, (3, 8, 8), seed=1), target="x86-vnni")


def test_more_bits_mean_less_noise_and_more_bytes(builder: Builder) -> None:
    few = images(8, (3, 8, 8), seed=2)
    layers = measure_bits(builder.plain, builder.float_graph_plan(SCHEME), few, bits=(2, 4, 6, 8))
    assert len(layers) == 4
    for options in layers.values():
        assert [option.bits for option in options] == [2, 4, 6, 8]
        noise = [option.noise for option in options]
        assert noise == sorted(noise, reverse=True)
        assert noise[0] > 100 * noise[-1] > 0
        sizes = [option.coded_bytes for option in options]
        assert sizes == sorted(sizes)


def test_one_layer_alone_brings_the_noise_that_its_file_brings(builder: Builder, residual: onnx.ModelProto) -> None:
    """The session whose weights are replaced computes what a model with those weights stored would."""
    few = images(8, (3, 8, 8), seed=2)
    plan = builder.float_graph_plan(SCHEME)
    layers = measure_bits(builder.plain, plan, few, bits=(3,))
    name = next(iter(layers))
    stored = next(tensor for tensor in residual.graph.initializer if tensor.name == "w0")
    weight = onnx.numpy_helper.to_array(stored)
    scales = np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / 3
    reference = run(residual, few)
    stored.CopyFrom(onnx.numpy_helper.from_array((np.round(weight / scales) * scales).astype(np.float32), "w0"))
    assert layers[name][0].noise == pytest.approx(10 ** (-decibels(reference, run(residual, few)) / 10), rel=1e-3)


def test_a_budget_is_kept_and_spent_where_it_helps(builder: Builder) -> None:
    few = images(8, (3, 8, 8), seed=2)
    plan = builder.float_graph_plan(SCHEME)
    found = search_bits(builder.plain, plan, few, budget=0.6, coding="packed")
    weights = {
        str(node.name): node.inputs[1].const_value.size for node in builder.plain.graph if node.name in plan.weights
    }
    assert sum(weights[name] * bits / 8 for name, bits in found.weight_bits.items()) == found.coded_bytes
    assert found.coded_bytes <= 0.6 * found.eight_bits_bytes == 0.6 * sum(weights.values())
    even = measure_bits(builder.plain, plan, few, bits=(4,), coding="packed")
    assert found.noise <= sum(options[0].noise for options in even.values())
    built = builder.build(SCHEME, weight_bits=found.weight_bits)
    for name, bits in found.weight_bits.items():
        assert built.plan.weights[name].limit == 2 ** (bits - 1) - 1


def test_a_budget_below_the_fewest_bits_is_refused(builder: Builder) -> None:
    few = images(4, (3, 8, 8), seed=2)
    with pytest.raises(EdgeLatheError) as caught:
        search_bits(builder.plain, builder.float_graph_plan(SCHEME), few, budget=0.1, coding="packed")
    assert str(caught.value) == (
        "Cannot bring the weights to 0.1 of their size at eight bits: at the fewest bits they still take 0.25 of it;"
        " ask for at least that."
    )


def test_the_layer_that_hurts_least_gives_its_bits() -> None:
    layers = {
        "tough": (LayerBits("tough", 2, 25, 0.1), LayerBits("tough", 8, 100, 0.0)),
        "tender": (LayerBits("tender", 2, 25, 9.0), LayerBits("tender", 8, 100, 0.0)),
    }
    found = spend_bytes(layers, budget=0.7, coding="packed")
    assert found.weight_bits == {"tough": 2, "tender": 8}
    assert (found.coded_bytes, found.eight_bits_bytes, found.noise) == (125, 200, 0.1)


@given(st.lists(st.integers(-127, 127), min_size=1, max_size=200))
def test_entropy_never_exceeds_packed_bytes(values: list[int]) -> None:
    codes = np.array(values, np.int8)
    assert 0 <= coded_bytes(codes, 8, "entropy") <= coded_bytes(codes, 8, "packed") + 1e-9


def test_entropy_of_even_and_constant_codes() -> None:
    assert coded_bytes(np.arange(16, dtype=np.int8).repeat(4), 8, "entropy") == pytest.approx(64 * 4 / 8)
    assert coded_bytes(np.zeros(99, np.int8), 8, "entropy") == 0.0
    assert coded_bytes(np.zeros(99, np.int8), 3, "packed") == 99 * 3 / 8
