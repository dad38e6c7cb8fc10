"""Which instruction sets this process can use, and which files that makes unsuited."""

from __future__ import annotations

import importlib
import platform
from pathlib import Path

X86_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx_vnni_int8",
    "amx_int8",
    "avx512_bf16",
    "amx_bf16",
)
ARM_FLAGS = ("asimd", "asimddp", "i8mm", "sve", "bf16")
QUANTIZED = "edgelathe.quantized"
"""Key of the metadata that names the target a file was quantized for, as in "x86-vnni mse per-channel"."""
VNNI = ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8")
NUMPY_NAMES = {
    "avx2": "AVX2",
    "avx512f": "AVX512F",
    "avx512_vnni": "AVX512VNNI",
    "avx512_bf16": "AVX512BF16",
}


def usable_flags() -> tuple[str, ...]:
    """The flags of /proc/cpuinfo without those that the processor denies when this process asks it.

    The file shows the machine's processor also to a process that an emulator gives a lesser one.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return ()
    return confirmed(isa_flags(text), asked_by_numpy())


def isa_flags(cpuinfo: str) -> tuple[str, ...]:
    """The instruction sets in the text of /proc/cpuinfo that decide int8 speed, on x86 ("flags") and arm
    ("Features")."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            present = set(value.split())
            return tuple(flag for flag in (*X86_FLAGS, *ARM_FLAGS) if flag in present)
    return ()


def asked_by_numpy() -> dict[str, bool]:
    """Feature -> whether CPUID reports it to this process, in numpy's names; empty where numpy does not tell."""
    try:
        compiled = importlib.import_module("numpy._core._multiarray_umath")
    except ImportError:
        return {}
    return dict(getattr(compiled, "__cpu_features__", {}))


def confirmed(flags: tuple[str, ...], asked: dict[str, bool]) -> tuple[str, ...]:
    """`flags` that nothing contradicts. One contradiction discredits those that numpy does not know, too."""
    denied = {flag for flag in flags if asked.get(NUMPY_NAMES.get(flag, ""), True) is False}
    if not denied:
        return flags
    return tuple(flag for flag in flags if flag in NUMPY_NAMES and flag not in denied)


def doubt_about(quantized: str | None, flags: tuple[str, ...], machine: str = "") -> str | None:
    """Why a file with this metadata gives wrong results on a processor with these flags; None where it does not, or
    where nothing is known of the processor."""
    on_x86 = (machine or platform.machine()).lower() in ("x86_64", "amd64", "x86", "i686")
    if quantized is None or not flags or not on_x86 or quantized.split()[0:1] != ["x86-vnni"] or set(flags) & set(VNNI):
        return None
    return (
        "the file was quantized for x86-vnni and this processor has no VNNI, so that sums of products saturate "
        "silently and spoil its answers: quantize it for x86-avx2"
    )
