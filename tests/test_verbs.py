from __future__ import annotations

import ast
import inspect
import json
import shutil
from pathlib import Path

import edgelathe
import numpy as np
import pytest
from edgelathe import verbs
from edgelathe.bench.records import Report
from edgelathe.data import Dataset, load_data
from edgelathe.errors import EdgeLatheError
from edgelathe.export.metadata import read_properties, write_metadata
from edgelathe.files import sha256_file
from edgelathe.recipe import load_recipe


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data("digits", limit_train=200, limit_test=60)


@pytest.fixture
def model(toy_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(toy_run / "4-export" / "float-dense.onnx", tmp_path / "net.onnx"))


def test_the_package_offers_every_verb_and_loads_it_late() -> None:
    offered = {name: getattr(edgelathe, name) for name in edgelathe.__all__}
    for verb in (
        "run",
        "plan",
        "quantize",
        "qat",
        "store_weights",
        "pack",
        "unpack",
        "tune",
        "benchmark",
        "explain",
        "inspect",
        "gate",
        "report",
        "doctor",
    ):
        assert offered[verb] is getattr(verbs, verb)
    assert set(edgelathe.__all__) <= set(dir(edgelathe))
    with pytest.raises(AttributeError, match="module 'edgelathe' has no attribute 'bogus'"):
        edgelathe.bogus  # noqa: B018


def test_what_the_package_offers_is_declared_for_type_checkers() -> None:
    tree = ast.parse(inspect.getsource(edgelathe))
    declared = {
        alias.name
        for block in tree.body
        if isinstance(block, ast.If)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert declared == set(edgelathe.__all__) == set(edgelathe._HOMES)


def test_quantize_writes_beside_the_model_and_feeds_it_as_its_metadata_says(model: Path, data: Dataset) -> None:
    done: list[tuple[int, int]] = []
    result, path = verbs.quantize(model, data, images=40, on_progress=lambda *now: done.append(now))
    assert path == model.with_name("net.int8.onnx")
    assert (result.images, done[-1][0]) == (40, done[-1][1])
    assert read_properties(path)["edgelathe.parent_sha256"] == sha256_file(model)
    first = path.read_bytes()
    assert verbs.quantize(model, data, images=40, output=path)[1] == path
    assert path.read_bytes() == first, "the same input gives the same bytes"
    write_metadata(model, {"edgelathe.std": "[0.01]"})
    other = verbs.quantize(model, data, images=40, output=model.with_name("other.onnx"))[0]
    assert other.plan != result.plan, "ranges follow the normalisation that the file asks for"
    same = verbs.quantize(model, data, images=40, std=data.preprocess.std, output=model.with_name("same.onnx"))[0]
    assert same.plan == result.plan, "what is given wins over the file"


def test_qat_trains_and_writes_beside_the_model(model: Path, data: Dataset) -> None:
    settings = {"epochs": 1, "batch": 50, "images": 40, "threads": 1, "progress": False}
    result, path = verbs.qat(model, data, ranges="ema", **settings)
    assert path == model.with_name("net.int8.onnx")
    properties = read_properties(path)
    assert properties["edgelathe.quantized"] == "x86-vnni mse per-channel, trained with ema ranges"
    assert json.loads(properties["edgelathe.mean"]) == list(data.preprocess.mean)
    assert len(result.training.epochs) == 1
    with pytest.raises(EdgeLatheError, match="it is the float model itself"):
        verbs.qat(model, data, output=model, **settings)


def test_quantize_never_writes_over_the_float_model(model: Path, data: Dataset) -> None:
    for name in ("net.onnx", "./sub/../net.onnx"):
        with pytest.raises(EdgeLatheError) as caught:
            verbs.quantize(model, data, output=model.parent / name)
        assert str(caught.value) == (
            f"Cannot write the int8 model over {model}: it is the float model itself; give another file with --output."
        )


def test_benchmark_measures_against_the_first_file(model: Path, data: Dataset) -> None:
    int8 = verbs.quantize(model, data, images=40)[1]
    report = verbs.benchmark([model, int8], data=data, seconds=0.1)
    assert (report.name, report.reference, report.gate, report.stages) == ("bench", "net.onnx", None, ())
    assert [candidate.name for candidate in report.candidates] == ["net.onnx", "net.int8.onnx"]
    assert report.data == {"name": "digits", "test": 60, "fingerprint": data.fingerprint}
    for candidate in report.candidates:
        assert candidate.accuracy is not None
        assert candidate.accuracy.total == 60
        assert len(candidate.latency) == len(candidate.memory) == 1
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert verbs.gate(report.model_copy(update={"recipe": {"gate": {"size": "<= 0.5 x"}}})).exit_code == 0


def test_benchmark_without_data_leaves_accuracy_out(model: Path) -> None:
    (candidate,) = verbs.benchmark([str(model)], seconds=0.1, memory=False).candidates
    assert (candidate.accuracy, candidate.memory) == (None, ())


def test_files_of_one_name_are_told_apart(model: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Path(shutil.copy(model, tmp_path / "other" / "net.onnx"))
    assert verbs.measuring._names([model, other]) == [str(model), str(other)]
    assert verbs.measuring._names([model, model, other]) == [f"{model} (1)", f"{model} (2)", str(other)]


def test_benchmark_needs_a_file() -> None:
    with pytest.raises(EdgeLatheError) as caught:
        verbs.benchmark([])
    assert str(caught.value) == "Cannot measure latency: no model was given; name at least one ONNX file."


def test_inspect_reads_the_file(model: Path) -> None:
    facts = verbs.inspect(str(model))
    assert (facts.file_bytes, facts.sha256) == (model.stat().st_size, sha256_file(model))
    assert facts.inputs == {"input": ("batch", 1, 8, 8)}


def test_gate_refuses_a_model_that_is_not_the_one_measured(toy_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(toy_run, run)
    last = verbs.report(run).candidates[-1]
    (run / last.file).write_bytes(b"another model")
    with pytest.raises(EdgeLatheError, match=f'"{last.name}": .*has changed since it was measured'):
        verbs.gate(run)
    (run / last.file).unlink()
    with pytest.raises(EdgeLatheError, match="is missing"):
        verbs.gate(run)


def test_gate_judges_by_the_recipe_or_by_a_file(toy_run: Path, tmp_path: Path) -> None:
    verdict = verbs.gate(toy_run)
    assert [(check.metric, check.verdict) for check in verdict.checks] == [("size", "pass"), ("macs", "pass")]
    assert (verdict.candidate, verdict.reference, verdict.exit_code) == ("int8 pruned", "float dense", 0)
    (tmp_path / "budget.toml").write_text('[gate]\nsize = "<= 0.1 x"\n')
    strict = verbs.gate(toy_run / "report.json", budget=tmp_path / "budget.toml", candidate="float pruned")
    assert (strict.candidate, strict.exit_code) == ("float pruned", 1)
    against = verbs.gate(toy_run, baseline=toy_run)
    assert (against.baseline, against.reference, against.exit_code) == ("toy", "int8 pruned", 1)


def test_report_draws_its_pages_anew_from_the_same_json(toy_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(toy_run, tmp_path / "copy")
    before = {name: (folder / name).read_bytes() for name in ("report.json", "report.md", "report.html")}
    (folder / "report.md").unlink()
    (folder / "report.html").write_text("stale")
    assert verbs.report(folder).name == "toy"
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_report_of_another_file_leaves_its_neighbours_alone(toy_run: Path, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("another")
    shutil.copy(toy_run / "report.json", tmp_path / "baseline.json")
    verbs.report(tmp_path / "baseline.json")
    assert (tmp_path / "report.json").read_text() == "another"


def test_plan_and_run_take_a_recipe_as_well(toy_recipe: str, tmp_path: Path, toy_run: Path) -> None:
    (tmp_path / "toy.toml").write_text(toy_recipe)
    recipe = load_recipe(
        tmp_path / "toy.toml", [f"model.source={toy_run / '4-export' / 'float-dense.onnx'}", "stages=[]"]
    )
    assert [step.what for step in verbs.plan(recipe).steps] == ["load float-dense.onnx"]
    lines: list[str] = []
    report, folder = verbs.run(recipe, runs=tmp_path / "runs", say=lines.append)
    assert folder == tmp_path / "runs" / "toy"
    assert [candidate.name for candidate in report.candidates] == ["float"]
    assert lines[0].startswith("inputs: ")
    assert lines[1] == "bench"
    assert json.loads((folder / "report.json").read_text())["candidates"][0]["file"] == "float-dense.onnx"


def test_overrides_belong_to_a_file() -> None:
    recipe = load_recipe("digits")
    for verb in (verbs.run, verbs.plan):
        with pytest.raises(TypeError, match="overrides"):
            verb(recipe, overrides=["seed=1"])  # type: ignore[operator]


def test_doctor_knows_the_machine() -> None:
    found = verbs.doctor()
    assert found.environment.cores >= 1
    assert "onnxruntime" in [runtime.name for runtime in found.runtimes]
    assert np.isfinite(found.environment.memory_bytes)
