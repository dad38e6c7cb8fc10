"""The stages that a recipe may list: each holds the keyword arguments of the function behind it, with its defaults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrainingKeys(Section):
    """Keys that every training stage shares: keyword arguments of compress.train.train."""

    epochs: int
    batch: int = 128
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_norms: bool = True
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    warmup: float = 0.0
    label_smoothing: float = 0.0
    augment: Literal["none", "shift", "crop-flip"] = "none"
    precision: Literal["auto", "float32", "bf16"] = "auto"
    compiled: bool | Literal["auto"] = False
    evaluate: Literal["last", "every"] = "last"
    threads: int | None = None


class Train(TrainingKeys):
    do: Literal["train"]
    lr: float = 0.1


class PruneChannels(Section):
    do: Literal["prune-channels"]
    criterion: Literal["fpgm", "l1", "l2", "random"] = "fpgm"
    keep_macs: float = 0.5
    scope: Literal["uniform"] = "uniform"
    multiple: int = 1
    ignore: tuple[str, ...] = ()


class ReplaceActivations(Section):
    do: Literal["replace-activations"]
    to: Literal["relu6", "relu", "hardswish", "hardsigmoid"] = "relu6"
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


class DropSqueezeExcite(Section):
    do: Literal["drop-squeeze-excite"]
    ignore: tuple[str, ...] = ()


class Distill(TrainingKeys):
    do: Literal["distill"]
    lr: float = 0.05
    loss: Literal["kd"] = "kd"
    weighting: Literal["fixed", "confidence", "agreement", "entropy"] = "fixed"
    alpha: float = 0.9
    temperature: float = 4.0


class Quantize(Section):
    do: Literal["quantize"]
    target: Literal["x86-vnni", "x86-avx2", "arm64", "openvino", "litert"] = "x86-vnni"
    method: Literal["mse", "entropy", "percentile", "moving-average", "minmax"] = "mse"
    per_channel: bool = True
    keep_float: tuple[str, ...] = ()
    equalize: Literal["weights", "activations"] | None = None
    correct_bias: Literal["empirical", "analytic", "none"] = "empirical"
    rounding: Literal["nearest", "compensated", "layers", "blocks", "network"] = "nearest"
    max_accuracy_drop: float | None = Field(default=None, ge=0)
    """Points; given, schemes are searched and operators kept in float until it holds."""
    minutes: float = Field(default=10.0, gt=0)
    """Budget of that search."""
    weight_size: float | None = Field(default=None, gt=0, le=1)
    """Bits per layer, so that weights take this share of their coded size at eight bits; part of that search."""


class Qat(Section):
    do: Literal["qat"]
    target: Literal["x86-vnni", "x86-avx2", "arm64", "openvino", "litert"] = "x86-vnni"
    method: Literal["mse", "entropy", "percentile", "moving-average", "minmax"] = "mse"
    per_channel: bool = True
    keep_float: tuple[str, ...] = ()
    ranges: Literal["lsq", "ema"] = "lsq"
    gradients: Literal["float", "int8"] = "float"
    alpha: float = 0.7
    temperature: float = 1.0
    epochs: int
    batch: int = 128
    lr: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    warmup: float = 0.0
    label_smoothing: float = 0.0
    augment: Literal["none", "shift", "crop-flip"] = "none"
    evaluate: Literal["last", "every"] = "last"
    threads: int | None = None


class StoreWeights(Section):
    do: Literal["store-weights"]
    format: Literal["int8", "int4", "float16"] = "int8"
    keep_float: tuple[str, ...] = ()


FileStage = Quantize | Qat | StoreWeights
"""Stages that make another file of the exported one; all others change the PyTorch network."""

SEARCH_KEYS = ("max_accuracy_drop", "minutes", "weight_size")
"""Keys of `Quantize` that belong to the search and not to `quantize`."""

Stage = Annotated[
    Train | PruneChannels | ReplaceActivations | DropSqueezeExcite | Distill | Quantize | Qat | StoreWeights,
    Field(discriminator="do"),
]
STAGES = {
    "train": Train,
    "prune-channels": PruneChannels,
    "replace-activations": ReplaceActivations,
    "drop-squeeze-excite": DropSqueezeExcite,
    "distill": Distill,
    "quantize": Quantize,
    "qat": Qat,
    "store-weights": StoreWeights,
}


def stage_keys(stage: BaseModel) -> dict[str, Any]:
    """The keyword arguments that a stage hands to the function behind it."""
    return {key: value for key, value in _fields(stage) if key != "do"}


def _fields(stage: BaseModel) -> Iterator[tuple[str, Any]]:
    for key in type(stage).model_fields:
        yield key, getattr(stage, key)
