from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from edgelathe.bench.doctor import diagnose, int8_outlook, measuring_hints, runtimes
from edgelathe.bench.runtimes.adapter import Adapter


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("isa", "target", "words"),
    [
        (
            ("avx2", "avx512_vnni", "amx_int8"),
            "x86-vnni",
            "int8 is fast here (avx512_vnni, amx_int8) with uint8",
        ),
        (("avx2", "avx_vnni"), "x86-vnni", "int8 is fast here (avx_vnni) with uint8 activations"),
        (("avx2", "avx512f"), "x86-avx2", "without VNNI, whose 16-bit sums saturate"),
        (("asimd", "asimddp", "i8mm"), "arm64", "int8 is fast here (asimddp, i8mm)"),
        (("asimd",), "arm64", "without dot-product instructions"),
        ((), None, "expect it to be slower than float"),
    ],
)
def test_what_int8_will_do(isa: tuple[str, ...], target: str | None, words: str) -> None:
    named, sentence = int8_outlook(isa)
    assert named == target
    assert words in sentence
    assert sentence.endswith(".")
    assert "  " not in sentence


def test_a_quiet_machine_gives_no_hints(tmp_path: Path) -> None:
    write(tmp_path, "devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n")
    assert measuring_hints(tmp_path, load=0.1, cores=4) == ()


def test_each_disturbance_has_a_hint(tmp_path: Path) -> None:
    for core in range(2):
        write(tmp_path, f"devices/system/cpu/cpu{core}/cpufreq/scaling_governor", "powersave\n")
    write(tmp_path, "devices/system/cpu/intel_pstate/no_turbo", "0\n")
    write(tmp_path, "devices/system/cpu/smt/active", "1\n")
    assert measuring_hints(tmp_path, load=3.25, cores=4) == (
        'the frequency governor is "powersave", so that the clock follows the load: set it to "performance" '
        "while measuring",
        "turbo is on, so that milliseconds depend on heat: compare ratios of one run, not times of two",
        "two hardware threads share each processor core, so that work on one slows the other: keep both free",
        "the load average is 3.2 on 4 cores, so that other work competes with a measurement: wait or stop it",
    )
    assert measuring_hints(tmp_path / "none", load=0.0, cores=1) == (
        "there is one processor core, so that everything competes with a measurement: repeat it",
    )


def test_a_missing_runtime_is_listed_with_its_package() -> None:
    absent = SimpleNamespace(PACKAGE="ai-edge-litert", reason_why_not=lambda: "the package is not installed")
    present = SimpleNamespace(PACKAGE="onnxruntime", reason_why_not=lambda: None, version=lambda: "1.2.3")
    found = runtimes({"litert": cast(Adapter, absent), "onnxruntime": cast(Adapter, present)})
    assert [(r.name, r.package, r.version, r.reason) for r in found] == [
        ("litert", "ai-edge-litert", None, "the package is not installed"),
        ("onnxruntime", "onnxruntime", "1.2.3", ""),
    ]


def test_this_machine_is_diagnosed_without_torch() -> None:
    code = (
        "import sys; from edgelathe.bench.doctor import diagnose; diagnose(); "
        "print([name for name in ('torch', 'onnx', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]"]
    here = diagnose()
    assert [runtime.name for runtime in here.runtimes] == ["onnxruntime"]
    assert here.runtimes[0].version == here.environment.versions["onnxruntime"]
    assert int8_outlook(here.environment.isa) == (here.target, here.int8)
