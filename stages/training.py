"""The stages that train, from labels or from teachers."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from torch import nn

from ..bench.stats import wilson
from ..compress.distill.distill import distill
from ..compress.distill.exits import ExitCount
from ..compress.distill.self_distill import self_distill
from ..compress.distill.several import distill_several
from ..compress.distill.stored_answers import FOLDER as STORED_ANSWERS
from ..compress.sparsify.hold import HeldZeros
from ..compress.train import TrainResult, train
from ..data import Dataset
from ..networks import Network
from ..recipe_stages import Distill, DistillSeveral, Section, SelfDistill, Train, stage_keys
from ..runfolder import SCRATCH
from .context import Context, Outcome, several


def run_train(stage: Train, network: Network, context: Context) -> Outcome:
    model = network.copy()
    result = train(model, context.data, title="train", **_settings(stage, network, model, context))
    return trained(model, result, "Trained", context.data)


def run_distill(stage: Distill, network: Network, context: Context) -> Outcome:
    model = network.copy()
    result = distill(
        model,
        context.teacher.model,
        context.data,
        teacher_preprocess=context.teacher.preprocess,
        answers_in=context.folder.parent.parent / STORED_ANSWERS,
        **_settings(stage, network, model, context),
    )
    return trained(model, result, "Distilled", context.data)


def run_distill_several(stage: DistillSeveral, network: Network, context: Context) -> Outcome:
    model = network.copy()
    result = distill_several(
        model,
        context.teachers,
        context.data,
        answers_in=context.folder.parent.parent / STORED_ANSWERS,
        **_settings(stage, network, model, context),
    )
    outcome = trained(model, result, f"Distilled from {several(len(context.teachers), 'teacher')}", context.data)
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
    result = self_distill(model, context.data, **_settings(stage, network, model, context))
    outcome = trained(model, result.training, "Distilled from itself", context.data)
    judged = [_with_interval(count) for count in result.counts]
    exits = ", ".join(f"{one['output']} {one['top1']:.2%} ({one['low']:.2%} to {one['high']:.2%})" for one in judged)
    kept = "kept" if result.exits is not None else "not kept"
    return replace(
        outcome,
        summary=f"{outcome.summary}; exits ({kept}): {exits}",
        facts=outcome.facts | {"exits": judged, "exit_parameters": result.exit_parameters},
        exits=result.exits,
    )


def _settings(stage: Section, network: Network, model: nn.Module, context: Context) -> dict[str, Any]:
    """Keyword arguments that every training of `model`, a copy of `network`, takes."""
    return {
        **stage_keys(stage),
        "preprocess": network.preprocess,
        "seed": context.seed,
        "constraint": HeldZeros(model, network.masks) if network.masks else None,
        "state": context.folder / SCRATCH,
        "progress": context.progress,
    }


def _with_interval(count: ExitCount) -> dict[str, Any]:
    low, high = wilson(count.correct, count.total)
    return {**asdict(count), "top1": count.correct / count.total, "low": low, "high": high}


def trained(model: nn.Module, result: TrainResult, done: str, data: Dataset) -> Outcome:
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
