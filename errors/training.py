"""Training and distilling."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .base import EdgeLatheError
from .data import _by

Shape = Iterable[int]


def no_training_images(name: str, what: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot {what} on {name}: it has no training images; give some.")


def nothing_to_train() -> EdgeLatheError:
    return EdgeLatheError("Cannot train the network: all of its parameters are frozen; unfreeze some.")


def network_rejects_images(shape: Shape, why: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot run the network on images of shape [{_by(shape)}] (channels, height, width): {why}; "
        "give images of the size and channels it was made for."
    )


def too_few_logits(logits: int, classes: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot train a network with {logits} outputs on data with {classes} classes: set num_classes = {classes}."
    )


def unequal_logits(student: int, teacher: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot distil into a network with {student} outputs from a teacher with {teacher}: "
        "both must know the same classes; give a teacher trained on this data."
    )


def training_diverged(epoch: int, rate: float) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot go on training in epoch {epoch}: the loss is no longer a finite number at learning rate "
        f"{rate:g}; lower lr or add warmup and run again."
    )


def foreign_checkpoint(path: Path | str, different: Iterable[str]) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot continue from {path}: it belongs to a training that differs in {', '.join(different)}; "
        "restore those settings, or delete its folder to start this training afresh."
    )


def no_scales_to_pull() -> EdgeLatheError:
    return EdgeLatheError(
        'Cannot train with sparsity = "bn-scale": no channels that can be cut have a batch norm with a scale; '
        'choose "group-lasso".'
    )


def processes_apart(count: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot go on in {count} processes: one of them has ended or cannot be reached; what was finished is kept, "
        "and the same command continues after the last whole epoch."
    )


def too_many_processes(batch: int, processes: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot divide batches of {batch} images among {processes} processes: each needs an image; launch fewer, or "
        "set a larger batch."
    )


def verb_in_processes(verb: str, count: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot carry out `{verb}` in {count} processes: only `run` trains in parallel; give the command without the "
        "launcher."
    )
