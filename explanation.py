"""Why an int8 file is as fast as it is: its latency beside the float file's, operator by operator, and what the
runtime left in float."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from .bench.environment import environment
from .bench.kinds import CONVERSION, SILU
from .bench.latency import measure_latency
from .bench.profile import NodeTime, Profile, profile
from .bench.records import Environment, Latency, Record
from .compress.quantize.audit import FileAudit, audit_file

FLOAT, INT8 = "float", "int8"
SLOWEST = 8
NOTABLE = 0.1
"""Share of the time from which something is worth a clause of the verdict."""
VNNI = ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8")


class KindTime(Record):
    """Time of one kind of operator in both files, by the profiler."""

    kind: str
    float_us: float
    int8_us: float
    int8_share: float


class Explanation(Record):
    float_file: str
    int8_file: str
    environment: Environment
    runtime: str
    latency: Latency
    """Of the int8 file, with its ratio to the float file; measured without the profiler."""
    float_ms: float
    kinds: tuple[KindTime, ...]
    """Most int8 time first; conversions are a kind of their own."""
    float_operators: dict[str, float]
    int8_operators: dict[str, float]
    """Microseconds by operator type, as the runtime calls it."""
    slowest_float: tuple[NodeTime, ...]
    slowest_int8: tuple[NodeTime, ...]
    runs: int
    """Profiled runs of each file."""
    audit: FileAudit
    verdict: str


def explain(
    float_file: Path, int8_file: Path, *, runs: int = 40, seconds: float = 5.0, threads: int = 1, seed: int = 0
) -> Explanation:
    """Measure both files interleaved for `seconds`, profile `runs` runs of each and audit the int8 file.

    Raises EdgeLatheError for files that cannot be read or that ONNX Runtime refuses.
    """
    audited = audit_file(int8_file)
    files = {FLOAT: float_file, INT8: int8_file}
    latency = measure_latency(files, reference=FLOAT, threads=threads, seconds=seconds, seed=seed)
    profiles = profile(files, runs=runs, threads=threads, seed=seed)
    here = environment()
    kinds = _kinds(profiles)
    return Explanation(
        float_file=float_file.name,
        int8_file=int8_file.name,
        environment=here,
        runtime=audited.runtime,
        latency=latency[INT8],
        float_ms=latency[FLOAT].median_ms,
        kinds=kinds,
        float_operators=profiles[FLOAT].by_op(),
        int8_operators=profiles[INT8].by_op(),
        slowest_float=profiles[FLOAT].slowest(SLOWEST),
        slowest_int8=profiles[INT8].slowest(SLOWEST),
        runs=runs,
        audit=audited,
        verdict=verdict(latency[INT8], kinds, audited, here.isa, platform.machine()),
    )


def _kinds(profiles: Mapping[str, Profile]) -> tuple[KindTime, ...]:
    before, after = profiles[FLOAT].by_kind(), profiles[INT8].by_kind()
    total = sum(after.values())
    return tuple(
        KindTime(kind=kind, float_us=before.get(kind, 0.0), int8_us=time, int8_share=time / total if total else 0.0)
        for kind, time in sorted(
            {**dict.fromkeys(before, 0.0), **after}.items(), key=lambda item: (-item[1], -before.get(item[0], 0.0))
        )
    )


def verdict(latency: Latency, kinds: Sequence[KindTime], audit: FileAudit, isa: Sequence[str], machine: str) -> str:
    """Whether int8 is faster here, what holds it back, and where its time goes; two or three sentences."""
    x86 = machine.lower() in ("x86_64", "amd64")
    vnni = [flag for flag in isa if flag in VNNI]
    here = "this processor" + (f" ({', '.join(vnni)})" if vnni else " without VNNI" if x86 else "")
    share = f"{latency.ratio:.2f} x of float's time on {here} ({latency.ratio_low:.2f} to {latency.ratio_high:.2f})"
    faster, slower = latency.ratio_high < 1.0, latency.ratio_low >= 1.0
    if faster:
        lead = f"int8 takes {share}"
    else:
        lead = f"int8 is {'slower' if slower else 'not clearly faster'}: it takes {share}"
    causes = _causes(kinds, audit, x86=x86, vnni=bool(vnni))
    sentences = [lead + (f", because {'; '.join(causes)}." if causes and not faster else ".")]
    if causes and faster:
        sentences.append(f"What holds it back: {'; '.join(causes)}.")
    spent = _where_time_goes(kinds)
    if spent:
        sentences.append(spent)
    if slower:
        sentences.append("Keep the float file for this processor.")
    return " ".join(sentences)


def _causes(kinds: Sequence[KindTime], audit: FileAudit, *, x86: bool, vnni: bool) -> list[str]:
    causes = []
    if audit.dynamic:
        causes.append(
            "its ranges are computed at run time, which costs a pass over every activation (quantize it statically)"
        )
    if audit.signed and x86:
        causes.append("its activations are int8, for which x86 has no fast kernels (quantize them to uint8)")
    if x86 and not vnni:
        causes.append("int8 products take three instructions here instead of one")
    causes += [sentence for op in ("Conv", "Gemm", "MatMul") if (sentence := _left_float(audit, op))]
    if audit.requantized:
        causes.append(
            f"the runtime quantizes weights that the file keeps in float, with one scale for each tensor"
            f" ({', '.join(audit.requantized[:3])})"
        )
    conversions = next((kind for kind in kinds if kind.kind == CONVERSION), None)
    if conversions is not None and conversions.int8_share >= NOTABLE:
        inside = len(audit.survivors)
        causes.append(
            f"{conversions.int8_share:.0%} of its time converts between float and int8"
            + (f" ({inside} conversions inside the graph)" if inside else "")
        )
    return causes


def _left_float(audit: FileAudit, op: str) -> str:
    floats = [node for node in audit.floats if node.op == op]
    if not floats:
        return ""
    what = {"Conv": "convolutions", "Gemm": "matrix products"}.get(op, f"{op}s")
    first = floats[0]
    return f"{len(floats)} of {audit.weighted[op]} {what} run in float (first {first.name}: {first.reason})"


def _where_time_goes(kinds: Sequence[KindTime]) -> str:
    """The largest kind beside convolutions, matrix products and conversions, where it is notable."""
    others = [kind for kind in kinds if kind.kind not in ("convolution", "matrix product", CONVERSION)]
    largest = max(others, key=lambda kind: kind.int8_us, default=None)
    if largest is None or largest.int8_share < NOTABLE:
        return ""
    change = f"{largest.int8_us / 1e3:.2f} ms against {largest.float_us / 1e3:.2f} ms in float"
    slower = ", slower than in float" if 0 < largest.float_us < largest.int8_us else ""
    do = "; the stage replace-activations puts a cheaper activation in its place" if largest.kind == SILU else ""
    return f"{largest.int8_share:.0%} of the int8 time is {largest.kind} ({change}){slower}{do}."
