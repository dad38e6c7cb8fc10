"""The stages that a recipe may list: each holds the keyword arguments of the function behind it, with its defaults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .compress.sparsify.names import check_gradual, keep_share, read_pattern
from .errors import EdgeLatheError

Count = Annotated[int, Field(strict=True, ge=1)]
Share = Annotated[float, Field(strict=True, gt=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrainingKeys(Section):
    """Keys that every training stage shares: keyword arguments of compress.train.train."""

    epochs: int
    batch: int = 128
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_norms: bool = True
    schedule: Literal["cosine", "one-cycle", "constant", "step"] = "cosine"
    warmup: float = 0.0
    label_smoothing: float = 0.0
    augment: Literal["none", "shift", "crop-flip"] = "none"
    views: int = 0
    mix: Literal["none", "mixup", "cutmix"] = "none"
    mix_strength: float = 0.2
    ema: float = 0.0
    precision: Literal["auto", "float32", "bf16"] = "auto"
    compiled: bool | Literal["auto"] = False
    evaluate: Literal["last", "every"] = "last"
    threads: int | None = None


class PenaltyKeys(TrainingKeys):
    """Keys of the training stages that can prepare a network for the pruning of channels."""

    sparsity: Literal["none", "group-lasso", "bn-scale"] = "none"
    sparsity_strength: float = 1e-4


class Train(PenaltyKeys):
    do: Literal["train"]
    lr: float = 0.1


class PruneChannels(Section):
    do: Literal["prune-channels"]
    criterion: Literal["fpgm", "fpgm-mix", "l1", "l2", "lamp", "bn-scale", "taylor", "obd", "hrank", "random"] = "fpgm"
    keep_macs: float | None = None
    keep_params: float | None = None
    keep_latency: float | None = None
    """One of the three; keep_macs 0.5 where there is none."""
    scope: Literal["uniform", "global", "isomorphic"] = "uniform"
    multiple: int | Literal["auto"] = 1
    latency_of: Literal["float", "int8"] = "float"
    """What is measured where keep_latency or multiple = "auto" ask for it."""
    ignore: tuple[str, ...] = ()
    images: int = Field(default=512, ge=1)
    """Training images for criteria that look at gradients or feature maps."""
    reestimate_norms: bool = True
    """Whether batch norms take their statistics anew from training images, where there are any."""
    widths: dict[str, Count | Share] | None = None
    """Channels that layers keep, or shares of them; in a file, the path of a file of them (`widthsfile`)."""
    steps: int = Field(default=1, ge=1)
    """Into how many the pruning is divided; the training stage that follows is repeated after each (`expanded`)."""

    @property
    def measures(self) -> bool:
        """Whether widths are chosen by timing."""
        return self.keep_latency is not None or self.multiple == "auto"


class PruneStep(PruneChannels):
    """One step of a prune-channels stage that has several; `expanded` makes it, no recipe holds it."""

    step: int


class SparsityKeys(Section):
    """Keys that both sparsifying stages share: keyword arguments of compress.sparsify.sparsify.sparsify."""

    pattern: str = "unstructured"
    keep: float | None = Field(default=None, gt=0, lt=1)
    """Share of the weights that stays; default: what the pattern says, else half."""
    scope: Literal["global", "layer"] = "global"
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _pattern_and_share_fit(self) -> Self:
        try:
            name = read_pattern(self.pattern)
            keep_share(name, self.keep)
            if isinstance(self, TrainingKeys):
                check_gradual(name)
        except EdgeLatheError as reason:
            raise ValueError(str(reason).rstrip(".")) from None
        return self


class Sparsify(SparsityKeys):
    do: Literal["sparsify"]
    reestimate_norms: bool = True
    """Whether batch norms take their statistics anew from training images, where there are any."""


class SparsifyGradually(SparsityKeys, TrainingKeys):
    do: Literal["sparsify-gradually"]
    criterion: Literal["magnitude", "movement"] = "magnitude"
    ramp: float = Field(default=0.5, gt=0, le=1)
    lr: float = 0.05


class ReplaceActivations(Section):
    do: Literal["replace-activations"]
    to: Literal["relu6", "relu", "hardswish", "hardsigmoid"] = "relu6"
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


class OpenShortcuts(Section):
    do: Literal["open-shortcuts"]


class DropSqueezeExcite(Section):
    do: Literal["drop-squeeze-excite"]
    ignore: tuple[str, ...] = ()


class Distill(PenaltyKeys):
    do: Literal["distill"]
    lr: float = 0.05
    loss: Literal["kd", "dkd", "fitnets", "attention", "vid", "rkd-distance", "rkd-angle", "rkd"] = "kd"
    weighting: Literal["fixed", "accuracy", "confidence", "agreement", "entropy", "gap"] = "fixed"
    alpha: float | None = None
    """0.9, and 0.5 for the loss "dkd" and the weightings "accuracy" and "gap"."""
    alpha_min: float = 0.1
    alpha_max: float = 0.9
    teacher_accuracy: float | None = None
    temperature: float = 4.0
    layers: tuple[str, ...] | dict[str, str] | None = None
    """Names in both networks, or student's name to teacher's; ends of resolution stages where there are none."""
    beta: float | None = None
    hint_epochs: float = 0.0
    dkd_target: float = 1.0
    dkd_others: float = 8.0
    dkd_warmup: float | None = None
    """Epochs; a twelfth of them all where it is not stated."""
    store_answers: bool | Literal["auto"] = "auto"


class DistillSeveral(PenaltyKeys):
    do: Literal["distill-several"]
    lr: float = 0.05
    combine: Literal["adaptive", "amtml", "mean"] = "adaptive"
    layer: str | None = None
    """The student's layer that learned weights depend on; default: the end of its last resolution stage."""
    decay: float = 0.1
    alpha: float = 0.7
    temperature: float = 5.0
    features: Literal["none", "fitnets", "attention", "vid", "rkd-distance", "rkd-angle", "rkd"] = "none"
    beta: float | None = None
    layers: tuple[str, ...] | dict[str, str] | None = None
    """Names in all networks, or student's name to teachers'; those usual for the loss where there are none."""
    relations: float = 0.0
    store_answers: bool | Literal["auto"] = "auto"


class SelfDistill(PenaltyKeys):
    do: Literal["self-distill"]
    lr: float = 0.1
    exits: tuple[str, ...] = ()
    """Layers behind which exits read; default: the end of each stage but the last."""
    alpha: float = 0.1
    temperature: float = 3.0
    beta: float = 1e-4
    keep_exits: bool = False
    """Whether the exported file answers from its exits as well."""


class Quantize(Section):
    do: Literal["quantize"]
    target: Literal["x86-vnni", "x86-avx2", "arm64", "openvino", "litert"] = "x86-vnni"
    method: Literal["mse", "entropy", "percentile", "moving-average", "minmax"] = "mse"
    per_channel: bool = True
    keep_float: tuple[str, ...] = ()
    equalize: Literal["auto", "weights", "activations", "none"] = "auto"
    correct_bias: Literal["empirical", "analytic", "none"] = "empirical"
    rounding: Literal["nearest", "compensated", "layers", "blocks", "network"] = "nearest"
    max_accuracy_drop: float | None = Field(default=None, ge=0)
    """Points; given, schemes are searched and operators kept in float until it holds."""
    judge: Literal["labels", "float"] = "labels"
    """What the drop is counted against: right answers lost, or images classified otherwise than in float."""
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
    lr: float = 0.0001
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Literal["cosine", "one-cycle", "constant", "step"] = "cosine"
    warmup: float = 0.0
    label_smoothing: float = 0.0
    augment: Literal["none", "shift", "crop-flip"] = "none"
    mix: Literal["none", "mixup", "cutmix"] = "none"
    mix_strength: float = 0.2
    ema: float = 0.0
    evaluate: Literal["last", "every"] = "last"
    threads: int | None = None


class StoreWeights(Section):
    do: Literal["store-weights"]
    format: Literal["int8", "int4", "float16"] = "int8"
    keep_float: tuple[str, ...] = ()


FileStage = Quantize | Qat | StoreWeights
"""Stages that make another file of the exported one; all others change the PyTorch network."""

KEEPS_EXITS = ("quantize", "store-weights")
"""Stages that may stand behind one that keeps early exits: all others change the network without them."""

PRUNED_BY_THE_STAGE = ("latency_of", "images", "reestimate_norms", "widths", "steps")
"""Keys of `PruneChannels` that belong to the stage and not to `prune_channels`, which knows no data set."""

PRUNING_TARGETS = ("keep_macs", "keep_params", "keep_latency")
"""Keys of `PruneChannels` of which one at most may be given."""

DECIDED_BY_WIDTHS = (*PRUNING_TARGETS, "scope")
"""Keys of `PruneChannels` that say nothing where `widths` are stated."""

SPARSIFIED_BY_THE_STAGE = ("reestimate_norms",)
"""Keys of `Sparsify` that belong to the stage and not to `sparsify`, which knows no data set."""

SEARCH_KEYS = ("max_accuracy_drop", "judge", "minutes", "weight_size")
"""Keys of `Quantize` that belong to the search and not to `quantize`."""

Stage = Annotated[
    Train
    | PruneChannels
    | Sparsify
    | SparsifyGradually
    | ReplaceActivations
    | DropSqueezeExcite
    | OpenShortcuts
    | Distill
    | DistillSeveral
    | SelfDistill
    | Quantize
    | Qat
    | StoreWeights,
    Field(discriminator="do"),
]
STAGES = {
    "train": Train,
    "prune-channels": PruneChannels,
    "sparsify": Sparsify,
    "sparsify-gradually": SparsifyGradually,
    "replace-activations": ReplaceActivations,
    "drop-squeeze-excite": DropSqueezeExcite,
    "open-shortcuts": OpenShortcuts,
    "distill": Distill,
    "distill-several": DistillSeveral,
    "self-distill": SelfDistill,
    "quantize": Quantize,
    "qat": Qat,
    "store-weights": StoreWeights,
}


def stage_keys(stage: BaseModel) -> dict[str, Any]:
    """The keyword arguments that a stage hands to the function behind it."""
    return {key: value for key, value in _fields(stage) if key != "do"}


def expanded(stages: Sequence[Stage]) -> tuple[Stage | PruneStep, ...]:
    """The stages as they run: a prune-channels stage of n steps and the training stage behind it, n times in turn."""
    made: list[Stage | PruneStep] = []
    waiting = list(stages)
    while waiting:
        stage = waiting.pop(0)
        if isinstance(stage, PruneChannels) and stage.steps > 1:
            recovery = waiting.pop(0)
            for step in range(1, stage.steps + 1):
                made += [PruneStep(**dict(_fields(stage)), step=step), recovery]
        else:
            made.append(stage)
    return tuple(made)


def _fields(stage: BaseModel) -> Iterator[tuple[str, Any]]:
    for key in type(stage).model_fields:
        yield key, getattr(stage, key)
