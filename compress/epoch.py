"""One epoch of training: its steps, and what is said of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from .. import errors
from ..data import Preprocess, Split
from .batches import Share, TrainingImages
from .checkpoint import Epoch
from .constraint import Constraint
from .ema import AveragedWeights
from .evaluate import evaluate as count_correct
from .objective import Batch, Objective, network_inputs
from .parallel import Team
from .precision import Precision, autocast
from .progress import TrainingProgress
from .seeds import derived_seed


@dataclass(frozen=True)
class Run:
    """Everything an epoch needs, fixed before the first one."""

    model: nn.Module
    forward: Callable[[Tensor], Tensor]
    """`model`, compiled where that was chosen."""
    optimizer: torch.optim.Optimizer
    objective: Objective
    trained: nn.Module | None
    """What the objective learns beside the network."""
    constraint: Constraint | None
    averaged: AveragedWeights | None
    images: TrainingImages
    preprocess: Preprocess
    rate: Callable[[float], float]
    """Learning rate at a fraction of epochs."""
    precision: Precision
    seed: int
    team: Team


def train_epoch(run: Run, number: int, judged: Split | None, view: TrainingProgress) -> Epoch:
    """One pass over the training images; `number` counts from 1."""
    team, steps = run.team, run.images.steps
    # Dropout, stochastic depth: other draws for other images.
    torch.manual_seed(derived_seed(run.seed, number, f"network {team.rank}" if team.rank else "network"))
    run.model.train()
    if run.trained is not None:
        run.trained.train()
    total_loss, correct, seen = 0.0, 0, 0
    began = time.perf_counter()
    for step, share in enumerate(run.images.epoch(number)):
        done, done_after = (number - 1 + count / steps for count in (step, step + 1))
        rate = run.rate(done)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        loss, right = _train_step(run, share, (done, done_after))
        if run.averaged:
            run.averaged.follow((number - 1) * steps + step)
        if not math.isfinite(loss):
            raise errors.training.training_diverged(number, rate)
        total_loss, correct, seen = total_loss + loss * run.images.batch, correct + right, seen + run.images.batch
        view.step(number, total_loss / seen, correct / seen, seen / (time.perf_counter() - began))
    speed = seen / (time.perf_counter() - began)
    test_accuracy = None if judged is None else _accuracy(run, judged)
    lr = run.rate(number - 0.5)
    return Epoch(number, total_loss / seen, correct / seen, test_accuracy, speed, _logged(run), lr)


def _train_step(run: Run, share: Share, done: tuple[float, float]) -> tuple[float, int]:
    """Loss before the step, and how many images were classified right, over the batch of all processes; `done` is how
    many epochs are behind it and will be after it."""
    inputs = network_inputs(share.images, run.preprocess)
    context = partial(autocast, run.precision)
    with context():
        logits = run.forward(inputs)
    logits = logits.float()
    loss = run.objective(
        Batch(
            logits, share.labels, share.images, inputs, run.preprocess, context,
            numbers=share.numbers, view=share.view, done=done[0], mixing=share.mixing,
        )
    )  # fmt: skip
    run.optimizer.zero_grad(set_to_none=True)
    right = (logits.detach().argmax(dim=1) == share.labels).sum()
    if run.team.size > 1:
        loss = loss * share.of_batch
    loss.backward()
    figures = torch.stack([loss.detach().float(), right.float()])
    run.team.sum([*_gradients(run.optimizer), figures])
    if run.constraint:
        run.constraint.before_step(done[0])
    run.optimizer.step()
    if run.constraint:
        run.constraint.after_step(done[1], run.optimizer)
    return float(figures[0]), int(figures[1])


def _gradients(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _accuracy(run: Run, judged: Split) -> float:
    """Share of the test images that the network (of averaged weights, where there are any) classifies right."""
    with run.averaged.in_the_network() if run.averaged else nullcontext():
        own = run.team.own(len(judged))
        mine = Split(judged.x[own], judged.y[own])
        correct = torch.tensor([float(count_correct(run.model, mine, run.preprocess))], dtype=torch.float64)
    run.team.sum([correct])
    return float(correct) / len(judged)


def _logged(run: Run) -> dict[str, float]:
    """What the objective logged, its mean over the processes."""
    values = {name: float(value) for name, value in sorted(run.objective.logged().items())}
    means = torch.tensor(list(values.values()), dtype=torch.float64)
    run.team.sum([means])
    return dict(zip(values, (means / run.team.size).tolist(), strict=True))
