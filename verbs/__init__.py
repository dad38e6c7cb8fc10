"""What the command line and `import edgelathe` offer: one function per verb, each callable without the other."""

from __future__ import annotations

from .measuring import benchmark, doctor, explain, inspect
from .onnx_files import qat, quantize, store_weights, tune
from .packing import pack, unpack
from .runs import gate, plan, report, run
from .studies import study

__all__ = [
    "benchmark",
    "doctor",
    "explain",
    "gate",
    "inspect",
    "pack",
    "plan",
    "qat",
    "quantize",
    "report",
    "run",
    "store_weights",
    "study",
    "tune",
    "unpack",
]
