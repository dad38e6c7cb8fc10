"""The stages of a recipe that make ONNX files from the float one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..bench.environment import environment
from ..bench.records import NodeOutcome
from ..candidates import Deployable
from ..deploy import file_name, inputs_line, quantize_file, store_weights_file, train_and_quantize_file
from ..files import sha256_file
from ..onnxinputs import onnx_preprocess
from ..recipe_stages import FileStage, Qat, Quantize, StoreWeights
from ..runfolder import SCRATCH, StageFolder
from ..tuning import split_training
from .steps import Steps, normalisation_of


def source_files(steps: Steps) -> list[Deployable]:
    """The recipe's ONNX file as the float candidate, with its normalisation."""
    model = steps.recipe.model
    path = Path(model.source)
    preprocess = onnx_preprocess(path, steps.data, model.mean, model.std)
    steps.say(inputs_line(model, preprocess))
    return [Deployable("float", path, preprocess)]


def files_from(steps: Steps, source: Deployable) -> list[Deployable]:
    """What the recipe's stages make of the float candidate `source`, each a file of its own."""
    stages = [stage for stage in steps.recipe.stages if isinstance(stage, FileStage)]
    names = [_name(stage, source) for stage in stages]
    made = []
    for number, (stage, name) in enumerate(zip(stages, names, strict=True)):
        if names.count(name) > 1:
            name += f" {names[: number + 1].count(name)}"
        if isinstance(stage, Qat):
            made.append(_trained(steps, stage, source, name))
        elif isinstance(stage, StoreWeights):
            made.append(_stored(steps, stage, source, name))
        else:
            made.append(_quantized(steps, stage, source, name))
    return made


def _name(stage: FileStage, source: Deployable) -> str:
    kind = f"{stage.format} weights" if isinstance(stage, StoreWeights) else "int8"
    return source.name.replace("float", kind) + (" qat" if isinstance(stage, Qat) else "")


def _stored(steps: Steps, stage: StoreWeights, source: Deployable, name: str) -> Deployable:
    settings = {"stage": stage.model_dump(mode="json"), "input": sha256_file(source.path)}

    def work(folder: StageFolder) -> dict[str, Any]:
        return store_weights_file(source.path, folder.path / file_name(name), stage)

    return _deployable(steps.stage("store-weights", settings, work), source, name)


def _quantized(steps: Steps, stage: Quantize, source: Deployable, name: str) -> Deployable:
    count = steps.recipe.data.calibration
    settings = _calibrated(steps, stage, source, name)
    searches = stage.max_accuracy_drop is not None
    if searches:  # what was chosen by timing is the choice of this machine
        settings["environment"] = environment().fingerprint

    def work(folder: StageFolder) -> dict[str, Any]:
        seed, path = steps.recipe.seed, folder.path / file_name(name)
        images, judged = steps.data.calibration(count, seed), None
        if searches:
            images, judged = split_training(steps.data, count, seed)
        return quantize_file(source.path, path, stage, images, source.preprocess, judged=judged, say=steps.add)

    return _deployable(steps.stage("quantize", settings, work), source, name)


def _trained(steps: Steps, stage: Qat, source: Deployable, name: str) -> Deployable:
    count, seed = steps.recipe.data.calibration, steps.recipe.seed
    teacher = None
    if steps.recipe.teacher is not None:
        from ..teachersource import load_teacher

        teacher = load_teacher(steps.recipe.teacher, steps.data, seed)
    settings = _calibrated(steps, stage, source, name) | {
        "teacher": None if teacher is None else [teacher.origin, normalisation_of(teacher.preprocess)]
    }

    def work(folder: StageFolder) -> dict[str, Any]:
        return train_and_quantize_file(
            source.path,
            folder.path / file_name(name),
            stage,
            steps.data,
            source.preprocess,
            calibration=count,
            seed=seed,
            teacher=teacher,
            state=folder.path / SCRATCH,
            progress=steps.progress,
        )

    return _deployable(steps.stage("qat", settings, work, trains=True), source, name)


def _calibrated(steps: Steps, stage: Quantize | Qat, source: Deployable, name: str) -> dict[str, Any]:
    """What decides the file that a stage with calibration images makes."""
    return {
        "stage": stage.model_dump(mode="json"),
        "input": sha256_file(source.path),
        "file": file_name(name),  # another number of stages gives them other names
        "calibration": steps.recipe.data.calibration,
        "mean_std": normalisation_of(source.preprocess),
    }


def _deployable(folder: StageFolder, source: Deployable, name: str) -> Deployable:
    nodes = tuple(NodeOutcome.model_validate(node) for node in folder.record()["nodes"])
    return Deployable(name, folder.path / file_name(name), source.preprocess, nodes)
