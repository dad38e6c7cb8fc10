"""Losses on features: distillation from answers, and a loss on what chosen layers of both networks give."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ... import errors
from ..objective import Batch, Objective
from .attention_transfer import attention_transfer
from .features import FeaturePair, Features, paired_layers, paired_stages
from .hint import hint
from .layers import Layer
from .means import Means
from .regressors import Regressor, as_map, as_vector, same_size
from .rkd import rkd, rkd_angle, rkd_distance
from .vid import Variational

FeatureLoss = Literal["fitnets", "attention", "vid", "rkd-distance", "rkd-angle", "rkd"]
FEATURE_LOSSES: tuple[FeatureLoss, ...] = get_args(FeatureLoss)

BETA: dict[FeatureLoss, float] = {
    "fitnets": 100.0,
    "attention": 1000.0,
    "vid": 1.0,
    "rkd-distance": 25.0,
    "rkd-angle": 50.0,
    "rkd": 1.0,
}
"""Weight of each loss as its authors or RepDistiller set it; "rkd" holds the weights of its two parts itself."""

_RELATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "rkd-distance": rkd_distance,
    "rkd-angle": rkd_angle,
    "rkd": rkd,
}
FEWEST_RELATED = 3
"""Images that a batch must hold for relations among them."""


class FeatureMatching(Objective):
    """The objective `base`, whose teacher it listens to, plus `beta` times the losses of `pairs`."""

    def __init__(
        self,
        base: Objective,
        teacher: nn.Module,
        loss: FeatureLoss,
        pairs: Sequence[FeaturePair],
        *,
        beta: float | None = None,
        hint_epochs: float = 0.0,
    ) -> None:
        """`teacher` is the network that `base` runs on every batch; regressors are drawn from torch's seed.

        Raises EdgeLatheError for layers of one position where `loss` compares attention.
        """
        self.base, self.teacher, self.loss, self.pairs = base, teacher, loss, tuple(pairs)
        self.beta = BETA[loss] if beta is None else beta
        self.hint_epochs = hint_epochs
        self._comparisons = [_comparison(loss, pair) for pair in pairs]
        learned = [base.trained(), *(comparison.loss for comparison in self._comparisons)]
        self._trained = nn.ModuleList(module for module in learned if isinstance(module, nn.Module))
        self._seen = Features((pair.student for pair in pairs), "student")
        self._taught = Features((pair.teacher for pair in pairs), "teacher")
        self._means = Means()

    def settings(self) -> Mapping[str, object]:
        settings = {**self.base.settings(), "loss": self.loss, "beta": self.beta}
        if self.hint_epochs:
            settings["hint_epochs"] = self.hint_epochs
        return settings | {"layers": {pair.student: pair.teacher for pair in self.pairs}}

    def trained(self) -> nn.Module | None:
        return self._trained if len(self._trained) else None

    @contextmanager
    def listening(self, model: nn.Module, /) -> Iterator[None]:
        with self.base.listening(model), self._seen.listening(model), self._taught.listening(self.teacher):
            yield

    def __call__(self, batch: Batch) -> Tensor:
        answered = self.base(batch)  # the teacher runs in here
        student, teacher = self._seen.take(), self._taught.take()
        term = torch.stack([compare(student, teacher) for compare in self._comparisons]).sum()
        self._means.add(**{self.loss: term})
        if not self.hint_epochs:
            return answered + self.beta * term
        return self.beta * term if batch.done < self.hint_epochs else answered

    def logged(self) -> Mapping[str, float]:
        """The base's terms, and the sum over pairs without `beta`."""
        return {**self.base.logged(), **self._means.take()}


def feature_pairs(
    loss: FeatureLoss,
    student: Mapping[str, Layer],
    teacher: Mapping[str, Layer],
    layers: Sequence[str] | Mapping[str, str] | None,
) -> tuple[FeaturePair, ...]:
    """The layers that are named, else those that the loss takes in the literature: attention and "vid" the end of every
    resolution stage, hints that of the middle one, relations that of the last one.

    student, teacher -- the layers of each network, by name (layers.py).
    Raises EdgeLatheError for names that are unknown and networks without stages.
    """
    if layers is not None:
        return paired_layers(student, teacher, layers)
    pairs = paired_stages(student, teacher)
    if loss == "fitnets":
        return (pairs[len(pairs) // 2],)
    return pairs[-1:] if loss in _RELATIONS else pairs


@dataclass(frozen=True)
class _Comparison:
    """The loss of one pair of layers."""

    pair: FeaturePair
    loss: Callable[[Tensor, Tensor], Tensor]
    """A module where something is learned for it."""
    of_vectors: bool = False

    def __call__(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
        mine, theirs = student[self.pair.student], teacher[self.pair.teacher]
        if self.of_vectors:
            return self.loss(as_vector(mine), as_vector(theirs))
        return self.loss(*same_size(as_map(mine), as_map(theirs)))


def _comparison(loss: FeatureLoss, pair: FeaturePair) -> _Comparison:
    if loss in _RELATIONS:
        return _Comparison(pair, _RELATIONS[loss], of_vectors=True)
    if loss == "attention":
        if 1 in (math.prod(pair.student_shape[1:]), math.prod(pair.teacher_shape[1:])):
            raise errors.features.no_positions(pair.student, pair.teacher, pair.student_shape, pair.teacher_shape)
        return _Comparison(pair, attention_transfer)
    learned = Variational if loss == "vid" else _Hint
    return _Comparison(pair, learned(pair.student_shape[0], pair.teacher_shape[0]))


class _Hint(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.regressor = Regressor(inputs, outputs)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return hint(self.regressor(student), teacher)
