"""The stages that change a PyTorch network, one function each; `STAGES` is the literal list of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .compress.distill.distill import distill
from .compress.prune.channels import prune_channels
from .compress.surgery.drop_squeeze_excite import drop_squeeze_excite
from .compress.surgery.plan import SurgeryPlan
from .compress.surgery.replace_activations import replace_activations
from .compress.train import TrainResult, train
from .data import Dataset
from .files import write_atomic
from .networks import Network
from .recipe_stages import Distill, DropSqueezeExcite, PruneChannels, ReplaceActivations, Section, Train, stage_keys
from .runfolder import SCRATCH

GATE_IMAGES = 256
"""Training images over which the mean gates of squeeze-and-excitation blocks are measured."""


@dataclass(frozen=True)
class Context:
    """What a stage may use besides its own keys."""

    data: Dataset
    seed: int
    teacher: Network
    folder: Path
    """Where the stage works; a stage that is interrupted finds it again as it left it."""
    progress: bool


@dataclass(frozen=True)
class Outcome:
    model: nn.Module
    summary: str
    facts: dict[str, Any]
    widths: tuple[dict[str, Any], ...] = ()
    epochs: tuple[dict[str, Any], ...] = ()


def run_train(stage: Train, network: Network, context: Context) -> Outcome:
    model = network.copy()
    result = train(
        model,
        context.data,
        preprocess=network.preprocess,
        seed=context.seed,
        state=context.folder / SCRATCH,
        progress=context.progress,
        title="train",
        **stage_keys(stage),
    )
    return _trained(model, result, "Trained", context.data)


def run_prune_channels(stage: PruneChannels, network: Network, context: Context) -> Outcome:
    model, plan = prune_channels(network.model, network.example(context.data), seed=context.seed, **stage_keys(stage))
    write_atomic(context.folder / "plan.json", plan.to_json(), "the pruning plan")
    macs, parameters = plan.macs_after / plan.macs_before, plan.parameters_after / plan.parameters_before
    widths = tuple(
        {"layer": group.layer, "before": group.before, "after": group.after, "reason": group.reason}
        for group in plan.groups
    )
    summary = f"Removed channels by {plan.criterion}: {macs:.1%} of MACs and {parameters:.1%} of parameters remain"
    if stage.multiple == 1 and any(group.after % 8 for group in plan.groups if not group.reason):
        summary += "; widths that are no multiple of 8 may run slower than wider ones, which multiple = 8 avoids"
    facts = {
        "macs_before": plan.macs_before,
        "macs_after": plan.macs_after,
        "parameters_before": plan.parameters_before,
        "parameters_after": plan.parameters_after,
    }
    return Outcome(model, summary, facts, widths=widths)


def run_replace_activations(stage: ReplaceActivations, network: Network, context: Context) -> Outcome:
    model, plan = replace_activations(network.model, network.example(context.data), **stage_keys(stage))
    return _operated(model, plan, f"Replaced {_several(len(plan.edits), 'activation')} by {stage.to}", context)


def run_drop_squeeze_excite(stage: DropSqueezeExcite, network: Network, context: Context) -> Outcome:
    typical = context.data.calibration(GATE_IMAGES, context.seed).x
    images = torch.from_numpy(network.preprocess(typical))
    model, plan = drop_squeeze_excite(network.model, images, **stage_keys(stage))
    done = f"Dropped {_several(len(plan.edits), 'squeeze-and-excitation block')}"
    return _operated(model, plan, f"{done}, the mean gate of {len(plan.gates)} folded into weights", context)


def _operated(model: nn.Module, plan: SurgeryPlan, done: str, context: Context) -> Outcome:
    write_atomic(context.folder / "plan.json", plan.to_json(), "the surgery plan")
    summary = f"{done}; {len(plan.left)} left alone ({plan.left[0]})" if plan.left else done
    return Outcome(model, summary, {"replaced": len(plan.edits), "left": [asdict(left) for left in plan.left]})


def _several(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def run_distill(stage: Distill, network: Network, context: Context) -> Outcome:
    model = network.copy()
    result = distill(
        model,
        context.teacher.model,
        context.data,
        preprocess=network.preprocess,
        teacher_preprocess=context.teacher.preprocess,
        seed=context.seed,
        state=context.folder / SCRATCH,
        progress=context.progress,
        **stage_keys(stage),
    )
    return _trained(model, result, "Distilled", context.data)


def _trained(model: nn.Module, result: TrainResult, done: str, data: Dataset) -> Outcome:
    count = len(result.epochs)
    right = f"{result.test_accuracy:.2%} of {len(data.test)} test images right after the last one"
    summary = f"{done} for {count} epoch{'s' * (count > 1)}: {right}"
    facts = {
        "precision": result.precision,
        "compiled": result.compiled,
        "threads": result.threads,
        "images_per_second": dict(result.images_per_second),
    }
    return Outcome(model, summary, facts, epochs=tuple(asdict(epoch) for epoch in result.epochs))


STAGES: dict[type[Section], Callable[[Any, Network, Context], Outcome]] = {
    Train: run_train,
    PruneChannels: run_prune_channels,
    ReplaceActivations: run_replace_activations,
    DropSqueezeExcite: run_drop_squeeze_excite,
    Distill: run_distill,
}
