from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .cost import Cost, ToolError, run_measured

HOLD_100_MB = "import time; held = bytearray(100_000_000); time.sleep(0.2)"


def test_time_and_peak_are_those_of_the_command_and_not_of_who_asks(tmp_path: Path) -> None:
    ballast = bytearray(300_000_000)
    cost = run_measured([sys.executable, "-I", "-S", "-c", HOLD_100_MB], tmp_path / "log")
    assert len(ballast) == 300_000_000
    assert 100e6 < cost.peak_bytes < 150e6
    assert 0.2 < cost.seconds < 5
    assert 0 < cost.processor_seconds < cost.seconds


def test_a_failure_is_told_by_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"^exit code 1: ValueError: no such node$"):
        run_measured([sys.executable, "-I", "-S", "-c", "raise ValueError('no such node')"], tmp_path / "log")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="a growing process is watched through /proc")
def test_a_command_is_stopped_at_its_memory_limit(tmp_path: Path) -> None:
    grow = "import time\nheld = bytearray(80_000_000)\ntime.sleep(30)"
    with pytest.raises(ToolError, match=r"^stopped at 0\.1 GB, after 0 s$"):
        run_measured([sys.executable, "-I", "-S", "-c", grow], tmp_path / "log", limit_bytes=60_000_000)


def test_a_command_is_stopped_at_its_time_limit(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"^stopped after 0 s$"):
        run_measured(
            [sys.executable, "-I", "-S", "-c", "import time; time.sleep(30)"], tmp_path / "log", limit_seconds=0.1
        )


def test_a_cost_is_read_back_as_written() -> None:
    cost = Cost(seconds=1.5, processor_seconds=2.5, peak_bytes=3)
    assert Cost.model_validate_json(cost.model_dump_json()) == cost
