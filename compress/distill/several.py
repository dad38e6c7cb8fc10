"""Training a network to answer as several teachers do, after AMTML-KD (Liu et al. 2020).

    L = alpha T^2 KL( target || softmax(s / T) ) + (1 - alpha) CE(s, y) + beta sum over teachers of their feature loss
        + relations ( RKD distance + RKD angle ) + decay ( |v|^2 + sum over teachers of |theta_k|^2 )

with student logits s, label y and the teachers' weighted mean `target` (teacher_weights.py). The relations are those
between the softened answers to a batch's images. The authors' hints are the feature loss "fitnets".

What weights learn from. In AMTML-KD ("amtml") it is the loss above, and that is least for the teacher whose answers the
student can imitate at once, which favours bad and vague ones. "adaptive" is ours: weights learn from

    CE( target, y )

instead, so that a teacher counts where it knows the label, and the student learns from a target that it cannot move.

Where the authors' code (FLHonker/AMTML-KD-code) is not its description, "amtml" is the description: cross entropy is
that of the logits and not of softened logarithms, the divergence is summed over classes and not averaged, and weights
and hints are learned in all epochs and not in 70 beforehand. In neither rule a gradient goes through weights into the
student.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Unpack, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import errors
from ...data import Dataset, Preprocess
from ..fit import check_fit
from ..objective import Batch, Objective, as_tensor, network_inputs
from ..options import TrainingOptions
from ..train import TrainResult, train
from .features import Features
from .layers import Layer, layers_of, stage_ends
from .matching import FEATURE_LOSSES, FeatureLoss, FeatureMatching, feature_pairs
from .rkd import rkd_angle, rkd_distance
from .stored_teacher import StoreAnswers, answering_teacher
from .teacher_weights import TeacherWeights, equal_weights, pooled, soft_target
from .teachers import Teacher, check_teachers

DEFAULTS: TrainingOptions = {"lr": 0.05, "title": "distill"}
"""Where they are not those of `train`."""

Combine = Literal["adaptive", "amtml", "mean"]
COMBINES: tuple[Combine, ...] = get_args(Combine)
SEVERAL_FEATURES = ("none", *FEATURE_LOSSES)


class SeveralTeachers(Objective):
    """What `distill_several` minimises, without the losses on features."""

    def __init__(
        self,
        teachers: Sequence[Teacher],
        *,
        alpha: float,
        temperature: float,
        label_smoothing: float,
        weights: TeacherWeights | None,
        layer: str,
        decay: float,
        by_labels: bool,
        relations: float,
    ) -> None:
        """weights   -- None: the mean of the teachers; what is said of weights then says nothing.
        layer     -- the student's layer that they depend on.
        by_labels -- they are learned from the labels; else from the student's loss.
        """
        self.by_labels = by_labels
        self.teachers, self.alpha, self.temperature = tuple(teachers), alpha, temperature
        self.label_smoothing, self.relations = label_smoothing, relations
        self.weights, self.layer, self.decay = weights, layer, decay
        self._features = Features([layer] if weights else [], "student")
        self._weight_sums, self._images = torch.zeros(len(self.teachers), dtype=torch.float64), 0

    def settings(self) -> Mapping[str, object]:
        learned = {"layer": self.layer, "decay": self.decay, "by_labels": self.by_labels} if self.weights else {}
        return {
            "loss": "several teachers", "alpha": self.alpha,
            "temperature": self.temperature, "label_smoothing": self.label_smoothing, "relations": self.relations,
            "teachers": [dict(teacher.settings()) for teacher in self.teachers], "weights": learned,
        }  # fmt: skip

    def trained(self) -> nn.Module | None:
        return self.weights

    @contextmanager
    def listening(self, model: nn.Module, /) -> Iterator[None]:
        with self._features.listening(model):
            yield

    def __call__(self, batch: Batch) -> Tensor:
        answers = torch.stack([teacher.logits(batch) for teacher in self.teachers])
        weights = self._log_weights(len(batch.labels))
        target = soft_target(answers, weights, self.temperature)
        self._weight_sums += weights.detach().exp().double().sum(dim=0)
        self._images += len(weights)
        penalty = self._learned_penalty(batch, target)
        target = target.detach() if self.by_labels else target
        student = F.log_softmax(batch.logits / self.temperature, dim=1)
        divergence = F.kl_div(student, target, reduction="none", log_target=True).sum(dim=1)
        hard = batch.label_loss(batch.logits, self.label_smoothing)
        share = torch.full_like(hard, self.alpha)
        loss = torch.mean(share * (self.temperature**2 * divergence) + (1 - share) * hard)
        if self.relations:
            pair = student.exp(), target.detach().exp()
            loss = loss + self.relations * (rkd_distance(*pair) + rkd_angle(*pair))
        return loss if penalty is None else loss + penalty

    def _learned_penalty(self, batch: Batch, target: Tensor) -> Tensor | None:
        """What the weights minimise besides the student's loss, or, learned from the labels, instead of it."""
        if self.weights is None:
            return None
        penalty = self.decay * self.weights.penalty()
        return penalty + batch.label_loss(target).mean() if self.by_labels else penalty

    def _log_weights(self, images: int) -> Tensor:
        if self.weights is None:
            return equal_weights(images, len(self.teachers))
        return self.weights(pooled(self._features.take()[self.layer]))

    def logged(self) -> Mapping[str, float]:
        """Mean weight of each teacher."""
        if not self._images:
            return {}
        means = (self._weight_sums / self._images).tolist()
        self._weight_sums.zero_()
        self._images = 0
        return {f"weight of {teacher.name}": mean for teacher, mean in zip(self.teachers, means, strict=True)}


class _FeaturesOfOne(FeatureMatching):
    """A loss on the features of one of several teachers, logged under its name."""

    name: str

    def logged(self) -> Mapping[str, float]:
        mine = {f"{loss} of {self.name}": mean for loss, mean in self._means.take().items()}
        return {**self.base.logged(), **mine}


def distill_several(
    model: nn.Module,
    teachers: Sequence[Teacher],
    data: Dataset,
    *,
    preprocess: Preprocess,
    combine: Combine = "adaptive",
    layer: str | None = None,
    decay: float = 0.1,
    alpha: float = 0.7,
    temperature: float = 5.0,
    features: FeatureLoss | Literal["none"] = "none",
    beta: float | None = None,
    layers: Sequence[str] | Mapping[str, str] | None = None,
    relations: float = 0.0,
    store_answers: StoreAnswers = "auto",
    answers_in: Path | None = None,
    **training: Unpack[TrainingOptions],
) -> TrainResult:
    """Train `model` in place on the labels and on what several teachers answer to the same augmented pixels.

    combine     -- how much each teacher counts: "adaptive" and "amtml" learn weights for each image from the student's
                   features, see above; with "mean", or a single teacher, all count alike.
    layer       -- the student's layer that learned weights depend on; default: the end of its last resolution stage.
    decay       -- strength of the penalty on what weights are made of.
    alpha       -- share of the teachers in the loss, 0 to 1.
    temperature -- softens all answers.
    features    -- a loss on features of every teacher as well, "fitnets" (hints) being the authors'; see matching.py.
    beta        -- its weight for each teacher; default: what is usual with one.
    layers      -- the layers it compares, of the same name in all networks or student's name to teachers'; default:
                   those that are usual for the loss.
    relations   -- weight of relational distillation of the softened answers; 1 is the authors'.
    store_answers, answers_in
                -- as for `distill`, of every teacher: without losses on features, answers to `views` are computed once.
    The other keywords are those of `train`; `label_smoothing` acts on the labels' part only.

    The mean weight of each teacher is in every epoch's `logged`. Teachers stay as they are. Raises what `train` raises,
    and EdgeLatheError for teachers that do not take these images, know other classes, or are ONNX files, which have no
    feature maps, where those are compared.
    """
    options: TrainingOptions = {**DEFAULTS, **training}
    seed = options.get("seed", 0)
    _check_settings(combine, layer, decay, alpha, temperature, features, beta, layers, relations)
    check_teachers(teachers, data, check_fit(model, data, preprocess))
    teachers = [
        answering_teacher(
            teacher, data, store=store_answers, loss=features, on_logits=features == "none", folder=answers_in,
            options=options,
        )
        for teacher in teachers
    ]  # fmt: skip
    two = as_tensor(data.test.x[:2])
    own = layers_of(model, network_inputs(two, preprocess))
    weights = None
    if combine != "mean" and len(teachers) > 1:
        layer = _deciding_layer(own) if layer is None else layer
        if layer not in own:
            raise errors.features.unknown_layer(layer, "student", own)
        weights = TeacherWeights(len(teachers), own[layer].shape[0], seed)
    objective: Objective = SeveralTeachers(
        teachers, alpha=alpha, temperature=temperature, label_smoothing=options.pop("label_smoothing", 0.0),
        weights=weights, layer=layer or "", decay=decay, by_labels=combine == "adaptive", relations=relations,
    )  # fmt: skip
    if features != "none":
        for teacher in teachers:
            objective = _with_features(objective, teacher, features, own, two, layers, beta, seed)
    return train(model, data, preprocess=preprocess, objective=objective, **options)


def _with_features(
    objective: Objective, teacher: Teacher, loss: FeatureLoss, own: Mapping[str, Layer], images: Tensor,
    layers: Sequence[str] | Mapping[str, str] | None, beta: float | None, seed: int,
) -> Objective:  # fmt: skip
    """`objective`, which runs `teacher`, plus `loss` on its features; `own` are the student's layers."""
    if not teacher.has_maps:
        raise errors.teachers.no_maps(teacher.name)
    theirs = layers_of(teacher.network, network_inputs(images, teacher.preprocess))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        added = _FeaturesOfOne(objective, teacher.network, loss, feature_pairs(loss, own, theirs, layers), beta=beta)
    added.name = teacher.name
    return added


def _deciding_layer(own: Mapping[str, Layer]) -> str:
    """The end of the last resolution stage; where there are none, the vector before the answer."""
    ends = list(stage_ends(own).values())
    vectors = [name for name, layer in own.items() if len(layer.shape) == 1]
    if not ends and len(vectors) < 2:
        raise errors.features.no_stages("student", list(own))
    return ends[-1] if ends else vectors[-2]


def _check_settings(
    combine: str, layer: str | None, decay: float, alpha: float, temperature: float, features: str,
    beta: float | None, layers: object, relations: float,
) -> None:  # fmt: skip
    for key, word, words in (("combine", combine, COMBINES), ("features", features, SEVERAL_FEATURES)):
        if word not in words:
            raise errors.inputs.unknown_choice(key, word, words)
    infinity = float("inf")
    ranges = (
        ("alpha", alpha, 0 <= alpha <= 1, "between 0 and 1"),
        ("temperature", temperature, 0 < temperature < infinity, "above 0"),
        ("decay", decay, 0 <= decay < infinity, "0 or more"),
        ("relations", relations, 0 <= relations < infinity, "0 or more"),
        ("beta", beta, beta is None or 0 <= beta < infinity, "0 or more"),
        ("layer", layer, layer is None or combine != "mean", 'left out beside combine = "mean"'),
        ("beta", beta, beta is None or features != "none", 'left out beside features = "none"'),
        ("layers", layers, layers is None or features != "none", 'left out beside features = "none"'),
    )
    for name, value, sound, valid in ranges:
        if not sound:
            raise errors.inputs.impossible_setting(name, value, valid)
