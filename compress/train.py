"""The one training loop that plain training, fine-tuning, distillation and quantization-aware training share.

Images stay in memory as uint8 and are augmented a batch at a time; networks compute in channels-last memory
and, where that is faster, in bfloat16 with float32 weights. Everything random follows from (seed, epoch), so
a run that was killed continues from its last whole epoch and ends with the same bytes as one that was not.
Under `accelerate launch` every process calls `train` alike and sees its share of each batch (parallel.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from .. import errors
from ..data import Dataset, Preprocess
from .allocator import keeping_freed_memory
from .augment import Augment
from .batches import TrainingImages
from .checkpoint import Epoch, load_checkpoint, save_checkpoint, state_sha256
from .compiling import compile_anew
from .constraint import Constraint
from .ema import AveragedWeights
from .epoch import Run, train_epoch
from .fit import check_fit
from .mix import Mix
from .objective import CrossEntropy, Objective, as_tensor, network_inputs
from .optimizer import sgd
from .parallel import team
from .penalty import Sparsity, penalised
from .precision import Choice, choose
from .progress import TrainingProgress
from .schedule import Schedule, learning_rate
from .settings import check_settings
from .syncednorm import synced_norms
from .threads import using_threads


@dataclass(frozen=True)
class TrainResult:
    epochs: tuple[Epoch, ...]
    precision: str
    compiled: bool
    threads: int
    processes: int
    images_per_second: Mapping[str, float]
    """What the choice of number format and compilation was measured to be; empty where it was given."""
    objective: Mapping[str, object]
    """All that the loss depended on, as JSON values, and so what was left to choose, such as layers to compare."""

    @property
    def test_accuracy(self) -> float:
        """Share of the test images classified right after the last epoch."""
        accuracy = self.epochs[-1].test_accuracy
        assert accuracy is not None, "the last epoch is always evaluated"
        return accuracy


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
    views: int = 0,
    mix: Mix = "none",
    mix_strength: float = 0.2,
    ema: float = 0.0,
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
    batch          -- images per step, of all processes together.
    weight_decay   -- L2 penalty on all parameters, as in He et al. 2016; `decay_norms=False` spares vectors
                      (batch norm, biases).
    augment        -- "shift" by up to an eighth of the side; "crop-flip" mirrors half of the images as well.
    views          -- 0: every epoch augments anew; else so many sets of augmentations take turns, the same pixels each
                      time.
    mix            -- "mixup" and "cutmix" mix images and labels of a batch, in shares drawn from
                      Beta(mix_strength, mix_strength); see mix.py.
    ema            -- decay of an exponential moving average of the weights; above 0, the averaged weights are what is
                      evaluated and what the network ends with; see ema.py.
    sparsity       -- "group-lasso" and "bn-scale" add a penalty on whole channels to the loss, times
                      `sparsity_strength`, for networks that are pruned afterwards; see penalty.py.
    precision      -- "auto" measures a few steps of each and takes bf16 only where it is clearly faster.
    compiled       -- "auto" measures torch.compile and uses it where the run then ends sooner.
    evaluate       -- accuracy on `data.test` after the last epoch only, or after every one.
    threads        -- None: as many as torch uses now. A resumed run keeps the number it began with.
    objective      -- replaces cross entropy (and with it `label_smoothing`); see objective.py. What it learns beside
                      the network is trained with it and stays out of it.
    constraint     -- what the network is held to after every step, such as zeros that stay zeros; see constraint.py.
    state          -- folder for a checkpoint per epoch. A run that finds one there continues after it and
                      ends with the same bytes; None keeps nothing.
    on_epoch       -- called with each finished epoch, after its checkpoint is on disk. Of several processes only the
                      main one calls it, shows progress and writes.

    Raises EdgeLatheError for impossible settings, images that the network cannot take, a loss that is no
    longer a number, a checkpoint that is damaged or belongs to another run, and other processes that are gone.
    """
    if objective is not None and label_smoothing:
        raise errors.inputs.impossible_setting("label_smoothing", label_smoothing, "0 beside an objective of its own")
    objective = objective or CrossEntropy(label_smoothing)
    check_settings(
        epochs=epochs, batch=batch, lr=lr, momentum=momentum, weight_decay=weight_decay, warmup=warmup,
        label_smoothing=label_smoothing, threads=threads, schedule=schedule, augment=augment, views=views, mix=mix,
        mix_strength=mix_strength, ema=ema, precision=precision, compiled=compiled, evaluate=evaluate,
        sparsity=sparsity, sparsity_strength=sparsity_strength,
    )  # fmt: skip
    check_fit(model, data, preprocess)
    assert data.train is not None, "check_fit refuses it"
    images, labels = as_tensor(data.train.x), as_tensor(data.train.y)
    batch = min(batch, len(labels))
    together = team()
    together.check(batch=batch, compiled=compiled)
    if sparsity != "none":
        objective = penalised(objective, model, network_inputs(images[:1], preprocess), sparsity, sparsity_strength)
    beside_network = objective.trained()
    together.take_from_main(_state(model, beside_network))
    settings = {
        "network": state_sha256(model), "data": data.fingerprint, "mean": list(preprocess.mean),
        "std": list(preprocess.std), "epochs": epochs, "batch": batch, "lr": lr, "momentum": momentum,
        "weight_decay": weight_decay, "decay_norms": decay_norms, "schedule": schedule, "warmup": warmup,
        "augment": augment, "views": views, "mix": mix, "ema": ema, "evaluate": evaluate, "seed": seed,
        "objective": dict(objective.settings()), "processes": together.size,
    }  # fmt: skip
    if mix != "none":
        settings["mix_strength"] = mix_strength
    if beside_network is not None:
        settings["learned beside"] = state_sha256(beside_network)
    if constraint is not None:
        settings["constraint"] = dict(constraint.settings())
    asked = threads or torch.get_num_threads()

    def chosen() -> dict[str, object]:
        with using_threads(asked):
            return asdict(
                choose(
                    model, network_inputs(images[:batch], preprocess), labels[:batch], precision=precision,
                    compiled=compiled if together.size == 1 else False, images=epochs * len(labels), threads=asked,
                    folder=state,
                )
            )  # fmt: skip

    choice = Choice(**together.agreed(chosen))
    settings |= {"precision": choice.precision, "compiled": choice.compiled, "threads": choice.threads}

    with (
        using_threads(choice.threads),
        keeping_freed_memory(),
        torch.random.fork_rng(devices=[]),
        objective.listening(model),
        synced_norms((model, beside_network), together),
    ):
        model.to(memory_format=torch.channels_last)
        run = Run(
            model=model,
            forward=compile_anew(model) if choice.compiled else model,
            optimizer=sgd(
                model, beside_network, lr=lr, momentum=momentum, weight_decay=weight_decay, decay_norms=decay_norms
            ),
            objective=objective, trained=beside_network, constraint=constraint,
            averaged=AveragedWeights(model, ema, zeros_stay=constraint is not None) if ema else None,
            images=TrainingImages(images, labels, batch, augment, views, mix, mix_strength, seed, together),
            preprocess=preprocess, rate=lambda at: learning_rate(schedule, lr, at, epochs, warmup),
            precision=choice.precision, seed=seed, team=together,
        )  # fmt: skip
        kept = _Checkpoint(run, state, settings)
        done = kept.read()
        shown = progress and together.is_main
        with TrainingProgress(title, epochs=epochs, steps=run.images.steps, done=len(done), shown=shown) as view:
            for number in range(len(done) + 1, epochs + 1):
                judged = data.test if evaluate == "every" or number == epochs else None
                point = train_epoch(run, number, judged, view)
                done = (*done, point)
                if together.is_main:
                    kept.write(done)
                    view.epoch(point)
                    if on_epoch:
                        on_epoch(point)
        if run.averaged:
            run.averaged.put_into_network()
        model.to(memory_format=torch.contiguous_format).eval()
    if constraint:
        constraint.check()
    return TrainResult(
        done,
        choice.precision,
        choice.compiled,
        choice.threads,
        together.size,
        choice.images_per_second,
        objective.settings(),
    )


def _state(*modules: nn.Module | None) -> list[Tensor]:
    return [tensor for module in modules if module is not None for tensor in module.state_dict().values()]


@dataclass(frozen=True)
class _Checkpoint:
    """Of one run, in the folder that its main process was given; nowhere without one."""

    run: Run
    folder: Path | None
    settings: Mapping[str, object]

    def read(self) -> tuple[Epoch, ...]:
        """Put the state that was kept, if any, into the run; the epochs behind it."""
        found = self.run.team.agreed(lambda: str(self.path) if self.path and self.path.exists() else None)
        if found is None:
            return ()
        return load_checkpoint(
            Path(found), self.run.model, self.run.optimizer, self.settings, self.beside, self.run.trained
        )

    def write(self, done: tuple[Epoch, ...]) -> None:
        if self.path:
            save_checkpoint(
                self.path, self.run.model, self.run.optimizer, self.settings, done, self.beside, self.run.trained
            )

    @property
    def path(self) -> Path | None:
        return self.folder / "checkpoint.safetensors" if self.folder else None

    @property
    def beside(self) -> Mapping[str, Tensor]:
        held = self.run.constraint.tensors() if self.run.constraint else {}
        return {**held, **(self.run.averaged.tensors() if self.run.averaged else {})}
