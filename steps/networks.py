"""The stages of a recipe that change a PyTorch network, and its export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bench.environment import environment
from ..candidates import Deployable
from ..deploy import export_networks, file_name, inputs_line, sparsity_promises
from ..latencymeasure import deployment_of
from ..recipe import Recipe
from ..recipe_stages import FileStage, PruneChannels, PruneStep, Stage, TrainingKeys, expanded
from ..runfolder import StageFolder
from .steps import Steps, normalisation_of

if TYPE_CHECKING:
    from ..compress.distill.teachers import Teacher
    from ..networks import Network


def exported_networks(steps: Steps) -> list[Deployable]:
    """Carry out the stages that change the network; returns the dense and the final network as ONNX files."""
    stages = [stage for stage in steps.recipe.stages if not isinstance(stage, FileStage)]
    dense, network = carried_out(steps, stages)
    changed = not all(_makes_dense(steps.recipe, stage, first=stage is stages[0]) for stage in stages)
    return _exported(
        steps, {"float dense": dense, _final_name(steps.recipe): network} if changed else {"float": network}
    )


def carried_out(steps: Steps, stages: Sequence[Stage]) -> tuple[Network, Network]:
    """The network before the first of `stages` that compresses it, and the one after all of them."""
    from ..networks import load_source
    from ..teachersource import load_teacher, load_teachers

    recipe = steps.recipe
    network = dense = whole = load_source(recipe.model, steps.data, recipe.seed)
    steps.say(inputs_line(recipe.model, network.preprocess))
    teacher = load_teacher(recipe.teacher, steps.data, recipe.seed) if recipe.teacher else None
    teachers = load_teachers(recipe.teachers, steps.data, recipe.seed)
    if recipe.teacher is not None and teacher is not None:
        steps.say(f"teacher {recipe.teacher.title}, {inputs_line(recipe.teacher, teacher.preprocess)}")
    for section, one in zip(recipe.teachers, teachers, strict=True):
        steps.say(f"teacher {one.name}, {inputs_line(section, one.preprocess)}")
    changed = False
    for stage in expanded(stages):
        changed = changed or not _makes_dense(steps.recipe, stage, first=stage is stages[0])
        if isinstance(stage, PruneStep) and stage.step == 1:
            whole = network
        network = _network_stage(steps, stage, network, teacher or dense, whole, teachers)
        if not changed:
            dense = network
    return dense, network


def _makes_dense(recipe: Recipe, stage: Stage, *, first: bool) -> bool:
    """Whether a stage makes the dense network: `train`, and what a network without weights first learns from a
    teacher or from itself. Random weights are nothing to compare with, and some networks' outputs are constant
    under them."""
    begins = first and recipe.model.weights is None
    taught = (stage.do == "distill" and recipe.teacher is not None) or stage.do == "distill-several"
    return stage.do == "train" or (begins and (taught or stage.do == "self-distill"))


def _final_name(recipe: Recipe) -> str:
    kinds = {stage.do for stage in recipe.stages}
    if "prune-channels" in kinds:
        return "float pruned"
    if kinds & {"sparsify", "sparsify-gradually"}:
        return "float sparse"
    if kinds & {"replace-activations", "drop-squeeze-excite", "open-shortcuts"}:
        return "float simplified"
    return "float distilled"


def _network_stage(
    steps: Steps, stage: Any, network: Network, teacher: Network, whole: Network, teachers: tuple[Teacher, ...]
) -> Network:
    from ..networks import restore, store
    from ..stages import STAGES
    from ..stages.context import Context

    settings = {
        "stage": stage.model_dump(mode="json"),
        "input": network.origin,
        "mean_std": normalisation_of(network.preprocess),
    }
    if stage.do == "distill":
        settings["teacher"] = [teacher.origin, normalisation_of(teacher.preprocess)]
    if stage.do == "distill-several":
        settings["teachers"] = [[one.name, dict(one.settings())] for one in teachers]
    deployment = deployment_of(steps.recipe)
    if isinstance(stage, PruneChannels) and stage.measures:
        # What was chosen by timing is the choice of this machine.
        settings |= {"deployment": asdict(deployment), "environment": environment().fingerprint}
    promised = sparsity_promises(stage, steps.recipe.bench.runtimes)

    def work(folder: StageFolder) -> dict[str, Any]:
        for line in promised:
            steps.add(line)
        context = Context(
            steps.data,
            steps.recipe.seed,
            teacher,
            whole,
            folder.path,
            steps.progress,
            deployment,
            steps.add,
            teachers,
        )
        outcome = STAGES[type(stage)](stage, network, context)
        store(network.becomes(outcome.model, folder.key, outcome.masks, outcome.exits), folder.path)
        return {
            "settings": stage.model_dump(mode="json"),
            "summary": outcome.summary,
            "facts": outcome.facts | ({"runtimes": promised} if promised else {}),
            "widths": outcome.widths,
            "epochs": outcome.epochs,
        }

    folder = steps.stage(stage.do, settings, work, trains=isinstance(stage, TrainingKeys))
    return restore(network, folder.path, folder.key)


def _exported(steps: Steps, networks: dict[str, Network]) -> list[Deployable]:
    section = steps.recipe.export
    made_by = [stage for stage in steps.recipe.stages if not isinstance(stage, FileStage)]
    stages = [stage.model_dump(mode="json", exclude_defaults=True) for stage in made_by]
    # Without its folder: the same recipe in another place gives the same bytes.
    provenance = {"model": Path(steps.recipe.model.source).name, "seed": steps.recipe.seed, "stages": stages}
    settings = {
        "export": section.model_dump(mode="json"),
        "provenance": provenance,
        "networks": {
            name: [network.origin, normalisation_of(network.preprocess)] for name, network in networks.items()
        },
    }

    def work(folder: StageFolder) -> dict[str, Any]:
        return export_networks(networks, section, steps.data, provenance, folder.path)

    folder = steps.stage("export", settings, work)
    return [Deployable(name, folder.path / file_name(name), network.preprocess) for name, network in networks.items()]
