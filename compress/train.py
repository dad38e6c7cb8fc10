"""The one training loop that plain training, fine-tuning, distillation and quantization-aware training share.

Images stay in memory as uint8 and are augmented a batch at a time; networks compute in channels-last memory
and, where that is faster, in bfloat16 with float32 weights. Everything random follows from (seed, epoch), so
a run that was killed continues from its last whole epoch and ends with the same bytes as one that was not.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from .. import errors
from ..data import Dataset, Preprocess, Split
from .augment import AUGMENTS, Augment, augment, draw
from .checkpoint import Epoch, load_checkpoint, save_checkpoint, state_sha256
from .constraint import Constraint
from .evaluate import evaluate as count_correct
from .fit import check_fit
from .objective import Batch, CrossEntropy, Objective, as_tensor, network_inputs
from .penalty import SPARSITIES, Sparsity, penalised
from .precision import PRECISIONS, Choice, autocast, choose
from .progress import TrainingProgress
from .schedule import SCHEDULES, Schedule, learning_rate
from .threads import using_threads


@dataclass(frozen=True)
class TrainResult:
    epochs: tuple[Epoch, ...]
    precision: str
    compiled: bool
    threads: int
    images_per_second: Mapping[str, float]
    """What the choice of number format and compilation was measured to be; empty where it was given."""

    @property
    def test_accuracy(self) -> float:
        """Share of the test images classified right after the last epoch."""
        accuracy = self.epochs[-1].test_accuracy
        assert accuracy is not None, "the last epoch is always evaluated"
        return accuracy


@dataclass(frozen=True)
class _Run:
    """Everything an epoch needs, fixed before the first one."""

    model: nn.Module
    forward: Callable[[Tensor], Tensor]
    """`model`, compiled where that was chosen."""
    optimizer: torch.optim.Optimizer
    objective: Objective
    constraint: Constraint | None
    images: Tensor
    labels: Tensor
    preprocess: Preprocess
    batch: int
    epochs: int
    rate: Callable[[float], float]
    """Learning rate at a fraction of epochs."""
    augment: Augment
    choice: Choice
    seed: int

    @property
    def steps(self) -> int:
        # The last partial batch of an epoch is left out: which images it holds changes with every epoch, and
        # one size of batch keeps batch-norm statistics and compiled code the same.
        return max(1, len(self.labels) // self.batch)


def train(
    model: nn.Module,
    data: Dataset,
    *,
    preprocess: Preprocess,
    epochs: int,
    batch: int = 128,
    lr: float = 0.1,
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
    objective: Objective | None = None,
    constraint: Constraint | None = None,
    state: Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    progress: bool = True,
    title: str = "train",
) -> TrainResult:
    """Train `model` in place on `data.train` by SGD with momentum; it ends in eval mode, in float32.

    epochs, warmup -- passes over the images; of them, how many the learning rate takes to rise to `lr`.
    weight_decay   -- L2 penalty on all parameters, as in He et al. 2016; `decay_norms=False` spares vectors
                      (batch norm, biases).
    augment        -- "shift" by up to an eighth of the side; "crop-flip" mirrors half of the images as well.
    sparsity       -- "group-lasso" and "bn-scale" add a penalty on whole channels to the loss, times
                      `sparsity_strength`, for networks that are pruned afterwards; see penalty.py.
    precision      -- "auto" measures a few steps of each and takes bf16 only where it is clearly faster.
    compiled       -- "auto" measures torch.compile and uses it where the run then ends sooner.
    evaluate       -- accuracy on `data.test` after the last epoch only, or after every one.
    threads        -- None: as many as torch uses now. A resumed run keeps the number it began with.
    objective      -- replaces cross entropy (and with it `label_smoothing`); see objective.py.
    constraint     -- what the network is held to after every step, such as zeros that stay zeros; see constraint.py.
    state          -- folder for a checkpoint per epoch. A run that finds one there continues after it and
                      ends with the same bytes; None keeps nothing.
    on_epoch       -- called with each finished epoch, after its checkpoint is on disk.

    Raises EdgeLatheError for impossible settings, images that the network cannot take, a loss that is no
    longer a number, and a checkpoint that is damaged or belongs to another run.
    """
    if objective is not None and label_smoothing:
        raise errors.inputs.impossible_setting("label_smoothing", label_smoothing, "0 beside an objective of its own")
    objective = objective or CrossEntropy(label_smoothing)
    _check_settings(
        epochs=epochs, batch=batch, lr=lr, momentum=momentum, weight_decay=weight_decay, warmup=warmup,
        label_smoothing=label_smoothing, threads=threads, schedule=schedule, augment=augment,
        precision=precision, compiled=compiled, evaluate=evaluate, sparsity=sparsity,
        sparsity_strength=sparsity_strength,
    )  # fmt: skip
    check_fit(model, data, preprocess)
    assert data.train is not None, "check_fit refuses it"
    images, labels = as_tensor(data.train.x), as_tensor(data.train.y)
    batch = min(batch, len(labels))
    if sparsity != "none":
        objective = penalised(objective, model, network_inputs(images[:1], preprocess), sparsity, sparsity_strength)
    settings = {
        "network": state_sha256(model), "data": data.fingerprint, "mean": list(preprocess.mean),
        "std": list(preprocess.std), "epochs": epochs, "batch": batch, "lr": lr, "momentum": momentum,
        "weight_decay": weight_decay, "decay_norms": decay_norms, "schedule": schedule, "warmup": warmup,
        "augment": augment, "evaluate": evaluate, "seed": seed, "objective": dict(objective.settings()),
    }  # fmt: skip

    if constraint is not None:
        settings["constraint"] = dict(constraint.settings())
    threads = threads or torch.get_num_threads()
    with using_threads(threads):
        choice = choose(
            model, network_inputs(images[:batch], preprocess), labels[:batch], precision=precision,
            compiled=compiled, images=epochs * len(labels), threads=threads, folder=state,
        )  # fmt: skip
    settings |= {"precision": choice.precision, "compiled": choice.compiled, "threads": choice.threads}

    with using_threads(choice.threads), torch.random.fork_rng(devices=[]):
        model.to(memory_format=torch.channels_last)
        run = _Run(
            model=model,
            forward=torch.compile(model) if choice.compiled else model,
            optimizer=_optimizer(model, lr, momentum, weight_decay, decay_norms),
            objective=objective, constraint=constraint, images=images, labels=labels, preprocess=preprocess,
            batch=batch, epochs=epochs, rate=lambda at: learning_rate(schedule, lr, at, epochs, warmup),
            augment=augment, choice=choice, seed=seed,
        )  # fmt: skip
        beside = constraint.tensors() if constraint else {}
        checkpoint = state / "checkpoint.safetensors" if state else None
        done: tuple[Epoch, ...] = ()
        if checkpoint and checkpoint.exists():
            done = load_checkpoint(checkpoint, model, run.optimizer, settings, beside)
        with TrainingProgress(title, epochs=epochs, steps=run.steps, done=len(done), shown=progress) as view:
            for number in range(len(done) + 1, epochs + 1):
                judged = data.test if evaluate == "every" or number == epochs else None
                point = _train_epoch(run, number, judged, view)
                done = (*done, point)
                if checkpoint:
                    save_checkpoint(checkpoint, model, run.optimizer, settings, done, beside)
                view.epoch(point)
                if on_epoch:
                    on_epoch(point)
        model.to(memory_format=torch.contiguous_format).eval()
    if constraint:
        constraint.check()
    return TrainResult(done, choice.precision, choice.compiled, choice.threads, choice.images_per_second)


def _train_epoch(run: _Run, number: int, judged: Split | None, view: TrainingProgress) -> Epoch:
    """One pass over the training images; `number` counts from 1."""
    generator = torch.Generator().manual_seed(_derived_seed(run.seed, number, "images"))
    torch.manual_seed(_derived_seed(run.seed, number, "network"))  # dropout, stochastic depth
    order = torch.randperm(len(run.labels), generator=generator)
    draws = draw(run.augment, len(run.labels), run.images.shape[1], run.images.shape[2], generator)
    run.model.train()
    total_loss, correct, seen = 0.0, 0, 0
    began = time.perf_counter()
    for step in range(run.steps):
        first, last = step * run.batch, (step + 1) * run.batch
        done, done_after = (number - 1 + count / run.steps for count in (step, step + 1))
        rate = run.rate(done)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        images = augment(run.images[order[first:last]], draws.part(first, last) if draws else None)
        labels = run.labels[order[first:last]]
        loss, right = _train_step(run, images, labels, (done, done_after))
        if not math.isfinite(loss):
            raise errors.training.training_diverged(number, rate)
        total_loss, correct, seen = total_loss + loss * len(labels), correct + right, seen + len(labels)
        view.step(number, total_loss / seen, correct / seen, seen / (time.perf_counter() - began))
    speed = seen / (time.perf_counter() - began)
    test_accuracy = None
    if judged is not None:
        test_accuracy = count_correct(run.model, judged, run.preprocess) / len(judged)
    return Epoch(number, total_loss / seen, correct / seen, test_accuracy, speed)


def _train_step(run: _Run, images: Tensor, labels: Tensor, done: tuple[float, float]) -> tuple[float, int]:
    """Loss before the step, and how many images were classified right; `done` is how many epochs are behind it and
    will be after it."""
    inputs = network_inputs(images, run.preprocess)
    context = partial(autocast, run.choice.precision)
    with context():
        logits = run.forward(inputs)
    logits = logits.float()
    loss = run.objective(Batch(logits, labels, images, inputs, run.preprocess, context))
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if run.constraint:
        run.constraint.before_step(done[0])
    run.optimizer.step()
    if run.constraint:
        run.constraint.after_step(done[1], run.optimizer)
    return loss.item(), int((logits.detach().argmax(dim=1) == labels).sum())


def _optimizer(
    model: nn.Module, lr: float, momentum: float, weight_decay: float, decay_norms: bool
) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise errors.training.nothing_to_train()
    spared = [] if decay_norms else [parameter for parameter in trained if parameter.ndim <= 1]
    decayed = trained if decay_norms else [parameter for parameter in trained if parameter.ndim > 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return torch.optim.SGD([group for group in groups if group["params"]], lr=lr, momentum=momentum, fused=True)


def _derived_seed(seed: int, epoch: int, purpose: str) -> int:
    digest = hashlib.sha256(f"{seed} {epoch} {purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1  # generators take a signed 64-bit seed


def _check_settings(
    *, epochs: int, batch: int, lr: float, momentum: float, weight_decay: float, warmup: float,
    label_smoothing: float, threads: int | None, schedule: str, augment: str, precision: str,
    compiled: bool | str, evaluate: str, sparsity: str, sparsity_strength: float,
) -> None:  # fmt: skip
    ranges = (
        ("epochs", epochs, epochs >= 1, "1 or more"),
        ("batch", batch, batch >= 1, "1 or more"),
        ("lr", lr, 0 < lr < math.inf, "a number above 0"),
        ("momentum", momentum, 0 <= momentum < 1, "at least 0 and below 1"),
        ("weight_decay", weight_decay, 0 <= weight_decay < math.inf, "0 or more"),
        ("warmup", warmup, 0 <= warmup <= epochs, f"between 0 and the {epochs} epochs"),
        ("label_smoothing", label_smoothing, 0 <= label_smoothing < 1, "at least 0 and below 1"),
        ("threads", threads, threads is None or threads >= 1, "1 or more"),
        ("sparsity_strength", sparsity_strength, 0 <= sparsity_strength < math.inf, "0 or more"),
        ("compiled", compiled, compiled in (True, False, "auto"), 'true, false or "auto"'),
    )
    for name, value, sound, valid in ranges:
        if not sound:
            raise errors.inputs.impossible_setting(name, value, valid)
    choices = (
        ("schedule", schedule, SCHEDULES),
        ("augment", augment, AUGMENTS),
        ("precision", precision, PRECISIONS),
        ("evaluate", evaluate, ("last", "every")),
        ("sparsity", sparsity, SPARSITIES),
    )
    for name, value, valid_words in choices:
        if value not in valid_words:
            raise errors.inputs.unknown_choice(name, value, valid_words)
