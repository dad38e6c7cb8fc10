from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from edgelathe.compress.quantize.apply import apply_plan
from edgelathe.compress.quantize.builder import Builder, Planned, Scheme
from edgelathe.compress.quantize.learning.adaround import FreeRounding, SoftRounding
from edgelathe.compress.quantize.learning.simulation import Simulation, batch_size, within_pairs
from edgelathe.compress.quantize.placing.saturation import saturation_report
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ..conftest import decibels, images, run

CALIBRATION = images(64, (3, 8, 8), seed=1)


def planned(path: Path, target: str = "x86-vnni") -> Planned:
    return Builder(path, CALIBRATION, target=target).planned(Scheme("minmax"))


@pytest.fixture
def toy(residual: onnx.ModelProto, save: Callable[[onnx.ModelProto], Path]) -> Planned:
    return planned(save(residual))


def test_computes_what_the_int8_file_computes(toy: Planned) -> None:
    x = images(16, (3, 8, 8), seed=2)
    simulated = Simulation(toy.prepared, toy.plan).graph(torch.from_numpy(x)).detach().numpy()
    assert decibels(run(apply_plan(toy.prepared, toy.plan), x), simulated) > 45.0
    assert decibels(run(toy.prepared, x), simulated) < 45.0, "it rounds nothing"


@pytest.mark.parametrize("kind", [SoftRounding, FreeRounding])
def test_what_is_learned_and_settled_is_what_the_file_holds(
    toy: Planned, kind: type[SoftRounding] | type[FreeRounding]
) -> None:
    x = images(16, (3, 8, 8), seed=3)
    simulation = Simulation(toy.prepared, toy.plan)
    simulation.learn(simulation.learnable, kind)
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for rounding in simulation.roundings.values():
            rounding.v.add_(torch.randn(rounding.v.shape, generator=random) * 2)
        for bias in simulation.biases.values():
            bias.add_(0.1)
    simulation.settle(simulation.learnable)
    written = simulation.to_ir()
    settled = simulation.graph(torch.from_numpy(x)).detach().numpy()
    assert decibels(run(apply_plan(written, toy.plan), x), settled) > 45.0
    assert decibels(run(apply_plan(toy.prepared, toy.plan), x), settled) < 30.0, "nothing was learned"


def test_settled_weights_keep_sums_of_pairs_from_saturating(
    residual: onnx.ModelProto, save: Callable[[onnx.ModelProto], Path]
) -> None:
    toy = planned(save(residual), "x86-avx2")
    simulation = Simulation(toy.prepared, toy.plan)
    simulation.learn(simulation.learnable, FreeRounding)
    with torch.no_grad():
        for rounding in simulation.roundings.values():
            rounding.v.mul_(1.5)
    simulation.settle(simulation.learnable)
    assert [layer.saturating for layer in saturation_report(simulation.to_ir(), toy.plan)] == [0] * 4


@given(arrays(np.int8, (4, 7), elements=st.integers(-127, 127)), st.sampled_from([0, 1]))
def test_within_pairs_cuts_only_what_is_too_much(codes: np.ndarray, axis: int) -> None:
    cut = within_pairs(torch.from_numpy(codes.astype(np.float32)), axis, 128).numpy()
    for before, after in zip(np.moveaxis(codes, axis, 0).astype(int), np.moveaxis(cut, axis, 0), strict=True):
        for sign in (1, -1):
            assert np.sort(np.maximum(sign * after, 0))[-2:].sum() <= 128
        assert (np.abs(after) <= np.abs(before)).all()
        assert (after == before)[np.abs(before) <= 1].all()
        if max(np.sort(np.maximum(sign * before, 0))[-2:].sum() for sign in (1, -1)) <= 128:
            assert (after == before).all()


def test_graphs_of_a_fixed_batch_are_run_by_it(toy: Planned) -> None:
    assert batch_size(toy.prepared, 32) == 32
    toy.prepared.graph.inputs[0].shape = type(toy.prepared.graph.inputs[0].shape)([4, 3, 8, 8])  # type: ignore[misc]
    assert batch_size(toy.prepared, 32) == 4
