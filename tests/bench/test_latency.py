from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from edgelathe.bench.latency import Progress, measure_latency
from edgelathe.errors import EdgeLatheError


@pytest.mark.slow
def test_the_same_file_twice_is_equally_fast(resnet_file: Callable[..., Path]) -> None:
    """The A/A test, on a machine that may be busy: the interval holds 1, or the ratio is within 2 %."""
    path = resnet_file(8, 16)
    measured = measure_latency({"one": path, "two": path}, reference="one", seconds=6, target_width=0.02, seed=1)
    two = measured["two"]
    assert two.ratio_low <= 1 <= two.ratio_high or abs(two.ratio - 1) < 0.02
    assert two.ratio_low <= two.ratio <= two.ratio_high
    assert two.reference == "one"


@pytest.mark.slow
def test_a_larger_network_is_slower_and_the_record_is_whole(resnet_file: Callable[..., Path]) -> None:
    seen: list[Progress] = []
    measured = measure_latency(
        {"small": resnet_file(8, 8), "large": resnet_file(20, 16)},
        reference="large",
        seconds=3,
        target_width=0.5,
        seed=0,
        on_round=seen.append,
    )
    small, large = measured["small"], measured["large"]
    assert small.ratio_high < 0.8
    assert (large.ratio, large.ratio_low, large.ratio_high) == (1.0, 1.0, 1.0)
    for record in (small, large):
        assert (record.runtime, record.threads, record.batch, record.reference) == (
            "onnxruntime",
            1,
            1,
            "large",
        )
        assert record.q1_ms <= record.median_ms <= record.q3_ms
        assert record.load_ms > 0
        assert record.first_ms > 0
        assert record.runs >= len(record.bursts_ms)
    assert len(small.bursts_ms) == len(large.bursts_ms) == len(seen)
    assert [point.rounds for point in seen] == list(range(1, len(seen) + 1))


def test_with_no_time_three_rounds_are_measured_and_doubted(resnet_file: Callable[..., Path]) -> None:
    path = resnet_file(8, 4)
    measured = measure_latency({"only": path}, reference="only", seconds=0.01, seed=0, batch=2)
    record = measured["only"]
    assert len(record.bursts_ms) == 3
    assert record.batch == 2
    assert record.ratio == 1.0
    assert any(reason.startswith("only 3 rounds were measured") for reason in record.unstable)


BAD: list[tuple[dict[str, object], str]] = [
    ({"batch": 0}, "Cannot measure with batch = 0: it must be at least 1."),
    ({"seconds": 0.0}, "Cannot measure with seconds = 0.0: it must be more than 0."),
    ({"seconds": float("nan")}, "Cannot measure with seconds = nan: it must be more than 0."),
    ({"target_width": 3.0}, "Cannot measure with target_width = 3.0: it must be between 0 and 1."),
    ({"reference": "denze"}, 'Unknown reference model "denze": did you mean "dense"?'),
    ({"runtime": "ort"}, 'Unknown runtime "ort": valid are: onnxruntime.'),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_settings_are_one_sentence(
    resnet_file: Callable[..., Path], changes: dict[str, object], message: str
) -> None:
    settings = {"reference": "dense", **changes}
    with pytest.raises(EdgeLatheError) as caught:
        measure_latency({"dense": resnet_file(8, 4)}, **settings)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_nothing_to_measure_is_said() -> None:
    with pytest.raises(EdgeLatheError) as caught:
        measure_latency({}, reference="dense")
    assert str(caught.value) == "Cannot measure latency: no model was given; name at least one ONNX file."


def test_a_file_that_cannot_run_ends_the_measurement(tmp_path: Path, resnet_file: Callable[..., Path]) -> None:
    bad = tmp_path / "cut.onnx"
    bad.write_bytes(resnet_file(8, 4).read_bytes()[:500])
    with pytest.raises(EdgeLatheError, match=r'The runtime "onnxruntime" cannot run the model .*cut\.onnx: '):
        measure_latency({"good": resnet_file(8, 4), "bad": bad}, reference="good", seconds=1)
