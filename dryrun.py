"""What a recipe would do, with predicted figures, trained nothing.

Parameters, MACs and file sizes follow from the structure alone, so they are read off networks that are built,
pruned, exported and quantized for real, but with the weights they start from.
"""

from __future__ import annotations

import copy
import tempfile
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
from .onnxinputs import onnx_preprocess
from .pipeline import begin
from .recipe import Recipe
from .recipe_stages import (
    SEARCH_KEYS,
    Distill,
    DropSqueezeExcite,
    FileStage,
    PruneChannels,
    Qat,
    Quantize,
    ReplaceActivations,
    Stage,
    StoreWeights,
    Train,
    stage_keys,
)

if TYPE_CHECKING:
    from torch import nn

CALIBRATION_IMAGES = 2


class Step(Record):
    what: str
    parameters: int | None = None
    macs: int | None = None
    """Of one image."""
    file_bytes: int | None = None


class Plan(Record):
    name: str
    steps: tuple[Step, ...]
    note: str


def plan(recipe: Recipe) -> Plan:
    """Every step of `recipe` with the parameters, MACs and file size it would lead to.

    Raises EdgeLatheError for what a run would refuse before it trains.
    """
    _, data = begin(recipe)
    with tempfile.TemporaryDirectory() as folder:
        make = _onnx_steps if recipe.model.is_onnx else _steps
        steps, preprocess = make(recipe, data, Path(folder))
    train = 0 if data.train is None else len(data.train)
    images = f"{data.name}: {train} training and {len(data.test)} test images"
    note = f"{images}; {inputs_line(recipe.model, preprocess)}. Nothing was trained or written."
    return Plan(name=recipe.name, steps=tuple(steps), note=note)


def _steps(recipe: Recipe, data: Dataset, folder: Path) -> tuple[list[Step], Preprocess]:
    from .compress.prune.channels import prune_channels
    from .compress.prune.macs import count_macs
    from .compress.surgery.drop_squeeze_excite import drop_squeeze_excite
    from .compress.surgery.replace_activations import replace_activations
    from .export.to_onnx import export_onnx
    from .networks import load_source

    network = load_source(recipe.model, data, recipe.seed)
    example = network.example(data)
    macs, parameters = count_macs(network.model, example)
    steps = [Step(what=f"load {recipe.model.source}", parameters=parameters, macs=macs)]
    for stage in recipe.stages:
        if isinstance(stage, PruneChannels):
            pruned, cut = prune_channels(network.model, example, seed=recipe.seed, **stage_keys(stage))
            network = network.becomes(pruned, network.origin)
            macs, parameters = cut.macs_after, cut.parameters_after
        if isinstance(stage, ReplaceActivations):
            replaced, _ = replace_activations(network.model, example, **stage_keys(stage))
            network = network.becomes(replaced, network.origin)
        if isinstance(stage, DropSqueezeExcite):
            dropped, _ = drop_squeeze_excite(network.model, **stage_keys(stage))
            network = network.becomes(dropped, network.origin)
            macs, parameters = count_macs(dropped, example)
        if isinstance(stage, Train | Distill | Qat) and data.train is None:
            raise errors.training.no_training_images(data.name, stage.do)
        if not isinstance(stage, FileStage):
            steps.append(Step(what=_describe(stage), parameters=parameters, macs=macs))
    path = folder / "float.onnx"
    export_onnx(_stirred(network.model), network.example(data, 1), path, opset=recipe.export.opset)
    steps.append(_file_step("export to ONNX", path))
    return steps + _quantize_steps(recipe, data, path, folder, network.preprocess), network.preprocess


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


def _onnx_steps(recipe: Recipe, data: Dataset, folder: Path) -> tuple[list[Step], Preprocess]:
    path = Path(recipe.model.source)
    preprocess = onnx_preprocess(path, data, recipe.model.mean, recipe.model.std)
    steps = [_file_step(f"load {path.name}", path), *_quantize_steps(recipe, data, path, folder, preprocess)]
    return steps, preprocess


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


def _ptq_keys(stage: Quantize | Qat) -> dict[str, Any]:
    """What `quantize` takes of a stage that searches, learns or trains besides: none changes the size of the file."""
    keys = {key: value for key, value in stage_keys(stage).items() if key in Quantize.model_fields}
    keys["keep_float"] = read_keep_float(stage.keep_float)
    return {key: value for key, value in keys.items() if key not in SEARCH_KEYS} | {"rounding": "nearest"}


def _file_step(what: str, path: Path) -> Step:
    facts = inspect_graph(path)
    return Step(what=what, parameters=facts.parameters, macs=facts.macs, file_bytes=facts.file_bytes)


def _describe(stage: Stage) -> str:
    if isinstance(stage, PruneChannels):
        return f"prune-channels by {stage.criterion} to {stage.keep_macs:.0%} of the MACs"
    if isinstance(stage, ReplaceActivations):
        return f"replace-activations by {stage.to}"
    if isinstance(stage, DropSqueezeExcite):
        return "drop-squeeze-excite"
    if isinstance(stage, StoreWeights):
        return f"store-weights as {stage.format}"
    if isinstance(stage, Qat):
        return f"qat for {stage.target}, {stage.epochs} epoch{'s' * (stage.epochs > 1)}"
    if isinstance(stage, Train | Distill):
        return f"{stage.do} for {stage.epochs} epoch{'s' * (stage.epochs > 1)}"
    return f"quantize for {stage.target}, {stage.method} ranges"
