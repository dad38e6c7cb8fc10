from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from edgelathe.compress.quantize.apply import apply_plan
from edgelathe.compress.quantize.builder import Planned
from edgelathe.compress.quantize.learning.learned_scales import LearnedScales
from edgelathe.compress.quantize.learning.network_reconstruction import LAYER_STEPS
from edgelathe.compress.quantize.learning.reconstruct import Granularity, Reconstructed, reconstruct
from edgelathe.compress.quantize.learning.simulation import Simulation
from edgelathe.compress.quantize.plan import WeightCodes
from edgelathe.errors import EdgeLatheError
from edgelathe.models.onnx_graph import constant

from ..conftest import images, run
from .test_simulation import CALIBRATION, planned

BITS3 = 3
"""Levels of weights on either side of 0: few enough for rounding to matter on a toy."""
STEPS: dict[Granularity, int] = {"layers": 120, "blocks": 120, "network": 160}
UNSEEN = images(256, (3, 8, 8), seed=9)


@pytest.fixture
def toy(residual: onnx.ModelProto, save: Callable[[onnx.ModelProto], Path]) -> Planned:
    made = planned(save(residual))
    coarse = {
        name: WeightCodes(tuple(scale * 127 / BITS3 for scale in codes.scales), codes.axis, BITS3)
        for name, codes in made.plan.weights.items()
    }
    return replace(made, plan=replace(made.plan, weights=coarse))


def _learn(toy: Planned, granularity: Granularity, **given: Any) -> Reconstructed:
    settings: dict[str, Any] = {"steps": STEPS.get(granularity), "threads": 1, "seed": 0}
    return reconstruct(
        toy.prepared, toy.placement, toy.plan, CALIBRATION, granularity=granularity, **{**settings, **given}
    )


def _error(toy: Planned, prepared: ir.Model, plan: Any) -> float:
    wanted = run(toy.prepared, UNSEEN)
    return float(((run(apply_plan(prepared, plan), UNSEEN) - wanted) ** 2).mean() / (wanted**2).mean())


@pytest.mark.parametrize("granularity", get_args(Granularity))
def test_learned_rounding_is_nearer_to_the_float_network_on_images_it_never_saw(
    toy: Planned, granularity: Granularity
) -> None:
    before = ir.to_proto(toy.prepared).SerializeToString(deterministic=True)
    learned = _learn(toy, granularity)
    nearest, found = _error(toy, toy.prepared, toy.plan), _error(toy, learned.prepared, learned.plan)
    assert found < 0.85 * nearest
    assert ir.to_proto(toy.prepared).SerializeToString(deterministic=True) == before
    assert learned.images == len(CALIBRATION)


@pytest.mark.parametrize("granularity", get_args(Granularity))
def test_weights_lie_on_the_grid_of_the_plan(toy: Planned, granularity: Granularity) -> None:
    learned = _learn(toy, granularity, steps=8)
    assert list(learned.plan.weights) == list(toy.plan.weights)
    for node in learned.prepared.graph:
        if str(node.name) in learned.plan.weights:
            codes, weight = learned.plan.weights[str(node.name)], constant(node.inputs[1])
            assert weight is not None
            steps = weight / codes.array.reshape([-1] + [1] * (weight.ndim - 1))
            np.testing.assert_allclose(steps, np.round(steps), rtol=0, atol=1e-4)
            assert np.abs(np.round(steps)).max() <= codes.limit
    if granularity != "network":
        assert learned.plan == toy.plan


@pytest.mark.parametrize("granularity", get_args(Granularity))
def test_the_seed_decides_and_progress_counts_every_step(toy: Planned, granularity: Granularity) -> None:
    counts: list[tuple[int, int]] = []
    files = [
        ir.to_proto(
            _learn(toy, granularity, steps=6, seed=seed, on_progress=lambda *c: counts.append(c)).prepared
        ).SerializeToString(deterministic=True)
        for seed in (1, 1, 2)
    ]
    assert files[0] == files[1] != files[2]
    total = {"layers": 24, "blocks": 12, "network": 6 + 4 * LAYER_STEPS}[granularity]
    assert counts == [(done, total) for done in range(1, total + 1)] * 3


def test_a_graph_of_fixed_batch_learns_by_it(toy: Planned) -> None:
    toy.prepared.graph.inputs[0].shape = ir.Shape([16, 3, 8, 8])
    assert _learn(toy, "blocks", steps=2, images_used=40).images == 32
    assert _learn(toy, "network", steps=4).images == 64


def test_wrong_settings_are_refused(toy: Planned) -> None:
    with pytest.raises(EdgeLatheError, match='rounding "block": did you mean "blocks"'):
        _learn(toy, "block", steps=1)  # type: ignore[arg-type]
    with pytest.raises(EdgeLatheError, match="steps"):
        _learn(toy, "layers", steps=0)
    with pytest.raises(EdgeLatheError, match="shape"):
        reconstruct(toy.prepared, toy.placement, toy.plan, images(4, (3, 8, 9), seed=0), granularity="layers")


def test_learned_scales_leave_the_float_function_alone_and_keep_pixels_and_clamped_zeros(toy: Planned) -> None:
    simulation = Simulation(toy.prepared, toy.plan)
    scales = LearnedScales(toy.prepared, toy.placement, toy.plan, [], simulation)
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        scales.log_factors.copy_(torch.randn(scales.log_factors.shape, generator=random) * 0.5)
        for scale in scales.log_scales.values():
            scale.add_(0.1)
        for point in scales.zero_points.values():
            if point.requires_grad:
                point.add_(3.4)
    model, plan = scales.result()
    np.testing.assert_allclose(run(model, UNSEEN), run(toy.prepared, UNSEEN), rtol=0, atol=1e-4)
    for name, code in plan.codes.items():
        old = toy.plan.codes[name]
        assert code.scale == pytest.approx(old.scale * np.exp(0.1), rel=1e-5)
        assert code.zero_point == (old.zero_point if old.zero_point in (0, 255) else old.zero_point + 3)
    assert any(code.zero_point != toy.plan.codes[name].zero_point for name, code in plan.codes.items())


def test_the_simulated_channel_scales_are_those_of_the_scaled_graph(toy: Planned) -> None:
    simulation = Simulation(toy.prepared, toy.plan)
    scales = LearnedScales(toy.prepared, toy.placement, toy.plan, [], simulation)
    with torch.no_grad():
        scales.log_factors.copy_(torch.linspace(-0.5, 0.5, len(scales.log_factors)))
    simulation.graph.on_value, simulation.graph.on_weight = scales.value, None
    x = torch.from_numpy(UNSEEN)
    learned = simulation.graph(x).detach().numpy()
    applied = Simulation(*scales.result())
    applied.graph.on_weight = None
    noise = np.abs(learned - run(toy.prepared, UNSEEN)).mean()
    assert np.abs(applied.graph(x).detach().numpy() - learned).mean() < 0.2 * noise
