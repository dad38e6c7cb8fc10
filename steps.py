"""The stages of a recipe, each done in a folder of its own or found there, finished."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bench.environment import environment
from .bench.latency import Progress
from .bench.records import NodeOutcome, StageRecord
from .candidates import Deployable, measure
from .compress.parallel import ALONE, Team
from .data import Dataset, Preprocess
from .deploy import (
    export_networks,
    file_name,
    inputs_line,
    quantize_file,
    sparsity_promises,
    store_weights_file,
    train_and_quantize_file,
)
from .files import sha256_file, write_atomic
from .latencymeasure import deployment_of
from .onnxinputs import onnx_preprocess
from .recipe import Recipe
from .recipe_stages import (
    FileStage,
    PruneChannels,
    PruneStep,
    Qat,
    Quantize,
    Stage,
    StoreWeights,
    TrainingKeys,
    expanded,
)
from .runfolder import SCRATCH, StageFolder, find_stage, finish_stage, stage_key
from .tuning import split_training

if TYPE_CHECKING:
    from .compress.distill.teachers import Teacher
    from .networks import Network

MEASURED = "measured.json"


class Steps:
    """The run in progress: numbers the stage folders and collects their records."""

    def __init__(
        self,
        recipe: Recipe,
        data: Dataset,
        folder: Path,
        say: Callable[[str], None],
        progress: bool,
        team: Team = ALONE,
    ) -> None:
        self.recipe, self.data, self.folder, self.team = recipe, data, folder, team
        self.say = say if team.is_main else lambda _: None
        self.progress = progress and team.is_main
        self.records: list[StageRecord] = []

    def _stage(
        self, do: str, settings: dict[str, Any], work: Callable[[StageFolder], dict[str, Any]], trains: bool = False
    ) -> StageFolder:
        """Find the stage's finished folder or do its work; `work` returns what the record says beside its key.

        Of several processes only the main one works and writes, but all work where a network `trains`: what the others
        write goes to a folder that is thrown away.
        """
        key = stage_key({"do": do, "seed": self.recipe.seed, "data": self.data.fingerprint, **settings})
        folder = self._of_main(lambda: find_stage(self.folder, f"{len(self.records) + 1}-{do}", key))
        if folder.whole:
            self.say(f"{do}: already done")
        else:
            self.say(do)
            record = {"do": do, "key": folder.key, "folder": folder.name, "settings": settings}
            if trains and not self.team.is_main:
                with tempfile.TemporaryDirectory() as aside:
                    work(replace(folder, path=Path(aside)))
            folder = self._of_main(lambda: finish_stage(folder, record | work(folder)))
        record = folder.record()
        self.records.append(
            StageRecord.model_validate({name: record[name] for name in StageRecord.model_fields if name in record})
        )
        self.say(f"  {record['summary']}")
        return folder

    def _of_main(self, made: Callable[[], StageFolder]) -> StageFolder:
        """The folder that the main process makes or finds, when all processes have come here."""
        if self.team.size == 1:
            return made()

        def described() -> dict[str, Any]:
            folder = made()
            return {**vars(folder), "path": str(folder.path)}

        found = self.team.agreed(described)
        return StageFolder(**{**found, "path": Path(found["path"])})

    # --- PyTorch networks ------------------------------------------------------------------------------------

    def networks(self) -> list[Deployable]:
        """Run the stages that change the network; returns the exported dense and final network."""
        stages = [stage for stage in self.recipe.stages if not isinstance(stage, FileStage)]
        dense, network = self.carried_out(stages)
        changed = not all(self._trains(stage, first=stage is stages[0]) for stage in stages)
        return self._exported({"float dense": dense, self._final_name(): network} if changed else {"float": network})

    def carried_out(self, stages: Sequence[Stage]) -> tuple[Network, Network]:
        """The network before the first of `stages` that compresses it, and the one after all of them."""
        from .networks import load_source
        from .teachersource import load_teacher, load_teachers

        recipe = self.recipe
        network = dense = whole = load_source(recipe.model, self.data, recipe.seed)
        self.say(inputs_line(recipe.model, network.preprocess))
        teacher = load_teacher(recipe.teacher, self.data, recipe.seed) if recipe.teacher else None
        teachers = load_teachers(recipe.teachers, self.data, recipe.seed)
        if recipe.teacher is not None and teacher is not None:
            self.say(f"teacher {recipe.teacher.title}, {inputs_line(recipe.teacher, teacher.preprocess)}")
        for section, one in zip(recipe.teachers, teachers, strict=True):
            self.say(f"teacher {one.name}, {inputs_line(section, one.preprocess)}")
        changed = False
        for stage in expanded(stages):
            changed = changed or not self._trains(stage, first=stage is stages[0])
            if isinstance(stage, PruneStep) and stage.step == 1:
                whole = network
            network = self._network_stage(stage, network, teacher or dense, whole, teachers)
            if not changed:
                dense = network
        return dense, network

    def _trains(self, stage: Stage, *, first: bool) -> bool:
        """Whether a stage makes the dense network: `train`, and what a network without weights first learns from a
        teacher or from itself. Random weights are nothing to compare with, and some networks' outputs are constant
        under them."""
        begins = first and self.recipe.model.weights is None
        taught = (stage.do == "distill" and self.recipe.teacher is not None) or stage.do == "distill-several"
        return stage.do == "train" or (begins and (taught or stage.do == "self-distill"))

    def _final_name(self) -> str:
        kinds = {stage.do for stage in self.recipe.stages}
        if "prune-channels" in kinds:
            return "float pruned"
        if kinds & {"sparsify", "sparsify-gradually"}:
            return "float sparse"
        return (
            "float simplified"
            if kinds & {"replace-activations", "drop-squeeze-excite", "open-shortcuts"}
            else "float distilled"
        )

    def _network_stage(
        self, stage: Any, network: Network, teacher: Network, whole: Network, teachers: tuple[Teacher, ...]
    ) -> Network:
        from .networks import restore, store
        from .stages import STAGES
        from .stages.context import Context

        settings = {
            "stage": stage.model_dump(mode="json"),
            "input": network.origin,
            "mean_std": _pair(network.preprocess),
        }
        if stage.do == "distill":
            settings["teacher"] = [teacher.origin, _pair(teacher.preprocess)]
        if stage.do == "distill-several":
            settings["teachers"] = [[one.name, dict(one.settings())] for one in teachers]
        deployment = deployment_of(self.recipe)
        if (
            isinstance(stage, PruneChannels) and stage.measures
        ):  # what was chosen by timing is the choice of this machine
            settings |= {"deployment": asdict(deployment), "environment": environment().fingerprint}
        promised = sparsity_promises(stage, self.recipe.bench.runtimes)

        def work(folder: StageFolder) -> dict[str, Any]:
            for line in promised:
                self.say(f"  {line}")
            context = Context(
                self.data,
                self.recipe.seed,
                teacher,
                whole,
                folder.path,
                self.progress,
                deployment,
                lambda line: self.say(f"  {line}"),
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

        folder = self._stage(stage.do, settings, work, trains=isinstance(stage, TrainingKeys))
        return restore(network, folder.path, folder.key)

    def _exported(self, networks: dict[str, Network]) -> list[Deployable]:
        section = self.recipe.export
        made_by = [stage for stage in self.recipe.stages if not isinstance(stage, FileStage)]
        stages = [stage.model_dump(mode="json", exclude_defaults=True) for stage in made_by]
        # Without its folder: the same recipe in another place gives the same bytes.
        provenance = {"model": Path(self.recipe.model.source).name, "seed": self.recipe.seed, "stages": stages}
        settings = {
            "export": section.model_dump(mode="json"),
            "provenance": provenance,
            "networks": {name: [network.origin, _pair(network.preprocess)] for name, network in networks.items()},
        }

        def work(folder: StageFolder) -> dict[str, Any]:
            return export_networks(networks, section, self.data, provenance, folder.path)

        folder = self._stage("export", settings, work)
        return [
            Deployable(name, folder.path / file_name(name), network.preprocess) for name, network in networks.items()
        ]

    # --- ONNX files ------------------------------------------------------------------------------------------

    def onnx_source(self) -> list[Deployable]:
        """The recipe's ONNX file as the float candidate, with its normalisation."""
        model = self.recipe.model
        path = Path(model.source)
        preprocess = onnx_preprocess(path, self.data, model.mean, model.std)
        self.say(inputs_line(model, preprocess))
        return [Deployable("float", path, preprocess)]

    def quantized(self, source: Deployable) -> list[Deployable]:
        stages = [stage for stage in self.recipe.stages if isinstance(stage, FileStage)]
        kinds = [f"{stage.format} weights" if isinstance(stage, StoreWeights) else "int8" for stage in stages]
        made = []
        for number, (stage, kind) in enumerate(zip(stages, kinds, strict=True)):
            name = source.name.replace("float", kind)
            if kinds.count(kind) > 1:
                name += f" {kinds[: number + 1].count(kind)}"
            if isinstance(stage, Qat):
                made.append(self._qat_stage(stage, source, name))
            elif isinstance(stage, StoreWeights):
                made.append(self._store_weights_stage(stage, source, name))
            else:
                made.append(self._quantize_stage(stage, source, name))
        return made

    def _store_weights_stage(self, stage: StoreWeights, source: Deployable, name: str) -> Deployable:
        settings = {"stage": stage.model_dump(mode="json"), "input": sha256_file(source.path)}

        def work(folder: StageFolder) -> dict[str, Any]:
            return store_weights_file(source.path, folder.path / file_name(name), stage)

        return _deployable(self._stage("store-weights", settings, work), source, name)

    def _quantize_stage(self, stage: Quantize, source: Deployable, name: str) -> Deployable:
        count = self.recipe.data.calibration
        settings = {
            "stage": stage.model_dump(mode="json"),
            "input": sha256_file(source.path),
            "file": file_name(name),  # another number of stages gives them other names
            "calibration": count,
            "mean_std": _pair(source.preprocess),
        }
        searches = stage.max_accuracy_drop is not None
        if searches:  # what was chosen by timing is the choice of this machine
            settings["environment"] = environment().fingerprint

        def work(folder: StageFolder) -> dict[str, Any]:
            seed, path = self.recipe.seed, folder.path / file_name(name)
            images, judged = self.data.calibration(count, seed), None
            if searches:
                images, judged = split_training(self.data, count, seed)
            return quantize_file(
                source.path,
                path,
                stage,
                images,
                source.preprocess,
                judged=judged,
                say=lambda line: self.say(f"  {line}"),
            )

        return _deployable(self._stage("quantize", settings, work), source, name)

    def _qat_stage(self, stage: Qat, source: Deployable, name: str) -> Deployable:
        count, seed = self.recipe.data.calibration, self.recipe.seed
        teacher = None
        if self.recipe.teacher is not None:
            from .teachersource import load_teacher

            teacher = load_teacher(self.recipe.teacher, self.data, seed)
        settings = {
            "stage": stage.model_dump(mode="json"),
            "input": sha256_file(source.path),
            "file": file_name(name),  # another number of stages gives them other names
            "calibration": count,
            "mean_std": _pair(source.preprocess),
            "teacher": None if teacher is None else [teacher.origin, _pair(teacher.preprocess)],
        }

        def work(folder: StageFolder) -> dict[str, Any]:
            return train_and_quantize_file(
                source.path,
                folder.path / file_name(name),
                stage,
                self.data,
                source.preprocess,
                calibration=count,
                seed=seed,
                teacher=teacher,
                state=folder.path / SCRATCH,
                progress=self.progress,
            )

        return _deployable(self._stage("qat", settings, work, trains=True), source, name)

    # --- measuring -------------------------------------------------------------------------------------------

    def benched(self, files: list[Deployable], on_round: Callable[[Progress], None] | None) -> dict[str, Any]:
        """The measurements, with when and where they were taken: a report made anew from them is the same report."""
        section = self.recipe.bench
        settings = {
            "bench": section.model_dump(mode="json"),
            "files": {file.name: [sha256_file(file.path), _pair(file.preprocess)] for file in files},
            "environment": environment().fingerprint,
            "classes": list(self.data.classes),
        }

        def work(folder: StageFolder) -> dict[str, Any]:
            candidates = measure(
                files,
                section,
                images=self.data.test,
                classes=self.data.classes,
                root=self.folder,
                seed=self.recipe.seed,
                say=lambda line: self.say(f"  {line}"),
                on_round=on_round,
            )
            measured = {
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "environment": environment().model_dump(mode="json"),
                "candidates": [candidate.model_dump(mode="json") for candidate in candidates],
            }
            write_atomic(folder.path / MEASURED, json.dumps(measured, indent=1) + "\n", "the measurements")
            return {"settings": section.model_dump(mode="json"), "summary": f"Measured {len(candidates)} files"}

        folder = self._stage("bench", settings, work)
        return json.loads((folder.path / MEASURED).read_text(encoding="utf-8"))


def _deployable(folder: StageFolder, source: Deployable, name: str) -> Deployable:
    nodes = tuple(NodeOutcome.model_validate(node) for node in folder.record()["nodes"])
    return Deployable(name, folder.path / file_name(name), source.preprocess, nodes)


def _pair(preprocess: Preprocess) -> list[list[float]]:
    return [list(preprocess.mean), list(preprocess.std)]
