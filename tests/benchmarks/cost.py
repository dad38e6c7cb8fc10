"""What a command costs from the start of its process to its end: time, processor time, peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgelathe.bench.records import Record

LAUNCHER = Path(__file__).with_name("launch.py")
GIB = 1 << 30


class Cost(Record):
    """Figures of one process, the processes it started included (peak: the largest of them)."""

    seconds: float
    processor_seconds: float
    peak_bytes: int


class ToolError(Exception):
    """A tool that did not do what it was started for; the sentence says what became of it."""


def run_measured(
    command: Sequence[str], log: Path, *, limit_seconds: float = 3600.0, limit_bytes: int = 16 * GIB
) -> Cost:
    """Run `command` with its output in `log`. Raises ToolError when it fails or passes a limit (it is killed then)."""
    log.parent.mkdir(parents=True, exist_ok=True)
    # -I -S: no site packages, so that the launcher stays at about 10 MB.
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(limit_seconds), str(limit_bytes), str(log)]
    done = subprocess.run([*launcher, *command], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    if result["stopped"] == "memory":
        raise ToolError(f"stopped at {limit_bytes / 1e9:.1f} GB, after {result['seconds']:.0f} s")
    if result["stopped"] == "time":
        raise ToolError(f"stopped after {limit_seconds:.0f} s")
    if result["code"] != 0:
        raise ToolError(f"exit code {result['code']}: {last_words(log)}")
    return Cost.model_validate({field: result[field] for field in Cost.model_fields})


def last_words(log: Path) -> str:
    """The last line that a process left, which is where Python puts the reason."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip()[:300] if lines else "it said nothing"
