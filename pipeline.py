"""Run a recipe: stages in order, one folder per stage, resumable at any moment, the same bytes every time."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__, errors
from .bench.budgets import parse_budgets
from .bench.environment import environment
from .bench.gate import judge
from .bench.latency import Progress
from .bench.records import Candidate, NodeOutcome, Report, StageRecord
from .bench.report import write_report
from .candidates import Deployable, measure
from .compress.quantize.quantize import Quantized, quantize
from .data import Dataset, Preprocess, load_data
from .export.metadata import describe_model
from .files import sha256_file, write_atomic
from .imagesequence import ImageSequence
from .recipe import ModelSection, Quantize, Recipe, stage_keys
from .runfolder import StageFolder, find_stage, finish_stage, locked, stage_key

if TYPE_CHECKING:
    from .networks import Network

PARITY_BATCHES = (1, 2, 7)
PARITY_IMAGES = 14


def run(
    recipe: Recipe,
    *,
    runs: Path | str = "runs",
    say: Callable[[str], None] = lambda _: None,
    progress: bool = False,
    on_round: Callable[[Progress], None] | None = None,
) -> tuple[Report, Path]:
    """Carry out `recipe` in `runs`/<name>, continuing whatever is there; returns the report and the folder.

    `say` is told what happens, a line at a time; `progress` shows bars in the terminal; `on_round` is called
    after each round of latency measurement. Raises EdgeLatheError for all that is wrong with the recipe, its
    data and its models; what was finished before stays and is used again by the next run.
    """
    budgets = parse_budgets(recipe.gate) if recipe.gate else ()
    data = load_recipe_data(recipe)
    folder = Path(runs) / recipe.name
    with locked(folder):
        steps = _Steps(recipe, data, folder, say, progress)
        floats = steps.onnx_source() if recipe.model.is_onnx else steps.networks()
        files = [*floats, *steps.quantized(floats[-1])]
        candidates = steps.benched(files, on_round)
        report = Report(
            name=recipe.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            tool_version=__version__,
            data=_data_facts(data),
            environment=environment(),
            recipe=recipe.model_dump(mode="json"),
            stages=tuple(steps.records),
            candidates=candidates,
            reference=candidates[0].name,
        )
        if budgets:
            report = report.model_copy(update={"gate": judge(report, budgets)})
        write_report(report, folder)
    return report, folder


def load_recipe_data(recipe: Recipe) -> Dataset:
    keys = recipe.data.model_dump(exclude={"source", "root", "calibration"})
    return load_data(recipe.data.source, recipe.data.root, seed=recipe.seed, **keys)


def _data_facts(data: Dataset) -> dict[str, object]:
    return {
        "name": data.name,
        "classes": len(data.classes),
        "train": 0 if data.train is None else len(data.train),
        "test": len(data.test),
        "shape": list(data.shape),
        "fingerprint": data.fingerprint,
    }


class _Steps:
    """The run in progress: numbers the stage folders and collects their records."""

    def __init__(
        self, recipe: Recipe, data: Dataset, folder: Path, say: Callable[[str], None], progress: bool
    ) -> None:
        self.recipe, self.data, self.folder, self.say, self.progress = recipe, data, folder, say, progress
        self.records: list[StageRecord] = []

    def _stage(
        self, do: str, settings: dict[str, Any], work: Callable[[StageFolder], dict[str, Any]]
    ) -> StageFolder:
        """Find the stage's finished folder or do its work; `work` returns what the record says beside its key."""
        key = stage_key({"do": do, "seed": self.recipe.seed, "data": self.data.fingerprint, **settings})
        folder = find_stage(self.folder, f"{len(self.records) + 1}-{do}", key)
        if folder.whole:
            self.say(f"{do}: already done")
        else:
            self.say(do)
            record = {"do": do, "key": key, "folder": folder.path.name.removesuffix(".partial"), "settings": settings}
            folder = finish_stage(folder, record | work(folder))
        record = folder.record()
        self.records.append(
            StageRecord.model_validate({name: record[name] for name in StageRecord.model_fields if name in record})
        )
        self.say(f"  {record['summary']}")
        return folder

    # --- PyTorch networks ------------------------------------------------------------------------------------

    def networks(self) -> list[Deployable]:
        """Run the stages that change the network; returns the exported dense and final network."""
        from .networks import load_source

        recipe = self.recipe
        network = dense = load_source(recipe.model, self.data, recipe.seed)
        teacher = load_source(recipe.teacher, self.data, recipe.seed) if recipe.teacher else None
        changed = False
        for stage in recipe.stages:
            if stage.do == "quantize":
                break
            changed = changed or stage.do != "train"
            network = self._network_stage(stage, network, teacher or dense)
            if not changed:
                dense = network
        return self._exported({"float dense": dense, self._final_name(): network} if changed else {"float": network})

    def _final_name(self) -> str:
        kinds = {stage.do for stage in self.recipe.stages}
        return "float pruned" if "prune-channels" in kinds else "float distilled"

    def _network_stage(self, stage: Any, network: Network, teacher: Network) -> Network:
        from .networks import restore, store
        from .stages import STAGES, Context

        settings = {"stage": stage.model_dump(mode="json"), "input": network.origin, "mean_std": _pair(network.preprocess)}
        if stage.do == "distill":
            settings["teacher"] = teacher.origin

        def work(folder: StageFolder) -> dict[str, Any]:
            context = Context(self.data, self.recipe.seed, teacher, folder.path, self.progress)
            outcome = STAGES[type(stage)](stage, network, context)
            store(network.becomes(outcome.model, folder.key), folder.path)
            return {
                "settings": stage.model_dump(mode="json"),
                "summary": outcome.summary,
                "facts": outcome.facts,
                "widths": outcome.widths,
                "epochs": outcome.epochs,
            }

        folder = self._stage(stage.do, settings, work)
        return restore(network, folder.path, folder.key)

    def _exported(self, networks: dict[str, Network]) -> list[Deployable]:
        section = self.recipe.export
        names = {name: f"{name.replace(' ', '-')}.onnx" for name in networks}
        settings = {
            "export": section.model_dump(mode="json"),
            "networks": {name: network.origin for name, network in networks.items()},
            "mean_std": {name: _pair(network.preprocess) for name, network in networks.items()},
        }

        def work(folder: StageFolder) -> dict[str, Any]:
            from .export.parity import check_parity, torch_reference
            from .export.to_onnx import export_onnx
            from .export.vectors import write_vectors

            facts: dict[str, Any] = {}
            for name, network in networks.items():
                path = folder.path / names[name]
                metadata = describe_model(
                    mean=network.preprocess.mean,
                    std=network.preprocess.std,
                    classes=self.data.classes,
                    recipe=self._provenance(),
                    data_fingerprint=self.data.fingerprint,
                )
                export_onnx(
                    network.model,
                    network.example(self.data, 1),
                    path,
                    opset=section.opset,
                    dynamic_batch=section.dynamic_batch,
                    metadata=metadata,
                )
                reference = torch_reference(network.model)
                inputs = network.preprocess(self.data.test.x[:PARITY_IMAGES])
                batches = tuple(size for size in PARITY_BATCHES if size <= len(inputs)) if section.dynamic_batch else (1,)
                parity = check_parity(reference, path, inputs, batches=batches, tolerance=section.tolerance)
                if not parity.passed:
                    raise errors.export_differs(names[name], parity.reason)
                write_vectors(path.with_suffix(".vectors.npz"), inputs[:4], reference(inputs[:4]))
                facts[name] = {"relative_difference": parity.relative, "batches": list(batches)}
            worst = max(fact["relative_difference"] for fact in facts.values())
            return {
                "settings": section.model_dump(mode="json"),
                "summary": f"ONNX equals PyTorch within {worst:.1e} of the outputs' spread, at batch {_listed(batches)}",
                "facts": facts,
            }

        folder = self._stage("export", settings, work)
        return [Deployable(name, folder.path / names[name], network.preprocess) for name, network in networks.items()]

    def _provenance(self) -> dict[str, Any]:
        """The part of the recipe that made the network."""
        stages = [stage.model_dump(mode="json") for stage in self.recipe.stages]
        return {"model": self.recipe.model.source, "seed": self.recipe.seed, "stages": stages}

    # --- ONNX files ------------------------------------------------------------------------------------------

    def onnx_source(self) -> list[Deployable]:
        """The recipe's ONNX file as the float candidate, with its normalisation."""
        path = Path(self.recipe.model.source)
        if not path.is_file():
            raise errors.missing_file("the ONNX model", path)
        return [Deployable("float", path, onnx_preprocess(self.recipe.model, self.data, path))]

    def quantized(self, source: Deployable) -> list[Deployable]:
        stages = [stage for stage in self.recipe.stages if isinstance(stage, Quantize)]
        base = source.name.replace("float", "int8")
        names = [base] if len(stages) == 1 else [f"{base} {number}" for number in range(1, len(stages) + 1)]
        return [self._quantize_stage(stage, source, name) for stage, name in zip(stages, names, strict=True)]

    def _quantize_stage(self, stage: Quantize, source: Deployable, name: str) -> Deployable:
        file = f"{name.replace(' ', '-')}.onnx"
        settings = {
            "stage": stage.model_dump(mode="json"),
            "input": sha256_file(source.path),
            "calibration": self.recipe.data.calibration,
            "mean_std": _pair(source.preprocess),
        }

        def work(folder: StageFolder) -> dict[str, Any]:
            images = self.data.calibration(self.recipe.data.calibration, self.recipe.seed)
            result = quantize(
                source.path,
                folder.path / file,
                ImageSequence(images.x, source.preprocess),
                **stage_keys(stage),
            )
            write_atomic(folder.path / "plan.json", result.plan.to_json() + "\n", "the quantization plan")
            return {
                "settings": stage.model_dump(mode="json"),
                "summary": result.summary(),
                "facts": {"images": result.images, "runtime": result.audit.runtime},
                "nodes": [node.model_dump() for node in _outcomes(result)],
            }

        folder = self._stage("quantize", settings, work)
        nodes = tuple(NodeOutcome.model_validate(node) for node in folder.record()["nodes"])
        return Deployable(name, folder.path / file, source.preprocess, nodes)

    # --- measuring -------------------------------------------------------------------------------------------

    def benched(
        self, files: list[Deployable], on_round: Callable[[Progress], None] | None
    ) -> tuple[Candidate, ...]:
        section = self.recipe.bench
        settings = {
            "bench": section.model_dump(mode="json"),
            "files": {file.name: [sha256_file(file.path), _pair(file.preprocess)] for file in files},
            "environment": environment().fingerprint,
        }

        def work(folder: StageFolder) -> dict[str, Any]:
            candidates = measure(
                files,
                section,
                images=self.data.test,
                root=self.folder,
                seed=self.recipe.seed,
                say=lambda line: self.say(f"  {line}"),
                on_round=on_round,
            )
            write_atomic(
                folder.path / "candidates.json",
                json.dumps([candidate.model_dump(mode="json") for candidate in candidates], indent=1) + "\n",
                "the measurements",
            )
            return {"settings": section.model_dump(mode="json"), "summary": f"Measured {len(candidates)} files"}

        folder = self._stage("bench", settings, work)
        stored = json.loads((folder.path / "candidates.json").read_text(encoding="utf-8"))
        return tuple(Candidate.model_validate(candidate) for candidate in stored)


def _outcomes(result: Quantized) -> list[NodeOutcome]:
    return [
        NodeOutcome(
            name=node.name,
            op=node.op,
            outcome="float" if node.kind == "float" else "int8",
            reason="" if node.kind == "int8" else node.reason,
        )
        for node in result.audit.nodes
    ]


def onnx_preprocess(section: ModelSection, data: Dataset, path: Path) -> Preprocess:
    """What the recipe says, else what the file's metadata says, else the data set's figures."""
    from .export.metadata import read_metadata

    known = read_metadata(path)
    return Preprocess(
        tuple(section.mean or known.mean or data.preprocess.mean),
        tuple(section.std or known.std or data.preprocess.std),
    )


def _pair(preprocess: Preprocess) -> list[list[float]]:
    return [list(preprocess.mean), list(preprocess.std)]


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(str(number) for number in numbers)
