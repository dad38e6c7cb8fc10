"""EdgeLathe: distil, prune, quantize, prove, measure and gate vision networks for edge CPUs.

The verbs of the command line are functions here, under the same names but for `bench`, which is `benchmark`
because `edgelathe.bench` is the package that measures. Each stage is also usable alone. Names are loaded when
they are first asked for, so that what needs no PyTorch never loads it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__

if TYPE_CHECKING:
    from .bench.records import Report
    from .compress.distill.distill import distill
    from .compress.distill.self_distill import self_distill
    from .compress.distill.several import distill_several
    from .compress.prune.allocate import plan_from_sensitivity
    from .compress.prune.channels import prune_channels
    from .compress.prune.sensitivity import scan_sensitivity
    from .compress.prune.steps import prune_in_steps
    from .compress.prune.widths import prune_to_widths
    from .compress.sparsify.hold import hold_zeros
    from .compress.sparsify.sparsify import sparsify
    from .compress.sparsify.sparsify_gradually import sparsify_gradually
    from .compress.sparsify.support import sparse_support
    from .compress.surgery.drop_squeeze_excite import drop_squeeze_excite
    from .compress.surgery.open_shortcuts import open_shortcuts
    from .compress.surgery.replace_activations import replace_activations
    from .compress.train import train
    from .data import Dataset, Preprocess, Split, load_data
    from .errors import EdgeLatheError
    from .export.to_onnx import export_onnx
    from .models.structure import load_network, save_network
    from .models.weights import load_weights
    from .models.zoo import build
    from .recipe import Recipe, load_recipe
    from .studyrecipe import Study, load_study
    from .verbs import (
        benchmark,
        doctor,
        explain,
        gate,
        inspect,
        pack,
        plan,
        qat,
        quantize,
        report,
        run,
        store_weights,
        study,
        tune,
        unpack,
    )

_HOMES = {
    "Report": ".bench.records",
    "distill": ".compress.distill.distill",
    "self_distill": ".compress.distill.self_distill",
    "distill_several": ".compress.distill.several",
    "plan_from_sensitivity": ".compress.prune.allocate",
    "prune_channels": ".compress.prune.channels",
    "scan_sensitivity": ".compress.prune.sensitivity",
    "prune_in_steps": ".compress.prune.steps",
    "prune_to_widths": ".compress.prune.widths",
    "hold_zeros": ".compress.sparsify.hold",
    "sparsify": ".compress.sparsify.sparsify",
    "sparsify_gradually": ".compress.sparsify.sparsify_gradually",
    "sparse_support": ".compress.sparsify.support",
    "drop_squeeze_excite": ".compress.surgery.drop_squeeze_excite",
    "open_shortcuts": ".compress.surgery.open_shortcuts",
    "replace_activations": ".compress.surgery.replace_activations",
    "train": ".compress.train",
    "Dataset": ".data",
    "Preprocess": ".data",
    "Split": ".data",
    "load_data": ".data",
    "EdgeLatheError": ".errors",
    "export_onnx": ".export.to_onnx",
    "load_network": ".models.structure",
    "load_weights": ".models.weights",
    "save_network": ".models.structure",
    "build": ".models.zoo",
    "Recipe": ".recipe",
    "load_recipe": ".recipe",
    "Study": ".studyrecipe",
    "load_study": ".studyrecipe",
    "benchmark": ".verbs",
    "doctor": ".verbs",
    "explain": ".verbs",
    "gate": ".verbs",
    "inspect": ".verbs",
    "pack": ".verbs",
    "plan": ".verbs",
    "qat": ".verbs",
    "quantize": ".verbs",
    "report": ".verbs",
    "run": ".verbs",
    "store_weights": ".verbs",
    "study": ".verbs",
    "tune": ".verbs",
    "unpack": ".verbs",
}

__all__ = [
    "Dataset",
    "EdgeLatheError",
    "Preprocess",
    "Recipe",
    "Report",
    "Split",
    "Study",
    "benchmark",
    "build",
    "distill",
    "distill_several",
    "doctor",
    "drop_squeeze_excite",
    "explain",
    "export_onnx",
    "gate",
    "hold_zeros",
    "inspect",
    "load_data",
    "load_network",
    "load_recipe",
    "load_study",
    "load_weights",
    "open_shortcuts",
    "pack",
    "plan",
    "plan_from_sensitivity",
    "prune_channels",
    "prune_in_steps",
    "prune_to_widths",
    "qat",
    "quantize",
    "replace_activations",
    "report",
    "run",
    "save_network",
    "scan_sensitivity",
    "self_distill",
    "sparse_support",
    "sparsify",
    "sparsify_gradually",
    "store_weights",
    "study",
    "train",
    "tune",
    "unpack",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
