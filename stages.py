"""The stages that change a PyTorch network, one function each; `STAGES` is the literal list of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .bench.stats import wilson
from .compress.batchnorm import likeliest_augment, reestimate_batch_norm
from .compress.distill.distill import distill
from .compress.distill.exits import ExitCount
from .compress.distill.self_distill import self_distill
from .compress.distill.several import distill_several
from .compress.distill.stored_answers import FOLDER as STORED_ANSWERS
from .compress.distill.teachers import Teacher
from .compress.prune.channels import prune_channels
from .compress.prune.criteria import needs_samples
from .compress.prune.evidence import Samples
from .compress.prune.plan import PruningPlan
from .compress.prune.steps import share_of_step
from .compress.prune.targets import KEYS as TARGETS
from .compress.prune.targets import one_target
from .compress.prune.widths import prune_to_widths
from .compress.sparsify.hold import HeldZeros
from .compress.sparsify.masks import zeros_of
from .compress.sparsify.plan import SparsityPlan
from .compress.sparsify.sparsify import apply_masks, plan_sparsity
from .compress.sparsify.sparsify_gradually import sparsify_gradually
from .compress.surgery.drop_squeeze_excite import drop_squeeze_excite
from .compress.surgery.open_shortcuts import open_shortcuts
from .compress.surgery.plan import SurgeryPlan
from .compress.surgery.replace_activations import replace_activations
from .compress.train import TrainResult, train
from .data import Dataset, Split
from .files import write_atomic
from .latencymeasure import Deployment, latency_against
from .models.exits import Exits
from .networks import Network
from .recipe_stages import (
    DECIDED_BY_WIDTHS,
    PRUNED_BY_THE_STAGE,
    SPARSIFIED_BY_THE_STAGE,
    Distill,
    DistillSeveral,
    DropSqueezeExcite,
    OpenShortcuts,
    PruneChannels,
    PruneStep,
    ReplaceActivations,
    Section,
    SelfDistill,
    Sparsify,
    SparsifyGradually,
    Train,
    stage_keys,
)
from .runfolder import SCRATCH

GATE_IMAGES = 256
"""Training images over which the mean gates of squeeze-and-excitation blocks are measured."""


@dataclass(frozen=True)
class Context:
    """What a stage may use besides its own keys."""

    data: Dataset
    seed: int
    teacher: Network
    whole: Network
    """The network before the first of the steps that a stage of several is one of."""
    folder: Path
    """Where the stage works; a stage that is interrupted finds it again as it left it."""
    progress: bool
    deployment: Deployment = field(default_factory=Deployment)
    say: Callable[[str], None] = lambda _: None
    teachers: tuple[Teacher, ...] = ()
    """What stages learn from that have several."""


@dataclass(frozen=True)
class Outcome:
    model: nn.Module
    summary: str
    facts: dict[str, Any]
    widths: tuple[dict[str, Any], ...] = ()
    epochs: tuple[dict[str, Any], ...] = ()
    masks: Mapping[str, torch.Tensor] | None = None
    """Of a stage that makes zeros; None: those that the network came with."""
    exits: Exits | None = None
    """Of a stage that keeps early exits."""


def run_train(stage: Train, network: Network, context: Context) -> Outcome:
    model = network.copy()
    result = train(
        model,
        context.data,
        preprocess=network.preprocess,
        seed=context.seed,
        constraint=_held(model, network),
        state=context.folder / SCRATCH,
        progress=context.progress,
        title="train",
        **stage_keys(stage),
    )
    return _trained(model, result, "Trained", context.data)


def run_prune_channels(stage: PruneChannels, network: Network, context: Context) -> Outcome:
    model, plan = prune(
        stage,
        network,
        context.data,
        context.seed,
        whole=context.whole,
        deployment=context.deployment,
        say=context.say,
    )
    write_atomic(context.folder / "plan.json", plan.to_json(), "the pruning plan")
    renewed = _renew_norms(stage, model, network, context)
    macs, parameters = plan.macs_after / plan.macs_before, plan.parameters_after / plan.parameters_before
    widths = tuple(
        {"layer": group.layer, "before": group.before, "after": group.after, "reason": group.reason}
        for group in plan.groups
    )
    step = f"Step {stage.step} of {stage.steps}: removed" if isinstance(stage, PruneStep) else "Removed"
    summary = f"{step} channels by {plan.criterion}: {macs:.1%} of MACs and {parameters:.1%} of parameters remain"
    if plan.latency_before is not None and plan.latency_after is not None:
        summary += f", {plan.latency_after / plan.latency_before:.1%} of the {stage.latency_of} latency"
    if stage.multiple == 1 and any(group.after % 8 for group in plan.groups if not group.reason):
        better = '"auto"' if stage.measures else "8"
        summary += (
            f"; widths that are no multiple of 8 may run slower than wider ones, which multiple = {better} avoids"
        )
    facts: dict[str, Any] = {
        "macs_before": plan.macs_before,
        "macs_after": plan.macs_after,
        "parameters_before": plan.parameters_before,
        "parameters_after": plan.parameters_after,
        **renewed,
    }
    if stage.measures:
        facts["latencies"] = [asdict(trial) for trial in plan.latencies]
        facts["multiples"] = [asdict(found) for found in plan.multiples]
    return Outcome(model, summary, facts, widths=widths)


def prune(
    stage: PruneChannels,
    network: Network,
    data: Dataset,
    seed: int,
    *,
    whole: Network,
    deployment: Deployment,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[nn.Module, PruningPlan]:
    """A pruned copy of a network and its plan, with training images for the criteria that look at them.

    whole      -- the network before the first step, where `stage` is one of several.
    deployment -- where latency is measured, if the stage asks for it.
    """
    keys = {key: value for key, value in stage_keys(stage).items() if key not in (*PRUNED_BY_THE_STAGE, "step")}
    samples = samples_for(stage, network, data, seed)
    example = network.example(data)
    if stage.widths is not None:
        stated = {key: value for key, value in keys.items() if key not in DECIDED_BY_WIDTHS}
        return prune_to_widths(network.model, example, stage.widths, seed=seed, samples=samples, **stated)
    with tempfile.TemporaryDirectory() as folder:
        measure = None
        if stage.measures:
            settings: dict[str, Any] = {"deployment": deployment, "latency_of": stage.latency_of, "seed": seed}
            measure = latency_against(network.model, example, Path(folder), say=say, **settings)
        if isinstance(stage, PruneStep):
            key, keep = one_target(**{key: keys[key] for key in TARGETS if key in keys})
            keys[key] = share_of_step(
                key,
                keep,
                stage.step,
                stage.steps,
                whole=whole.model,
                now=network.model,
                example=example,
                measure=measure,
            )
        return prune_channels(network.model, example, seed=seed, samples=samples, measure=measure, **keys)


def samples_for(stage: PruneChannels, network: Network, data: Dataset, seed: int) -> Samples | None:
    """Training images for the stage's criterion; None where it looks at none, or there are none."""
    if data.train is None or not needs_samples(stage.criterion):
        return None
    return samples_of(data.calibration(stage.images, seed), network)


def samples_of(images: Split, network: Network) -> Samples:
    """Images as `network` wants them, with their labels."""
    return Samples(torch.from_numpy(network.preprocess(images.x)), torch.from_numpy(images.y))


def _renew_norms(
    stage: PruneChannels | Sparsify, model: nn.Module, network: Network, context: Context
) -> dict[str, Any]:
    """Batch norms of `model`, cut from `network`, on images augmented as those were that `network` was trained on."""
    if not stage.reestimate_norms or context.data.train is None:
        return {"batch_norms_reestimated": 0}
    kind = likeliest_augment(network.model, context.data, network.preprocess, seed=context.seed)
    count = reestimate_batch_norm(model, context.data, network.preprocess, augmented=kind, seed=context.seed)
    return {"batch_norms_reestimated": count, "reestimated_on_augmented": kind}


def run_sparsify(stage: Sparsify, network: Network, context: Context) -> Outcome:
    keys = {key: value for key, value in stage_keys(stage).items() if key not in SPARSIFIED_BY_THE_STAGE}
    plan, masks = plan_sparsity(network.model, network.example(context.data), **keys)
    model = apply_masks(network.model, plan, masks)
    write_atomic(context.folder / "plan.json", plan.to_json(), "the sparsity plan")
    facts = _sparsity_facts(plan) | _renew_norms(stage, model, network, context)
    return Outcome(model, _sparsified(plan), facts, masks=_masks(model, plan, network))


def run_sparsify_gradually(stage: SparsifyGradually, network: Network, context: Context) -> Outcome:
    model = network.copy()
    result, plan = sparsify_gradually(
        model,
        context.data,
        preprocess=network.preprocess,
        seed=context.seed,
        state=context.folder / SCRATCH,
        progress=context.progress,
        **stage_keys(stage),
    )
    write_atomic(context.folder / "plan.json", plan.to_json(), "the sparsity plan")
    outcome = _trained(model, result, f"{_sparsified(plan)}; trained", context.data)
    return replace(outcome, facts=outcome.facts | _sparsity_facts(plan), masks=_masks(model, plan, network))


def _masks(model: nn.Module, plan: SparsityPlan, before: Network) -> dict[str, torch.Tensor]:
    """All zeros of a sparsified network: those of the plan, and those that it was sparsified with before."""
    sparse = {weight.weight for weight in plan.sparse} | set(before.masks)
    return {name: mask for name, mask in zeros_of(model).items() if name in sparse}


def _sparsified(plan: SparsityPlan) -> str:
    return (
        f"Sparsified {len(plan.sparse)} of {len(plan.weights)} layers ({plan.pattern}, {plan.method}): "
        f"{plan.kept_share:.1%} of all weights stay"
    )


def _sparsity_facts(plan: SparsityPlan) -> dict[str, Any]:
    weights = [
        {"weight": weight.weight, "size": weight.size, "kept": weight.kept, "reason": weight.reason}
        for weight in plan.weights
    ]
    return {"kept_share": plan.kept_share, "weights": weights}


def _held(model: nn.Module, network: Network) -> HeldZeros | None:
    """What keeps the zeros of a sparse network through the training of `model`, its copy."""
    return HeldZeros(model, network.masks) if network.masks else None


def run_replace_activations(stage: ReplaceActivations, network: Network, context: Context) -> Outcome:
    model, plan = replace_activations(network.model, network.example(context.data), **stage_keys(stage))
    return _operated(model, plan, f"Replaced {_several(len(plan.edits), 'activation')} by {stage.to}", context)


def run_drop_squeeze_excite(stage: DropSqueezeExcite, network: Network, context: Context) -> Outcome:
    typical = context.data.calibration(GATE_IMAGES, context.seed).x
    images = torch.from_numpy(network.preprocess(typical))
    model, plan = drop_squeeze_excite(network.model, images, **stage_keys(stage))
    done = f"Dropped {_several(len(plan.edits), 'squeeze-and-excitation block')}"
    return _operated(model, plan, f"{done}, the mean gate of {len(plan.gates)} folded into weights", context)


def run_open_shortcuts(stage: OpenShortcuts, network: Network, context: Context) -> Outcome:
    model, plan = open_shortcuts(network.model, **stage_keys(stage))
    done = f"Wrote {_several(len(plan.edits), 'option A shortcut')} as frozen 1 x 1 convolutions"
    return _operated(model, plan, done, context)


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
        constraint=_held(model, network),
        state=context.folder / SCRATCH,
        answers_in=context.folder.parent.parent / STORED_ANSWERS,
        progress=context.progress,
        **stage_keys(stage),
    )
    return _trained(model, result, "Distilled", context.data)


def run_distill_several(stage: DistillSeveral, network: Network, context: Context) -> Outcome:
    model = network.copy()
    result = distill_several(
        model,
        context.teachers,
        context.data,
        preprocess=network.preprocess,
        seed=context.seed,
        constraint=_held(model, network),
        state=context.folder / SCRATCH,
        answers_in=context.folder.parent.parent / STORED_ANSWERS,
        progress=context.progress,
        **stage_keys(stage),
    )
    outcome = _trained(model, result, f"Distilled from {_several(len(context.teachers), 'teacher')}", context.data)
    names = [teacher.name for teacher in context.teachers]
    weights = {name: result.epochs[-1].logged[f"weight of {name}"] for name in names}
    counted = ", ".join(f"{name} {weight:.3f}" for name, weight in weights.items())
    return replace(
        outcome,
        summary=f"{outcome.summary}; mean weights in it: {counted}",
        facts=outcome.facts | {"teacher_weights": weights},
    )


def run_self_distill(stage: SelfDistill, network: Network, context: Context) -> Outcome:
    model = network.copy()
    result = self_distill(
        model,
        context.data,
        preprocess=network.preprocess,
        seed=context.seed,
        constraint=_held(model, network),
        state=context.folder / SCRATCH,
        progress=context.progress,
        **stage_keys(stage),
    )
    outcome = _trained(model, result.training, "Distilled from itself", context.data)
    judged = [_with_interval(count) for count in result.counts]
    exits = ", ".join(f"{one['output']} {one['top1']:.2%} ({one['low']:.2%} to {one['high']:.2%})" for one in judged)
    kept = "kept" if result.exits is not None else "not kept"
    return replace(
        outcome,
        summary=f"{outcome.summary}; exits ({kept}): {exits}",
        facts=outcome.facts | {"exits": judged, "exit_parameters": result.exit_parameters},
        exits=result.exits,
    )


def _with_interval(count: ExitCount) -> dict[str, Any]:
    low, high = wilson(count.correct, count.total)
    return {**asdict(count), "top1": count.correct / count.total, "low": low, "high": high}


def _trained(model: nn.Module, result: TrainResult, done: str, data: Dataset) -> Outcome:
    count = len(result.epochs)
    right = f"{result.test_accuracy:.2%} of {len(data.test)} test images right after the last one"
    summary = f"{done} for {count} epoch{'s' * (count > 1)}: {right}"
    facts = {
        "precision": result.precision,
        "compiled": result.compiled,
        "threads": result.threads,
        "processes": result.processes,
        "images_per_second": dict(result.images_per_second),
        "objective": dict(result.objective),
    }
    return Outcome(model, summary, facts, epochs=tuple(asdict(epoch) for epoch in result.epochs))


STAGES: dict[type[Section], Callable[[Any, Network, Context], Outcome]] = {
    Train: run_train,
    PruneChannels: run_prune_channels,
    PruneStep: run_prune_channels,
    Sparsify: run_sparsify,
    SparsifyGradually: run_sparsify_gradually,
    ReplaceActivations: run_replace_activations,
    DropSqueezeExcite: run_drop_squeeze_excite,
    OpenShortcuts: run_open_shortcuts,
    Distill: run_distill,
    DistillSeveral: run_distill_several,
    SelfDistill: run_self_distill,
}
