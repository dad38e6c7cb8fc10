"""Where a measurement was taken: processor, instruction sets, system and versions."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib import metadata
from pathlib import Path

import psutil

from .processor import isa_flags as isa_flags
from .records import Environment

PACKAGES = ("edgelathe", "numpy", "onnx", "onnxruntime", "torch", "torchvision")
_GIB = 1 << 30


def environment() -> Environment:
    """The environment of this process. Nothing is imported to learn its version, torch least of all."""
    text = _read(Path("/proc/cpuinfo"))
    facts = {
        "cpu": cpu_name(text) or platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "memory_bytes": memory_bytes(Path("/sys/fs/cgroup")),
        "isa": isa_flags(text),
        "system": f"{platform.system()} {platform.machine()} {'-'.join(platform.libc_ver())}".rstrip("- "),
        "python": platform.python_version(),
        "versions": versions(),
    }
    return Environment.model_validate({**facts, "fingerprint": fingerprint(facts)})


def fingerprint(facts: dict[str, object]) -> str:
    """Twelve hexadecimal digits over the facts, memory rounded to GiB: it varies by kilobytes between equal
    machines."""
    memory = facts["memory_bytes"]
    assert isinstance(memory, int)
    rounded = {**facts, "memory_bytes": round(memory / _GIB)}
    return hashlib.sha256(json.dumps(rounded, sort_keys=True).encode()).hexdigest()[:12]


_ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78",
    "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
}


def cpu_name(cpuinfo: str) -> str:
    """The processor's name in the text of /proc/cpuinfo; on arm the core's, since the file has no model name
    there."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    if fields.get("model name"):
        return fields["model name"]
    part = fields.get("CPU part", "")
    return _ARM_PARTS.get(part, f"arm part {part}" if part else "")


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def memory_bytes(cgroup: Path) -> int:
    """Physical memory, or the limit of the container's control group where that is lower."""
    physical = int(psutil.virtual_memory().total)
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        limit = _read(cgroup / name).strip()
        if limit.isdigit():
            return min(physical, int(limit))
    return physical


def versions() -> dict[str, str]:
    """Versions of the installed packages that decide results."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
