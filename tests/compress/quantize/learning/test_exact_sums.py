from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from edgelathe.compress.quantize.builder import Planned
from edgelathe.compress.quantize.learning.exact_sums import Shared, share_scales, sums_to_share
from edgelathe.compress.quantize.learning.simulation import Simulation
from edgelathe.compress.quantize.value_codes import Codes

from ..conftest import images
from .test_simulation import planned


@pytest.fixture
def toy(residual: onnx.ModelProto, save: Callable[[onnx.ModelProto], Path]) -> Planned:
    return planned(save(residual))


def _with_scales(toy: Planned, **scales: float) -> Planned:
    tied = {name: names for names in toy.placement.tied for name in names}
    codes = dict(toy.plan.codes)
    for value, scale in scales.items():
        codes.update({name: Codes(scale, codes[name].zero_point) for name in tied[value]})
    return replace(toy, plan=replace(toy.plan, codes=codes))


def _shared(toy: Planned, **gains: float) -> list[Shared]:
    return sums_to_share(toy.prepared, toy.placement, toy.plan, dict.fromkeys(toy.plan.codes, 1.0) | gains)


def test_equal_scales_are_shared_and_very_different_ones_are_not(toy: Planned) -> None:
    (shared,) = _shared(_with_scales(toy, c2=0.02, r0=0.02, r2=0.021))
    assert set(shared.values) == {"c2", "r0", "r2"}
    assert shared.exact == {"r2"}
    assert _shared(_with_scales(toy, c2=0.02, r0=0.02, r2=0.06)) == []


def test_a_value_that_is_heard_loudly_keeps_its_finer_scale(toy: Planned) -> None:
    scaled = _with_scales(toy, c2=0.02, r0=0.015, r2=0.02)
    assert len(_shared(scaled)) == 1
    assert _shared(scaled, r0=100.0) == []


def test_sums_on_one_scale_are_on_its_grid_already(toy: Planned) -> None:
    scaled = _with_scales(toy, c2=0.03, r0=0.03, r2=0.031)
    plan = share_scales(scaled.prepared, scaled.placement, scaled.plan, _shared(scaled))
    scales = {plan.codes[name].scale for name in ("c2", "r0", "r2")}
    assert len(scales) == 1
    assert scales.pop() == pytest.approx((0.03 * 0.03 * 0.031) ** (1 / 3), rel=1e-6)
    simulation = Simulation(scaled.prepared, plan)
    del simulation.rounded["r2"]
    with torch.no_grad():
        found = simulation.graph.run(torch.from_numpy(images(8, (3, 8, 8), seed=5)), collect=["r2"])["r2"]
    code = plan.codes["r2"]
    steps = found.numpy() / code.scale
    inside = (steps > -code.zero_point) & (steps < 255 - code.zero_point)
    assert inside.mean() > 0.3
    np.testing.assert_allclose(steps[inside], np.round(steps[inside]), rtol=0, atol=1e-3)


def test_the_middle_of_a_range_stays_and_a_zero_at_its_end_too(toy: Planned) -> None:
    scaled = _with_scales(toy, c2=0.02, r0=0.03, r2=0.03)
    plan = share_scales(scaled.prepared, scaled.placement, scaled.plan, _shared(scaled))
    before, after = scaled.plan.codes["c2"], plan.codes["c2"]
    middles = [(127.5 - code.zero_point) * code.scale for code in (before, after)]
    assert abs(middles[0] - middles[1]) <= after.scale / 2
    assert plan.codes["r0"].zero_point == plan.codes["r2"].zero_point == 0
    tied = next(names for names in toy.placement.tied if "r2" in names)
    assert {plan.codes[name] for name in tied} == {plan.codes["r2"]}
