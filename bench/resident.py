"""Resident size of this process, in bytes, from the standard library alone."""

from __future__ import annotations

import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident() -> int:
    """Physical memory this process holds now."""
    if _STATUS.exists():
        return _field("VmRSS")
    import psutil

    return int(psutil.Process().memory_info().rss)


def peak_resident() -> int:
    """The most this process ever held.

    VmHWM starts anew with each program; ru_maxrss does not: a child begins with the peak of the process that
    started it, so it serves only where there is no /proc.
    """
    if _STATUS.exists():
        return _field("VmHWM")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _field(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0
