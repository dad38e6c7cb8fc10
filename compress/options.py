"""The keywords that training functions share, for `**training: Unpack[...]` (PEP 692): `train` describes them.

A function that takes them hands them on to `train` whole, with its `DEFAULTS` for those that differ from train's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypedDict

from .augment import Augment
from .checkpoint import Epoch
from .constraint import Constraint
from .mix import Mix
from .penalty import Sparsity
from .schedule import Schedule


class LoopOptions(TypedDict, total=False):
    """Of every training, that of a quantized graph as well."""

    epochs: int
    batch: int
    lr: float
    momentum: float
    weight_decay: float
    schedule: Schedule
    warmup: float
    label_smoothing: float
    augment: Augment
    mix: Mix
    mix_strength: float
    ema: float
    evaluate: Literal["last", "every"]
    seed: int
    threads: int | None
    state: Path | None
    on_epoch: Callable[[Epoch], None] | None
    progress: bool


class FloatOptions(LoopOptions, total=False):
    """Of every training of a float network."""

    decay_norms: bool
    views: int
    precision: Literal["auto", "float32", "bf16"]
    compiled: bool | Literal["auto"]
    title: str


class TrainingOptions(FloatOptions, total=False):
    """All of train's but its objective."""

    sparsity: Sparsity
    sparsity_strength: float
    constraint: Constraint | None
