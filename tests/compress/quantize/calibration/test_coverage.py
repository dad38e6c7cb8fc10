from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from edgelathe.compress.quantize.calibration.coverage import coverage, coverage_summary
from edgelathe.compress.quantize.value_codes import Codes

from .test_tally import histogram_of


def test_shares_are_those_of_the_values() -> None:
    values = np.random.default_rng(0).normal(size=(40, 4, 10, 10)).astype(np.float32)
    values[:, 3] = 0.25
    codes = Codes(scale=0.01, zero_point=100)  # -1.0 to 1.55
    (found,) = coverage({"t": histogram_of(values)}, {"t": codes})
    assert (found.images, found.samples, found.channels, found.dead_channels) == (40, 16_000, 4, 1)
    assert (found.range_low, found.range_high) == pytest.approx((-1.0, 1.55))
    # Bins of 2**-9 count as their middles, so about as many values as lie in half a bin go to the wrong side.
    assert found.clipped_below == pytest.approx((values < -1.005).mean(), abs=3e-4)
    assert found.clipped_above == pytest.approx((values > 1.555).mean(), abs=3e-4)
    assert found.codes_used == 1.0
    assert json.loads(json.dumps(dataclasses.asdict(found)))["tensor"] == "t"


@pytest.mark.parametrize(("lowest_code", "zero_point"), [(0, 0), (-128, -128)])
def test_a_range_that_is_too_wide_leaves_codes_unused(lowest_code: int, zero_point: int) -> None:
    values = np.random.default_rng(1).uniform(0, 1, (32, 2, 20, 20)).astype(np.float32)
    codes = Codes(scale=4 / 255, zero_point=zero_point)
    (found,) = coverage({"t": histogram_of(values)}, {"t": codes}, lowest_code=lowest_code)
    assert found.range_low == 0.0
    assert found.codes_used == pytest.approx(65 / 256)
    assert found.clipped_above == 0.0


def test_what_is_constant_or_was_never_reached_is_said() -> None:
    constant = histogram_of(np.full((64, 3, 2, 2), 1.5, np.float32))
    codes = {"flat": Codes(0.01, 0), "added": Codes(0.1, 3)}
    flat, added = coverage({"flat": constant}, codes)
    assert flat.note == "every value of it is 1.5"
    assert (added.note, added.samples, added.codes_used) == ("no sample reached it", 0, 0.0)
    assert coverage_summary((flat, added)) == (
        "Calibrated on 64 images; nothing clipped; 3 of 3 channels never change; flat constant; added never reached."
    )
    assert coverage_summary((added,)) == "No calibration image reached any quantized tensor."


def test_few_images_are_warned_about() -> None:
    rng = np.random.default_rng(2)
    seen = {"t": histogram_of(rng.normal(size=(31, 3, 8, 8)).astype(np.float32))}
    sentence = coverage_summary(coverage(seen, {"t": Codes(0.01, 128)}))
    assert sentence.startswith("Calibrated on 31 images; at most ")
    assert "of a tensor's values clipped (t); warning: fewer than 32 images" in sentence
    more = {"t": histogram_of(rng.normal(size=(32, 3, 8, 8)).astype(np.float32))}
    assert "warning" not in coverage_summary(coverage(more, {"t": Codes(0.01, 128)}))
