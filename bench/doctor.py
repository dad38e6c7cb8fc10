"""What this machine can do: processor, runtimes, what int8 will bring here, and what would disturb a
measurement."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from .environment import environment
from .processor import usable_flags
from .records import Environment, Record
from .runtimes import RUNTIMES
from .runtimes.adapter import Adapter


class RuntimePresence(Record):
    name: str
    package: str
    """The name under which pip installs it."""
    version: str | None
    reason: str
    """Why it cannot be used; empty when it can."""


class Diagnosis(Record):
    environment: Environment
    runtimes: tuple[RuntimePresence, ...]
    target: str | None
    """The quantization target that suits this processor; None when int8 has no fast path here."""
    int8: str
    """One sentence on what int8 will do here."""
    hints: tuple[str, ...]
    """What would disturb a measurement and what to do about it; empty when nothing was found."""


def diagnose() -> Diagnosis:
    """Look at this machine; measures nothing and takes milliseconds, plus the import of the runtimes that are
    present."""
    here = environment()
    target, sentence = int8_outlook(usable_flags() or here.isa)
    return Diagnosis(
        environment=here,
        runtimes=runtimes(RUNTIMES),
        target=target,
        int8=sentence,
        hints=measuring_hints(Path("/sys"), load=os.getloadavg()[0], cores=here.cores),
    )


def runtimes(adapters: Mapping[str, Adapter]) -> tuple[RuntimePresence, ...]:
    found = []
    for name, adapter in adapters.items():
        reason = adapter.reason_why_not()
        version = adapter.version() if reason is None else None
        found.append(RuntimePresence(name=name, package=adapter.PACKAGE, version=version, reason=reason or ""))
    return tuple(found)


def int8_outlook(isa: tuple[str, ...]) -> tuple[str | None, str]:
    """The quantization target for these instruction sets, and what to expect of it.

    The figures are latencies as a share of float's in ONNX Runtime, measured on CIFAR ResNets and
    MobileNetV2.
    """
    have = set(isa)
    if have & {"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"}:
        names = ", ".join(flag for flag in isa if "vnni" in flag or flag == "amx_int8")
        return "x86-vnni", (
            f"int8 is fast here ({names}) with uint8 activations and int8 weights: expect about 0.3 to 0.6 "
            "of float's latency for convolutional networks; signed activations are slower than float on x86."
        )
    if "avx2" in have:
        return "x86-avx2", (
            "int8 runs here on AVX2 without VNNI, whose 16-bit sums saturate: weights need a reduced range "
            "(7 bits) to stay accurate, and the gain over float is small, so measure before shipping."
        )
    if have & {"asimddp", "i8mm"}:
        names = ", ".join(flag for flag in isa if flag in ("asimddp", "i8mm"))
        return (
            "arm64",
            f"int8 is fast here ({names}): expect it to beat float for convolutional networks; "
            "measure before shipping.",
        )
    if "asimd" in have:
        return "arm64", (
            "int8 runs here without dot-product instructions: the file shrinks to about a quarter, but do "
            "not count on lower latency; measure before shipping."
        )
    return None, (
        "int8 has no fast instructions that could be recognised here: the file shrinks to about a "
        "quarter, but expect it to be slower than float, and keep float unless a measurement says otherwise."
    )


def measuring_hints(sys_root: Path, *, load: float, cores: int) -> tuple[str, ...]:
    """What would disturb a latency measurement, from /sys and the load average."""
    hints: list[str] = []
    governors = {_read(path) for path in sorted(sys_root.glob("devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"))}
    slow = sorted(governors - {"performance", ""})
    if slow:
        hints.append(
            f'the frequency governor is "{", ".join(slow)}", so that the clock follows the load: '
            'set it to "performance" while measuring'
        )
    if _read(sys_root / "devices/system/cpu/intel_pstate/no_turbo") == "0" or (
        _read(sys_root / "devices/system/cpu/cpufreq/boost") == "1"
    ):
        hints.append("turbo is on, so that milliseconds depend on heat: compare ratios of one run, not times of two")
    if _read(sys_root / "devices/system/cpu/smt/active") == "1":
        hints.append(
            "two hardware threads share each processor core, so that work on one slows the other: keep both free"
        )
    if load > 0.5 * cores:
        hints.append(
            f"the load average is {load:.1f} on {cores} cores, so that other work competes with a "
            "measurement: wait or stop it"
        )
    if cores == 1:
        hints.append("there is one processor core, so that everything competes with a measurement: repeat it")
    return tuple(hints)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
