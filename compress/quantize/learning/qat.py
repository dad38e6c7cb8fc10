"""Quantization-aware training of an ONNX file: PTQ first, then training through fake quantization, then the same file.

Post-training quantization makes the plan. The prepared graph is trained in PyTorch with fake quantization at exactly
the plan's points (quantized_graph.py), and the plan with its learned ranges is applied to the trained graph: the same
operators as PTQ writes, with other numbers in them.

Batch norms are gone before training starts: `prepare` folds them, so nothing has to be frozen and nothing drifts
between training and the file. Training runs in float32, because codes rounded from bfloat16 would be other codes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack, get_args

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from .... import errors
from ....data import Dataset, Preprocess
from ....files import write_atomic
from ....models.onnx_graph import constant
from ...checkpoint import state_sha256
from ...distill.distill import Distillation
from ...distill.teachers import Teacher
from ...distill.weighting.share import TeacherShare
from ...fit import check_fit
from ...objective import CrossEntropy, Objective
from ...options import LoopOptions, TrainingOptions
from ...sparsify.hold import HeldZeros
from ...train import TrainResult, train
from ..builder import Builder, Pixels, Scheme
from ..calibration.coverage import coverage
from ..calibration.imagechunks import Images, as_sliceable
from ..calibration.ranges import Method
from ..placing.keep_float import check_keep_float
from ..placing.placement import Placement
from ..placing.targets import TARGETS
from ..plan import QuantPlan
from ..quantize import Quantized, audit_for
from .int8_gradients import Gradients
from .quantized_graph import QuantizedGraph
from .torch_graph import TorchGraph
from .value_ranges import RANGES, Ranges

DEFAULTS: TrainingOptions = {
    "lr": 0.0001, "weight_decay": 1e-4, "decay_norms": False, "precision": "float32", "title": "qat",
}  # fmt: skip
"""Where they are not those of `train`."""


@dataclass(frozen=True)
class Trained:
    """What quantization-aware training ended with."""

    prepared: ir.Model
    """The float graph; its weights lie on the grid of `plan`, so that nearest rounding gives the trained codes."""
    plan: QuantPlan
    training: TrainResult
    """Its accuracy is that of the fake-quantized network."""


@dataclass(frozen=True)
class QatResult:
    quantized: Quantized
    training: TrainResult

    def as_dict(self) -> dict[str, Any]:
        return self.quantized.as_dict() | {"summary": self.summary(), "test_accuracy": self.training.test_accuracy}

    def summary(self) -> str:
        count = len(self.training.epochs)
        trained = f"trained for {count} epoch{'s' * (count > 1)} to {self.training.test_accuracy:.2%}"
        return f"{self.quantized.summary()}; {trained}"


def qat(
    model: Path | str,
    output: Path | str,
    images: Images,
    data: Dataset,
    *,
    preprocess: Preprocess,
    teacher: nn.Module | ir.Model | None = None,
    teacher_preprocess: Preprocess | None = None,
    target: str = "x86-vnni",
    method: Method = "mse",
    per_channel: bool = True,
    keep_float: Sequence[str] = (),
    pixels: Pixels | None = None,
    ranges: Ranges = "lsq",
    gradients: Gradients = "float",
    alpha: float = 0.7,
    temperature: float = 1.0,
    **training: Unpack[LoopOptions],
) -> QatResult:
    """Write an int8 version of an ONNX model, trained on `data` to lose less than rounding alone.

    `images`, `target`, `method`, `per_channel`, `keep_float` and `pixels` are those of `quantize`, which makes the
    plan that training starts from; the other keywords are those of `train_quantized`.
    Raises EdgeLatheError for whatever those two refuse.
    """
    _check(ranges, gradients, alpha, temperature)
    scheme = Scheme(method, per_channel)
    builder = Builder(Path(model), images, target=target, pixels=pixels)
    check_keep_float(builder.plain, keep_float, target=target)
    planned = builder.planned(scheme, keep_float=keep_float)
    trained = train_quantized(
        planned.prepared, planned.placement, planned.plan, data, sparse=sparse_nodes(builder.plain),
        preprocess=preprocess, teacher=teacher, teacher_preprocess=teacher_preprocess, ranges=ranges,
        gradients=gradients, alpha=alpha, temperature=temperature, **training,
    )  # fmt: skip
    file = builder.file(trained.prepared, trained.plan, f"{scheme}, trained with {ranges} ranges")
    audited = audit_for(target, file, trained.plan)
    measured = {name: trained.plan.codes[name] for name in planned.statistics}
    covered = coverage(planned.statistics, measured, lowest_code=TARGETS[target].lowest_code)
    write_atomic(Path(output), file, "the int8 model")
    return QatResult(Quantized(trained.plan, audited, covered, len(as_sliceable(images))), trained.training)


def train_quantized(
    prepared: ir.Model,
    placement: Placement,
    plan: QuantPlan,
    data: Dataset,
    *,
    preprocess: Preprocess,
    sparse: Collection[str] = (),
    teacher: nn.Module | ir.Model | None = None,
    teacher_preprocess: Preprocess | None = None,
    ranges: Ranges = "lsq",
    gradients: Gradients = "float",
    alpha: float = 0.7,
    temperature: float = 1.0,
    **training: Unpack[LoopOptions],
) -> Trained:
    """Train the prepared graph through the roundings of `plan`.

    sparse      -- nodes whose weights stay zero where they are; `qat` names those with zeros in the float file.
    ranges      -- "lsq": steps of values and weights are learned (Esser et al. 2020); "ema": ranges of values are
                   moving averages of what batches hold, those of weights their extrema (Jacob et al. 2018).
    gradients   -- "int8": rounds gradients as well (Zhu et al. 2020), an experiment; see int8_gradients.py.
    teacher     -- whose answers are learned beside the labels; None: the float graph itself. Its inputs are
                   normalised by `teacher_preprocess`, default `preprocess`.
    alpha       -- share of the teacher in the loss, 0 to 1.
    temperature -- softens both outputs. Not that of distillation: low-bit students suffer where it is above 2.
    The other keywords are those of `train`; steps and biases are spared weight decay.

    `prepared` and `teacher` stay untouched. Raises EdgeLatheError for impossible settings, operators without a
    PyTorch counterpart, and whatever `train` refuses.
    """
    _check(ranges, gradients, alpha, temperature)
    options: TrainingOptions = {**DEFAULTS, **training}
    label_smoothing, seed = options.pop("label_smoothing", 0.0), options.get("seed", 0)
    network = QuantizedGraph(prepared, placement, plan, ranges=ranges, gradients=gradients, seed=seed)
    objective: Objective = CrossEntropy(label_smoothing)
    if alpha > 0:
        frozen = _frozen(prepared if teacher is None else teacher)
        theirs = teacher_preprocess or preprocess
        logits, answers = check_fit(network, data, preprocess), check_fit(frozen, data, theirs)
        if logits != answers:
            raise errors.training.unequal_logits(logits, answers)
        objective = Distillation(
            Teacher("teacher", frozen, theirs, state_sha256(frozen)), TeacherShare("fixed", alpha=alpha), temperature,
            label_smoothing,
        )  # fmt: skip
    masks = network.zeros_of(sparse)
    options["constraint"] = HeldZeros(network, masks) if masks else None
    result = train(network, data, preprocess=preprocess, objective=objective, **options)
    return Trained(network.to_ir(), network.plan(), result)


def sparse_nodes(plain: ir.Model) -> frozenset[str]:
    """Nodes of a float graph some of whose weights are exactly zero, as pruning leaves them. To be asked before the
    graph is rewritten for pixels: that pads kernels with zeros of its own."""
    weights = {str(node.name): constant(node.inputs[1]) for node in plain.graph if len(node.inputs) > 1}
    return frozenset(name for name, weight in weights.items() if weight is not None and not np.all(weight))


def _frozen(teacher: nn.Module | ir.Model) -> nn.Module:
    network = TorchGraph(teacher) if isinstance(teacher, ir.Model) else copy.deepcopy(teacher)
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _check(ranges: str, gradients: str, alpha: float, temperature: float) -> None:
    if ranges not in RANGES:
        raise errors.inputs.unknown_choice("ranges", ranges, RANGES)
    if gradients not in get_args(Gradients):
        raise errors.inputs.unknown_choice("gradients", gradients, get_args(Gradients))
    if not 0 <= alpha <= 1:
        raise errors.inputs.impossible_setting("alpha", alpha, "between 0 and 1")
    if not 0 < temperature < math.inf:
        raise errors.inputs.impossible_setting("temperature", temperature, "above 0")
