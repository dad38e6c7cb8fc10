"""A network that learns from itself: its early exits from its own answer (Zhang et al. 2019, "Be Your Own Teacher").

    L = (1 - a) sum_{j = 1..C} CE(z_j, y)  +  a T^2 sum_{j < C} KL( softmax(z_C / T) || softmax(z_j / T) )
        + b sum_{j < C} || f_j - f_C ||^2                                            averaged over the batch

with the logits z_j and features f_j of exit j, C the network's own answer and its last feature map's mean over the
image. z_C and f_C teach and are not taught by it: no gradient flows into them. The labels reach early layers through
short ways, and the network's own answer gains by that; the exits are thrown away afterwards, or kept.

Where the paper is silent, this follows luanyunteng/pytorch-be-your-own-teacher: `a` for all exits, the network's own
cross entropy times (1 - a) as well, and its defaults; its b = 1e-6 is of a sum over a batch of 128, here it is of the
mean. Branches end in the channels of f_C, so that no regressors are needed between the features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import errors
from ...data import Dataset, Preprocess
from ...models.exits import Exits
from ..fit import check_fit
from ..objective import Batch, Objective, as_tensor, network_inputs
from ..options import TrainingOptions
from ..train import TrainResult, train
from .exits import ExitCount, count_right, plan_exits
from .features import Features

DEFAULTS: TrainingOptions = {"title": "self-distill"}
"""Where they are not those of `train`."""


@dataclass(frozen=True)
class Terms:
    """The three sums over exits, each averaged over the batch, without their weights."""

    labels: Tensor
    answers: Tensor
    features: Tensor

    def total(self, *, alpha: float, temperature: float, beta: float) -> Tensor:
        return (1 - alpha) * self.labels + alpha * temperature**2 * self.answers + beta * self.features


def self_distillation_terms(
    own: Tensor, exits: Tensor, own_features: Tensor, features: Tensor, label_losses: Tensor, *, temperature: float
) -> Terms:
    """The terms of the loss for E exits.

    own, exits             -- logits float32 [N, classes] of the network, [E, N, classes] of the exits.
    own_features, features -- float32 [N, C] of the network, [E, N, C] of the exits.
    label_losses           -- float32 [E + 1, N]: cross entropy of each exit's and the network's answers.
    """
    divergence = F.kl_div(
        F.log_softmax(exits / temperature, dim=2),
        F.log_softmax(own.detach() / temperature, dim=1).expand_as(exits),
        reduction="none",
        log_target=True,
    )
    return Terms(
        labels=label_losses.mean(dim=1).sum(),
        answers=divergence.sum(dim=2).mean(dim=1).sum(),
        features=(features - own_features.detach()).square().sum(dim=2).mean(dim=1).sum(),
    )


class SelfDistillation(Objective):
    """The objective of `self_distill`. It holds the exits, which are learned with the network."""

    def __init__(
        self, exits: Exits, last: str, *, alpha: float, temperature: float, beta: float, label_smoothing: float
    ) -> None:
        self.exits, self.last = exits, last
        self.alpha, self.temperature, self.beta = alpha, temperature, beta
        self.label_smoothing = label_smoothing
        self._features = Features((*exits.layers, last), "student")
        self._sums = torch.zeros(3, dtype=torch.float64)
        self._steps = 0

    def settings(self) -> Mapping[str, object]:
        return {
            "loss": "self-distillation", "alpha": self.alpha, "temperature": self.temperature, "beta": self.beta,
            "label_smoothing": self.label_smoothing, "exits": list(self.exits.layers), "last": self.last,
        }  # fmt: skip

    def trained(self) -> nn.Module:
        return self.exits

    def listening(self, model: nn.Module, /) -> AbstractContextManager[object]:
        return self._features.listening(model)

    def __call__(self, batch: Batch) -> Tensor:
        heard = self._features.take()
        with batch.autocast():
            features = [
                classifier.features(heard[layer])
                for classifier, layer in zip(self.exits, self.exits.layers, strict=True)
            ]
            answers = [classifier.linear(each) for classifier, each in zip(self.exits, features, strict=True)]
        exits = torch.stack(answers).float()
        label_losses = [batch.label_loss(logits, self.label_smoothing) for logits in (*exits, batch.logits)]
        terms = self_distillation_terms(
            batch.logits, exits, heard[self.last].mean(dim=(2, 3)), torch.stack(features).float(),
            torch.stack(label_losses), temperature=self.temperature,
        )  # fmt: skip
        self._sums += torch.stack([terms.labels, terms.answers, terms.features]).detach()
        self._steps += 1
        return terms.total(alpha=self.alpha, temperature=self.temperature, beta=self.beta)

    def logged(self) -> Mapping[str, float]:
        """The terms without their weights."""
        labels, answers, features = (self._sums / max(self._steps, 1)).tolist()
        self._sums.zero_()
        self._steps = 0
        return {"labels": labels, "answers": answers, "features": features}


@dataclass(frozen=True)
class SelfDistilled:
    training: TrainResult
    counts: tuple[ExitCount, ...]
    """On the test images after the last epoch: each exit from the shallowest on, then the network's own answer."""
    exit_parameters: int
    """Of all side classifiers together."""
    exits: Exits | None
    """In eval mode; None where they were not to be kept."""


def self_distill(
    model: nn.Module,
    data: Dataset,
    *,
    preprocess: Preprocess,
    exits: Sequence[str] = (),
    alpha: float = 0.1,
    temperature: float = 3.0,
    beta: float = 1e-4,
    keep_exits: bool = False,
    **training: Unpack[TrainingOptions],
) -> SelfDistilled:
    """Train `model` in place on the labels, with exits beside it that learn from its own answer as well.

    exits       -- names of layers behind which the exits read; by default the end of each stage (exits.py).
    alpha       -- share of the network's own answer in what exits learn, 0 to 1.
    temperature -- softens both outputs.
    beta        -- weight of the squared distance between features.
    keep_exits  -- return the exits; otherwise they are gone. The network itself is the same either way: its modules,
                   its tensors and its output never include them.
    The other keywords are those of `train`; `label_smoothing` acts on the labels' part only.

    Raises what `train` raises, and EdgeLatheError for layers that are unknown or give no feature maps, and for a
    network in which no stages are found.
    """
    _check_settings(alpha, temperature, beta)
    check_fit(model, data, preprocess)
    assert data.train is not None, "check_fit refuses it"
    example = network_inputs(as_tensor(data.train.x[:1]), preprocess)
    plan = plan_exits(model, example, exits)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.get("seed", 0))
        classifiers = Exits(plan.exits)
    options: TrainingOptions = {**DEFAULTS, **training}
    objective = SelfDistillation(
        classifiers, plan.last, alpha=alpha, temperature=temperature, beta=beta,
        label_smoothing=options.pop("label_smoothing", 0.0),
    )  # fmt: skip
    result = train(model, data, preprocess=preprocess, objective=objective, **options)
    classifiers.to(memory_format=torch.contiguous_format).eval()
    counts = count_right(model, classifiers, data.test, preprocess)
    parameters = sum(parameter.numel() for parameter in classifiers.parameters())
    return SelfDistilled(result, counts, parameters, classifiers if keep_exits else None)


def _check_settings(alpha: float, temperature: float, beta: float) -> None:
    if not 0 <= alpha <= 1:
        raise errors.inputs.impossible_setting("alpha", alpha, "between 0 and 1")
    if not 0 < temperature < float("inf"):
        raise errors.inputs.impossible_setting("temperature", temperature, "above 0")
    if not 0 <= beta < float("inf"):
        raise errors.inputs.impossible_setting("beta", beta, "0 or more")
