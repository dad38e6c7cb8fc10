"""What a recipe would do, with predicted figures, trained nothing.

Parameters, MACs and file sizes follow from the structure alone, so they are read off networks that are built,
pruned, exported and quantized for real, but with the weights they start from.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import errors
from .bench.graph import inspect_graph
from .bench.records import Record
from .compress.quantize.quantize import quantize
from .compress.quantize.search.sensitivity import read_keep_float
from .compress.quantize.storage.store_weights import store_weights
from .data import Dataset, Preprocess
from .deploy import inputs_line
from .imagesequence import ImageSequence
from .latencymeasure import deployment_of
from .onnxinputs import onnx_preprocess
from .pipeline import begin
from .recipe import Recipe
from .recipe_stages import (
    SEARCH_KEYS,
    DropSqueezeExcite,
    FileStage,
    OpenShortcuts,
    PruneChannels,
    PruneStep,
    Qat,
    Quantize,
    ReplaceActivations,
    SelfDistill,
    SparsifyGradually,
    SparsityKeys,
    Stage,
    StoreWeights,
    TrainingKeys,
    expanded,
    stage_keys,
)

if TYPE_CHECKING:
    from torch import nn

    from .compress.prune.plan import PruningPlan

CALIBRATION_IMAGES = 2
NOTHING_DONE = "Nothing was trained or written."


class Step(Record):
    what: str
    parameters: int | None = None
    macs: int | None = None
    """Of one image."""
    file_bytes: int | None = None


class ScannedWidth(Record):
    """What a sensitivity scan found for one group at one width."""

    after: int
    loss: float
    """Above that of the whole network; mean cross entropy."""
    right: float
    """Share of the images classified right, less that of the whole network."""


class PlannedWidth(Record):
    """A group of channels that live and die together."""

    layer: str
    before: int
    after: int
    reason: str
    """Why none goes; empty where some do."""
    scanned: tuple[ScannedWidth, ...] = ()


class Plan(Record):
    name: str
    steps: tuple[Step, ...]
    widths: tuple[PlannedWidth, ...] = ()
    """Of the first stage that prunes channels, in all its steps."""
    pruned_macs: tuple[int, int] | None = None
    """Before and after that stage."""
    note: str


def plan(recipe: Recipe) -> Plan:
    """Every step of `recipe` with the parameters, MACs and file size it would lead to.

    Raises EdgeLatheError for what a run would refuse before it trains.
    """
    _, data = begin(recipe)
    with tempfile.TemporaryDirectory() as folder:
        make = _onnx_steps if recipe.model.is_onnx else _steps
        steps, cuts, preprocess = make(recipe, data, Path(folder))
    train = 0 if data.train is None else len(data.train)
    images = f"{data.name}: {train} training and {len(data.test)} test images"
    note = f"{images}; {inputs_line(recipe.model, preprocess)}. {NOTHING_DONE}"
    macs = (cuts[0].macs_before, cuts[-1].macs_after) if cuts else None
    return Plan(name=recipe.name, steps=tuple(steps), widths=_planned_widths(cuts), pruned_macs=macs, note=note)


def _steps(recipe: Recipe, data: Dataset, folder: Path) -> tuple[list[Step], list[PruningPlan], Preprocess]:
    from .compress.distill.exits import plan_exits
    from .compress.prune.macs import count_macs
    from .compress.sparsify.sparsify import plan_sparsity
    from .compress.surgery.drop_squeeze_excite import drop_squeeze_excite
    from .compress.surgery.open_shortcuts import open_shortcuts
    from .compress.surgery.replace_activations import replace_activations
    from .export.to_onnx import export_onnx
    from .models.exits import Exits
    from .networks import load_source
    from .stages.pruning import prune
    from .teachersource import check_taught

    whole = network = load_source(recipe.model, data, recipe.seed)
    check_taught(recipe, network, data)
    example = network.example(data)
    macs, parameters = count_macs(network.model, example)
    steps = [Step(what=f"load {recipe.model.source}", parameters=parameters, macs=macs)]
    cuts: list[PruningPlan] = []
    for stage in expanded(recipe.stages):
        if isinstance(stage, PruneChannels):
            further = isinstance(stage, PruneStep) and stage.step > 1
            whole = whole if further else network
            pruned, cut = prune(stage, network, data, recipe.seed, whole=whole, deployment=deployment_of(recipe))
            if further or not cuts:
                cuts.append(cut)
            network = network.becomes(pruned, network.origin)
            macs, parameters = cut.macs_after, cut.parameters_after
        if isinstance(stage, ReplaceActivations):
            replaced, _ = replace_activations(network.model, example, **stage_keys(stage))
            network = network.becomes(replaced, network.origin)
        if isinstance(stage, DropSqueezeExcite):
            dropped, _ = drop_squeeze_excite(network.model, **stage_keys(stage))
            network = network.becomes(dropped, network.origin)
            macs, parameters = count_macs(dropped, example)
        if isinstance(stage, OpenShortcuts):
            opened, _ = open_shortcuts(network.model)
            network = network.becomes(opened, network.origin)
            macs, parameters = count_macs(opened, example)
        if isinstance(stage, SparsityKeys):
            plan_sparsity(network.model, example, **_sparsity_keys(stage))
        if isinstance(stage, SelfDistill):
            found = plan_exits(network.model, example, stage.exits)
            network = replace(network, exits=Exits(found.exits) if stage.keep_exits else None)
        elif not isinstance(stage, FileStage):
            network = replace(network, exits=None)
        if isinstance(stage, TrainingKeys | Qat) and data.train is None:
            raise errors.training.no_training_images(data.name, stage.do)
        if not isinstance(stage, FileStage):
            steps.append(Step(what=_describe(stage), parameters=parameters, macs=macs))
    path = folder / "float.onnx"
    export_onnx(_stirred(network.deployed), network.example(data, 1), path, opset=recipe.export.opset)
    steps.append(_file_step("export to ONNX", path))
    steps += _quantize_steps(recipe, data, path, folder, network.preprocess)
    return steps, cuts, network.preprocess


def _planned_widths(cuts: Sequence[PruningPlan]) -> tuple[PlannedWidth, ...]:
    """The groups before the first of some steps and after the last."""
    last = {group.layer: group for group in cuts[-1].groups} if cuts else {}
    return tuple(
        PlannedWidth(
            layer=group.layer,
            before=group.before,
            after=last[group.layer].after,
            reason=group.reason if last[group.layer].after == group.before else "",
        )
        for group in (cuts[0].groups if cuts else ())
    )


def _stirred(model: nn.Module) -> nn.Module:
    """A copy without the zeros that biases start from: the export leaves those out, and training moves them."""
    import torch

    stirred = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in stirred.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.01 * torch.rand(tensor.shape, generator=generator))
    return stirred


def _onnx_steps(recipe: Recipe, data: Dataset, folder: Path) -> tuple[list[Step], list[PruningPlan], Preprocess]:
    path = Path(recipe.model.source)
    preprocess = onnx_preprocess(path, data, recipe.model.mean, recipe.model.std)
    steps = [_file_step(f"load {path.name}", path), *_quantize_steps(recipe, data, path, folder, preprocess)]
    return steps, [], preprocess


def _quantize_steps(recipe: Recipe, data: Dataset, path: Path, folder: Path, preprocess: Preprocess) -> list[Step]:
    steps = []
    for stage in recipe.stages:
        if isinstance(stage, Quantize | Qat):
            images = ImageSequence(data.calibration(CALIBRATION_IMAGES, recipe.seed).x, preprocess)
            pixels = (preprocess.mean, preprocess.std)
            quantize(path, folder / "int8.onnx", images, pixels=pixels, **_ptq_keys(stage))
            steps.append(_file_step(_describe(stage), folder / "int8.onnx"))
        elif isinstance(stage, StoreWeights):
            store_weights(
                path, folder / "weights.onnx", **stage_keys(stage) | {"keep_float": read_keep_float(stage.keep_float)}
            )
            steps.append(_file_step(_describe(stage), folder / "weights.onnx"))
    return steps


def _sparsity_keys(stage: SparsityKeys) -> dict[str, Any]:
    return {key: value for key, value in stage_keys(stage).items() if key in SparsityKeys.model_fields}


def _ptq_keys(stage: Quantize | Qat) -> dict[str, Any]:
    """What `quantize` takes of a stage that searches, learns or trains besides: none changes the size of the file."""
    keys = {key: value for key, value in stage_keys(stage).items() if key in Quantize.model_fields}
    keys["keep_float"] = read_keep_float(stage.keep_float)
    return {key: value for key, value in keys.items() if key not in SEARCH_KEYS} | {"rounding": "nearest"}


def _file_step(what: str, path: Path) -> Step:
    facts = inspect_graph(path)
    return Step(what=what, parameters=facts.parameters, macs=facts.macs, file_bytes=facts.file_bytes)


def _target(stage: PruneChannels) -> str:
    if stage.widths is not None:
        return "stated widths"
    if stage.keep_latency is not None:
        return f"{stage.keep_latency:.0%} of the {stage.latency_of} latency"
    if stage.keep_params is not None:
        return f"{stage.keep_params:.0%} of the parameters"
    return f"{0.5 if stage.keep_macs is None else stage.keep_macs:.0%} of the MACs"


def _describe(stage: Stage) -> str:
    if isinstance(stage, PruneChannels):
        step = f", step {stage.step} of {stage.steps}" if isinstance(stage, PruneStep) else ""
        return f"prune-channels by {stage.criterion} to {_target(stage)}{step}"
    if isinstance(stage, SparsityKeys):
        keep = "" if stage.keep is None else f", {stage.keep:.0%} stay"
        what = f"{stage.do} in the pattern {stage.pattern}{keep}"
        if isinstance(stage, SparsifyGradually):
            what += f", {stage.epochs} epoch{'s' * (stage.epochs > 1)}"
        return what
    if isinstance(stage, ReplaceActivations):
        return f"replace-activations by {stage.to}"
    if isinstance(stage, DropSqueezeExcite | OpenShortcuts):
        return stage.do
    if isinstance(stage, StoreWeights):
        return f"store-weights as {stage.format}"
    if isinstance(stage, Qat):
        return f"qat for {stage.target}, {stage.epochs} epoch{'s' * (stage.epochs > 1)}"
    if isinstance(stage, TrainingKeys):
        return f"{stage.do} for {stage.epochs} epoch{'s' * (stage.epochs > 1)}"
    return f"quantize for {stage.target}, {stage.method} ranges"
