"""Training a network to answer as a larger one does: usually the network it was pruned from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ... import errors
from ...data import Dataset, Preprocess
from ..augment import Augment
from ..checkpoint import Epoch, state_sha256
from ..constraint import Constraint
from ..fit import check_fit
from ..objective import Batch, as_tensor, network_inputs
from ..penalty import Sparsity
from ..schedule import Schedule
from ..train import TrainResult, train
from .kd import kd
from .weighting import RULES, WEIGHTINGS, teacher_share

_SCORED_IMAGES = 5000


@dataclass(frozen=True)
class Distillation:
    """The objective of `distill`: one frozen teacher, softened outputs."""

    teacher: nn.Module
    """In eval mode; sees the student's augmented pixels through a normalisation of its own."""
    preprocess: Preprocess
    weighting: str
    alpha: float
    temperature: float
    label_smoothing: float
    mean_score: float
    """Mean of the weighting rule over training images; 1 for "fixed"."""
    teacher_sha256: str

    def settings(self) -> Mapping[str, object]:
        return {
            "loss": "kd", "weighting": self.weighting, "alpha": self.alpha, "temperature": self.temperature,
            "label_smoothing": self.label_smoothing, "mean_score": self.mean_score,
            "teacher": self.teacher_sha256, "teacher_mean": list(self.preprocess.mean),
            "teacher_std": list(self.preprocess.std),
        }  # fmt: skip

    def __call__(self, batch: Batch) -> Tensor:
        answers = batch.run(self.teacher, self.preprocess)
        share = teacher_share(
            self.weighting, answers, batch.labels, alpha=self.alpha, temperature=self.temperature,
            mean_score=self.mean_score,
        )  # fmt: skip
        return kd(
            batch.logits, answers, batch.labels, share=share, temperature=self.temperature,
            label_smoothing=self.label_smoothing,
        )  # fmt: skip


def distill(
    model: nn.Module,
    teacher: nn.Module,
    data: Dataset,
    *,
    preprocess: Preprocess,
    teacher_preprocess: Preprocess,
    loss: Literal["kd"] = "kd",
    weighting: Literal["fixed", "confidence", "agreement", "entropy"] = "fixed",
    alpha: float = 0.9,
    temperature: float = 4.0,
    epochs: int,
    batch: int = 128,
    lr: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    decay_norms: bool = True,
    schedule: Schedule = "cosine",
    warmup: float = 0.0,
    label_smoothing: float = 0.0,
    augment: Augment = "none",
    sparsity: Sparsity = "none",
    sparsity_strength: float = 1e-4,
    precision: Literal["auto", "float32", "bf16"] = "auto",
    compiled: bool | Literal["auto"] = False,
    evaluate: Literal["last", "every"] = "last",
    seed: int = 0,
    threads: int | None = None,
    constraint: Constraint | None = None,
    state: Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    progress: bool = True,
    title: str = "distill",
) -> TrainResult:
    """Train `model` in place on the labels and on what `teacher` answers to the same augmented pixels.

    loss        -- "kd": softened outputs (Hinton et al. 2015), see kd.py.
    weighting   -- how the share of the teacher is set per image, see weighting.py.
    alpha       -- share of the teacher in the loss, 0 to 1.
    temperature -- softens both outputs; 4 to 5 suits float students, 1 to 2 low-bit ones.
    The other keywords are those of `train`; `label_smoothing` acts on the labels' part only.

    `teacher` is copied and left as it was. Raises what `train` raises, and EdgeLatheError for a teacher that does
    not take these images or does not know the same classes.
    """
    _check_settings(loss, weighting, alpha, temperature)
    logits, answers = check_fit(model, data, preprocess), check_fit(teacher, data, teacher_preprocess)
    if logits != answers:
        raise errors.training.unequal_logits(logits, answers)
    frozen = copy.deepcopy(teacher).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    objective = Distillation(
        frozen, teacher_preprocess, weighting, alpha, temperature, label_smoothing,
        _mean_score(frozen, data, teacher_preprocess, weighting, temperature, seed), state_sha256(teacher),
    )  # fmt: skip
    return train(
        model, data, preprocess=preprocess, epochs=epochs, batch=batch, lr=lr, momentum=momentum,
        weight_decay=weight_decay, decay_norms=decay_norms, schedule=schedule, warmup=warmup, augment=augment,
        sparsity=sparsity, sparsity_strength=sparsity_strength, precision=precision, compiled=compiled,
        evaluate=evaluate, seed=seed, threads=threads,
        objective=objective, constraint=constraint, state=state, on_epoch=on_epoch, progress=progress, title=title,
    )  # fmt: skip


def _check_settings(loss: str, weighting: str, alpha: float, temperature: float) -> None:
    if loss != "kd":
        raise errors.inputs.unknown_choice("loss", loss, ["kd"])
    if weighting not in WEIGHTINGS:
        raise errors.inputs.unknown_choice("weighting", weighting, WEIGHTINGS)
    if not 0 <= alpha <= 1:
        raise errors.inputs.impossible_setting("alpha", alpha, "between 0 and 1")
    if not 0 < temperature < float("inf"):
        raise errors.inputs.impossible_setting("temperature", temperature, "above 0")


def _mean_score(
    teacher: nn.Module, data: Dataset, preprocess: Preprocess, weighting: str, temperature: float, seed: int
) -> float:
    """Mean score of the rule over up to 5000 training images, without augmentation."""
    if weighting == "fixed" or data.train is None:
        return 1.0
    sample = data.train.take(_SCORED_IMAGES, seed)
    images, labels = as_tensor(sample.x), as_tensor(sample.y)
    total = 0.0
    with torch.inference_mode():
        for first in range(0, len(labels), 250):
            part = slice(first, first + 250)
            answers = teacher(network_inputs(images[part], preprocess))
            total += float(RULES[weighting](answers, labels[part], temperature).sum())
    # Coarse, so that another number of threads (other last bits) does not make it another training.
    return round(total / len(labels), 4)
