from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
from edgelathe.bench.environment import cpu_name, environment, fingerprint, isa_flags, memory_bytes

XEON = """processor	: 0
vendor_id	: GenuineIntel
model name	: Intel(R) Xeon(R) Processor @ 2.10GHz
flags		: fpu sse4_2 avx avx2 avx512f avx512bw avx512_vnni amx_bf16 amx_tile amx_int8
processor	: 1
model name	: something else
flags		: fpu
"""
HASWELL = "model name\t: Intel Core i5-4570\nflags\t\t: fpu vme sse4_2 avx avx2 fma\n"
RASPBERRY = """processor	: 0
BogoMIPS	: 108.00
Features	: fp asimd evtstrm crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer	: 0x41
CPU part	: 0xd0b
"""


def test_instruction_sets_of_three_processors() -> None:
    assert isa_flags(XEON) == ("avx2", "avx512f", "avx512_vnni", "amx_int8", "amx_bf16")
    assert isa_flags(HASWELL) == ("avx2",)
    assert isa_flags(RASPBERRY) == ("asimd", "asimddp")
    assert isa_flags("") == ()


def test_names_of_processors() -> None:
    assert cpu_name(XEON) == "Intel(R) Xeon(R) Processor @ 2.10GHz"
    assert cpu_name(RASPBERRY) == "Cortex-A76"
    assert cpu_name("CPU part\t: 0xfff") == "arm part 0xfff"
    assert cpu_name("") == ""


def test_this_machine_is_described() -> None:
    here = environment()
    assert here == environment()
    assert here.cpu
    assert here.cores >= 1
    assert here.memory_bytes > 1 << 28
    assert here.versions["numpy"] == __import__("numpy").__version__
    assert here.python == ".".join(map(str, sys.version_info[:3]))
    assert len(here.fingerprint) == 12


def test_the_fingerprint_follows_what_matters() -> None:
    facts: dict[str, object] = environment().model_dump(exclude={"fingerprint"})
    eight = fingerprint({**facts, "memory_bytes": 8 << 30})
    assert eight == fingerprint({**facts, "memory_bytes": (8 << 30) + 9000})
    assert eight != fingerprint({**facts, "memory_bytes": 16 << 30})
    assert fingerprint({**facts, "cpu": "another"}) != environment().fingerprint
    assert fingerprint({**facts, "versions": {"onnxruntime": "0"}}) != environment().fingerprint
    assert fingerprint(facts) == environment().fingerprint


def test_a_containers_limit_counts_as_memory(tmp_path: Path) -> None:
    physical = psutil.virtual_memory().total
    assert memory_bytes(tmp_path) == physical
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_bytes(tmp_path) == physical
    (tmp_path / "memory.max").write_text(f"{512 << 20}\n")
    assert memory_bytes(tmp_path) == 512 << 20


def test_describing_the_machine_imports_nothing_heavy() -> None:
    code = (
        "import sys; from edgelathe.bench.environment import environment; "
        "print(environment().versions['torch']); "
        "print([name for name in ('torch', 'onnx', 'onnxruntime', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "[]"
