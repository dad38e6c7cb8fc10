"""Training a network to answer as a larger one does: usually the network it was pruned from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, Unpack

import torch
from torch import Tensor, nn

from ... import errors
from ...data import Dataset, Preprocess
from ..fit import check_fit
from ..objective import Batch, Objective, as_tensor, network_inputs
from ..options import TrainingOptions
from ..train import TrainResult, train
from .dkd import dkd
from .kd import kd
from .layers import layers_of
from .matching import FEATURE_LOSSES, FEWEST_RELATED, FeatureLoss, FeatureMatching, feature_pairs
from .means import Means
from .stored_teacher import StoreAnswers, answering_teacher
from .teachers import Teacher, as_teacher
from .weighting.make import make_teacher_share
from .weighting.names import HIGHEST, LOWEST, Weighting
from .weighting.share import TeacherShare

Loss = Literal["kd", "dkd"] | FeatureLoss
LOSSES: tuple[str, ...] = ("kd", "dkd", *FEATURE_LOSSES)

DEFAULTS: TrainingOptions = {"lr": 0.05, "title": "distill"}

WARMUP_SHARE = 1 / 12
"""Of all epochs, over which decoupled distillation comes in: 20 of 240 in the paper."""


@dataclass(frozen=True)
class Decoupled:
    """How decoupled distillation weighs its parts, see dkd.py."""

    target: float
    others: float
    warmup: float
    """Epochs over which the teacher's share rises from zero."""


@dataclass(frozen=True)
class Distillation(Objective):
    """The objective of `distill`: one frozen teacher, softened outputs."""

    teacher: Teacher
    """Sees the student's augmented pixels through a normalisation of its own."""
    share: TeacherShare
    temperature: float
    label_smoothing: float = 0.0
    decoupled: Decoupled | None = None
    """None: Hinton's loss."""
    _means: Means = field(default_factory=Means)

    def settings(self) -> Mapping[str, object]:
        decoupled = {} if self.decoupled is None else {f"dkd_{k}": v for k, v in asdict(self.decoupled).items()}
        return {
            "loss": "dkd" if self.decoupled else "kd", **self.share.settings(), **decoupled,
            "temperature": self.temperature, "label_smoothing": self.label_smoothing,
            "teacher": dict(self.teacher.settings()),
        }  # fmt: skip

    def trained(self) -> nn.Module | None:
        return self.share if self.share.needs_state else None

    def __call__(self, batch: Batch) -> Tensor:
        answers = self.teacher.logits(batch)
        taught, labelled = self._taught(batch, answers), batch.label_loss(batch.logits, self.label_smoothing)
        share = self.share(batch, answers, taught, labelled)
        if self.decoupled and batch.done < self.decoupled.warmup:
            share = share * (batch.done / self.decoupled.warmup)
        self._means.add(teacher=taught, labels=labelled)
        return torch.mean(share * taught + (1 - share) * labelled)

    def _taught(self, batch: Batch, answers: Tensor) -> Tensor:
        """The teacher's part of the loss, float32 [N]."""
        if self.decoupled is None:
            return kd(batch.logits, answers, temperature=self.temperature)
        weights = {"target": self.decoupled.target, "others": self.decoupled.others}
        own = dkd(batch.logits, answers, batch.labels, temperature=self.temperature, **weights)
        if batch.mixing is None:
            return own
        shares, partners = batch.mixing.shares, batch.mixing.partners
        mixed_in = dkd(batch.logits, answers, partners, temperature=self.temperature, **weights)
        return shares * own + (1 - shares) * mixed_in

    def logged(self) -> Mapping[str, float]:
        """The teacher's shares, and both parts of the loss without them."""
        return {**self.share.logged(), **self._means.take()}


def distill(
    model: nn.Module,
    teacher: nn.Module,
    data: Dataset,
    *,
    preprocess: Preprocess,
    teacher_preprocess: Preprocess,
    loss: Loss = "kd",
    weighting: Weighting = "fixed",
    alpha: float | None = None,
    alpha_min: float = LOWEST,
    alpha_max: float = HIGHEST,
    teacher_accuracy: float | None = None,
    temperature: float = 4.0,
    layers: Sequence[str] | Mapping[str, str] | None = None,
    beta: float | None = None,
    hint_epochs: float = 0.0,
    dkd_target: float = 1.0,
    dkd_others: float = 8.0,
    dkd_warmup: float | None = None,
    store_answers: StoreAnswers = "auto",
    answers_in: Path | None = None,
    **training: Unpack[TrainingOptions],
) -> TrainResult:
    """Train `model` in place on the labels and on what `teacher` answers to the same augmented pixels.

    loss        -- "kd": softened outputs (Hinton et al. 2015), see kd.py; "dkd": the same, decoupled, see dkd.py.
                   "fitnets", "attention", "vid", "rkd-distance", "rkd-angle" and "rkd" (both) add to "kd" a loss on
                   features, see hint.py, attention_transfer.py, vid.py, rkd.py.
    weighting   -- how the share of the teacher is set per image, see weighting/share.py.
    alpha       -- share of the teacher's answers in the loss, 0 to 1; default 0.9, and 0.5 where the paper weighs both
                   alike ("dkd", and the weightings "accuracy" and "gap"). With 0, losses on features join the labels
                   alone, as in their papers.
    temperature -- softens both outputs; 4 to 5 suits float students, 1 to 2 low-bit ones.
    layers      -- whose features are compared: names in both networks, or student's name to teacher's; None: ends of
                   resolution stages, see matching.feature_pairs.
    beta        -- weight of the loss on features; None: that of its paper, matching.BETA.
    hint_epochs -- "fitnets" in two stages, as in the paper: hints alone for so many epochs, then no hints; 0: hints,
                   answers and labels together.
    dkd_target, dkd_others, dkd_warmup
                -- weights of what the teacher says about the label and about the other classes, and the epochs over
                   which its share rises from zero (None: a twelfth of them all).
    store_answers
                -- the losses on logits alone read what the teacher answers to each of `views` from disk; "auto": where
                   there are fewer views than epochs. See stored_answers.py.
    answers_in  -- the folder for them, which students of the same teacher may share; None: one beside the checkpoint.
    The other keywords are those of `train`, with lr = 0.05; `label_smoothing` acts on the labels' part only.

    `teacher` is copied and left as it was. Raises what `train` raises, and EdgeLatheError for a teacher that does
    not take these images or does not know the same classes, and for layers that are unknown.
    """
    options: TrainingOptions = {**DEFAULTS, **training}
    _check_settings(loss, temperature, layers, beta, hint_epochs, dkd_target, dkd_others, dkd_warmup, options)
    logits, theirs = check_fit(model, data, preprocess), check_fit(teacher, data, teacher_preprocess)
    if logits != theirs:
        raise errors.training.unequal_logits(logits, theirs)
    assert data.train is not None, "check_fit refuses it"
    frozen = answering_teacher(
        as_teacher("teacher", teacher, teacher_preprocess), data, store=store_answers, loss=loss,
        on_logits=loss not in FEATURE_LOSSES, folder=answers_in, options=options,
    )  # fmt: skip
    share = make_teacher_share(
        weighting, lambda images: frozen.network(network_inputs(images, teacher_preprocess)), data.train,
        alpha=0.5 if loss == "dkd" and alpha is None else alpha, alpha_min=alpha_min, alpha_max=alpha_max,
        teacher_accuracy=teacher_accuracy, temperature=temperature, augmented=options.get("augment", "none"),
        mix=options.get("mix", "none"), mix_strength=options.get("mix_strength", 0.2), seed=options.get("seed", 0),
    )  # fmt: skip
    decoupled = None
    if loss == "dkd":
        warmup = options["epochs"] * WARMUP_SHARE if dkd_warmup is None else dkd_warmup
        decoupled = Decoupled(dkd_target, dkd_others, warmup)
    objective: Objective = Distillation(frozen, share, temperature, options.pop("label_smoothing", 0.0), decoupled)
    if loss in FEATURE_LOSSES:
        two = as_tensor(data.train.x[:2])
        own = layers_of(model, network_inputs(two, preprocess))
        taught = layers_of(frozen.network, network_inputs(two, teacher_preprocess))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.get("seed", 0))
            objective = FeatureMatching(
                objective, frozen.network, loss, feature_pairs(loss, own, taught, layers), beta=beta,
                hint_epochs=hint_epochs,
            )  # fmt: skip
    return train(model, data, preprocess=preprocess, objective=objective, **options)


_READ_BY: dict[str, tuple[str, ...]] = {
    "layers": FEATURE_LOSSES,
    "beta": FEATURE_LOSSES,
    "hint_epochs": ("fitnets",),
    "dkd_target": ("dkd",),
    "dkd_others": ("dkd",),
    "dkd_warmup": ("dkd",),
}


def _check_settings(
    loss: str,
    temperature: float,
    layers: Sequence[str] | Mapping[str, str] | None,
    beta: float | None,
    hint_epochs: float,
    dkd_target: float,
    dkd_others: float,
    dkd_warmup: float | None,
    options: TrainingOptions,
) -> None:
    if loss not in LOSSES:
        raise errors.inputs.unknown_choice("loss", loss, LOSSES)
    epochs = options["epochs"]
    ranges: tuple[tuple[str, object, object, bool, str], ...] = (
        ("temperature", temperature, None, 0 < temperature < math.inf, "above 0"),
        ("beta", beta, None, beta is None or 0 <= beta < math.inf, "0 or more"),
        ("hint_epochs", hint_epochs, 0.0, 0 <= hint_epochs <= epochs, f"between 0 and the {epochs} epochs"),
        ("dkd_target", dkd_target, 1.0, 0 <= dkd_target < math.inf, "0 or more"),
        ("dkd_others", dkd_others, 8.0, 0 <= dkd_others < math.inf, "0 or more"),
        (
            "dkd_warmup", dkd_warmup, None, dkd_warmup is None or 0 <= dkd_warmup <= epochs,
            f"between 0 and the {epochs} epochs",
        ),
        ("layers", layers, None, True, ""),
    )  # fmt: skip
    for name, value, usual, sound, valid in ranges:
        if not sound:
            raise errors.inputs.impossible_setting(name, value, valid)
        if value != usual and loss not in _READ_BY.get(name, LOSSES):
            raise errors.features.idle_key(name, loss, _READ_BY[name])
    if loss.startswith("rkd") and options.get("batch", 128) < FEWEST_RELATED:
        raise errors.inputs.impossible_setting("batch", options["batch"], f"{FEWEST_RELATED} or more with {loss}")
