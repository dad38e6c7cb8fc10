"""What the command line and `import edgelathe` offer: one function per verb, each callable without the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__, errors

if TYPE_CHECKING:
    from .bench.doctor import Diagnosis
    from .bench.latency import Progress
    from .bench.records import GateVerdict, GraphFacts, Report
    from .compress.quantize.learning.qat import QatResult
    from .compress.quantize.quantize import Quantized
    from .compress.quantize.search.searched import Searched
    from .compress.quantize.storage.store_weights import StoredWeights
    from .data import Dataset
    from .dryrun import Plan
    from .explanation import Explanation
    from .recipe import Recipe

Say = Callable[[str], None]


def _silent(_: str) -> None:
    pass


def run(
    recipe: Recipe | Path | str | None = None,
    *,
    overrides: Sequence[str] = (),
    runs: Path | str = "runs",
    say: Say = _silent,
    progress: bool = False,
    on_round: Callable[[Progress], None] | None = None,
) -> tuple[Report, Path]:
    """Carry out a recipe: a file, the name of a shipped one, or a `Recipe`; default: digits.

    Returns the report and the run's folder. Raises EdgeLatheError for bad input.
    """
    from .pipeline import run as run_recipe

    return run_recipe(_recipe(recipe, overrides), runs=runs, say=say, progress=progress, on_round=on_round)


def plan(recipe: Recipe | Path | str | None = None, *, overrides: Sequence[str] = ()) -> Plan:
    """What `run` would do, with predicted parameters, MACs and file sizes; trains and keeps nothing."""
    from .dryrun import plan as plan_recipe

    return plan_recipe(_recipe(recipe, overrides))


def _recipe(recipe: Recipe | Path | str | None, overrides: Sequence[str]) -> Recipe:
    from .recipe import Recipe, load_recipe

    if not isinstance(recipe, Recipe):
        return load_recipe(recipe, overrides)
    if overrides:
        raise TypeError("overrides change the keys of a recipe file; a Recipe is changed with model_copy(update=...)")
    return recipe


def quantize(
    model: Path | str,
    data: Dataset,
    *,
    output: Path | str | None = None,
    images: int = 512,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    target: str = "x86-vnni",
    method: str = "mse",
    per_channel: bool = True,
    keep_float: Sequence[str] = (),
    equalize: str | None = None,
    correct_bias: str = "empirical",
    rounding: str = "nearest",
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Quantized, Path]:
    """Write an int8 version of an ONNX file, calibrated on `images` training images of `data`.

    `mean` and `std` default to what the file's metadata says, then to the data set's. The file goes to `output`,
    by default beside the model as <model>.int8.onnx, and remembers the normalisation. Returns what was decided and
    audited, and the path.
    Raises EdgeLatheError for bad input.
    """
    from .compress.quantize.quantize import quantize as quantize_file
    from .compress.quantize.search.sensitivity import read_keep_float
    from .export.metadata import ModelMetadata, write_metadata
    from .imagesequence import ImageSequence
    from .onnxinputs import onnx_preprocess

    source = Path(model)
    target_file = Path(output) if output is not None else source.with_suffix(".int8.onnx")
    if target_file.resolve() == source.resolve():
        raise errors.runs.would_overwrite(source)
    preprocess = onnx_preprocess(source, data, mean, std)
    sequence = ImageSequence(data.calibration(images, seed).x, preprocess)
    result = quantize_file(
        source,
        target_file,
        sequence,
        target=target,
        method=method,  # type: ignore[arg-type]
        per_channel=per_channel,
        keep_float=read_keep_float(keep_float),
        equalize=equalize,  # type: ignore[arg-type]
        correct_bias=correct_bias,  # type: ignore[arg-type]
        rounding=rounding,  # type: ignore[arg-type]
        pixels=(preprocess.mean, preprocess.std),
        on_progress=on_progress,
    )
    write_metadata(target_file, ModelMetadata(mean=preprocess.mean, std=preprocess.std).properties())
    return result, target_file


def qat(
    model: Path | str,
    data: Dataset,
    *,
    epochs: int,
    output: Path | str | None = None,
    images: int = 512,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    **settings: Any,
) -> tuple[QatResult, Path]:
    """Write an int8 version of an ONNX file, trained on `data` through the roundings that it deploys with.

    `settings` are the keywords of `edgelathe.compress.quantize.learning.qat.qat`; the others are those of `quantize`.
    Returns what was decided, audited and trained, and the path. Raises EdgeLatheError for bad input.
    """
    from .compress.quantize.learning.qat import qat as train_file
    from .compress.quantize.search.sensitivity import read_keep_float
    from .export.metadata import ModelMetadata, write_metadata
    from .imagesequence import ImageSequence
    from .onnxinputs import onnx_preprocess

    source = Path(model)
    target_file = Path(output) if output is not None else source.with_suffix(".int8.onnx")
    if target_file.resolve() == source.resolve():
        raise errors.runs.would_overwrite(source)
    preprocess = onnx_preprocess(source, data, mean, std)
    result = train_file(
        source,
        target_file,
        ImageSequence(data.calibration(images, seed).x, preprocess),
        data,
        preprocess=preprocess,
        pixels=(preprocess.mean, preprocess.std),
        epochs=epochs,
        seed=seed,
        **settings | {"keep_float": read_keep_float(settings.get("keep_float", ()))},
    )
    write_metadata(target_file, ModelMetadata(mean=preprocess.mean, std=preprocess.std).properties())
    return result, target_file


def store_weights(
    model: Path | str, *, output: Path | str | None = None, format: str = "int8", keep_float: Sequence[str] = ()
) -> tuple[StoredWeights, Path]:
    """Write an ONNX file with its weights stored as int8, int4 or float16: smaller, and computed in float32 as before.

    The file goes to `output`, by default beside the model as <model>.<format>-weights.onnx, and keeps the model's
    metadata. Needs no images. Returns what was stored how, and the path.
    Raises EdgeLatheError for bad input.
    """
    from .compress.quantize.search.sensitivity import read_keep_float
    from .compress.quantize.storage.store_weights import store_weights as store_file

    source = Path(model)
    target_file = Path(output) if output is not None else source.with_suffix(f".{format}-weights.onnx")
    if target_file.resolve() == source.resolve():
        raise errors.runs.would_overwrite(source)
    result = store_file(
        source,
        target_file,
        format=format,  # type: ignore[arg-type]
        keep_float=read_keep_float(keep_float),
    )
    return result, target_file


def tune(
    model: Path | str,
    data: Dataset,
    *,
    output: Path | str | None = None,
    max_accuracy_drop: float = 0.3,
    minutes: float = 10.0,
    weight_size: float | None = None,
    images: int = 512,
    judged: int = 1000,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    target: str = "x86-vnni",
    method: str = "mse",
    per_channel: bool = True,
    keep_float: Sequence[str] = (),
    seed: int = 0,
    say: Say = _silent,
) -> tuple[Searched, Path]:
    """Search for the fastest int8 version of an ONNX file that loses at most `max_accuracy_drop` points.

    Ranges are calibrated on `images` training images of `data`, files are judged on `judged` others, and latency is
    measured against the float file. The best so far is always at `output` (default <model>.int8.onnx); the state
    beside it lets the same call continue after a kill, `minutes` counting all of them. Returns what was tried and
    chosen, and the path; where no file held the drop, `held` is False and the most accurate one was written.
    Raises EdgeLatheError for bad input.
    """
    from .export.metadata import ModelMetadata, write_metadata
    from .onnxinputs import onnx_preprocess
    from .tuning import split_training, tune_file

    source = Path(model)
    target_file = Path(output) if output is not None else source.with_suffix(".int8.onnx")
    if target_file.resolve() == source.resolve():
        raise errors.runs.would_overwrite(source)
    preprocess = onnx_preprocess(source, data, mean, std)
    calibration, others = split_training(data, images, seed, judged)
    result = tune_file(
        source,
        target_file,
        calibration,
        others,
        preprocess,
        state=target_file.with_suffix(".search"),
        max_accuracy_drop=max_accuracy_drop,
        minutes=minutes,
        weight_size=weight_size,
        target=target,
        method=method,  # type: ignore[arg-type]
        per_channel=per_channel,
        keep_float=keep_float,
        say=say,
    )
    write_metadata(target_file, ModelMetadata(mean=preprocess.mean, std=preprocess.std).properties())
    return result, target_file


def benchmark(
    models: Sequence[Path | str],
    *,
    data: Dataset | None = None,
    runtimes: Sequence[str] = ("onnxruntime",),
    threads: Sequence[int] = (1,),
    batch: int = 1,
    seconds: float = 20.0,
    memory: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    say: Say = _silent,
    on_round: Callable[[Progress], None] | None = None,
) -> Report:
    """Measure ONNX files against the first of them: latency, memory, size, and with `data` accuracy.

    Raises EdgeLatheError for bad input and for runtimes that are not installed.
    """
    from .bench.environment import environment
    from .bench.records import Report
    from .candidates import Deployable, measure
    from .data import Preprocess
    from .onnxinputs import onnx_preprocess
    from .recipe import bench_section

    paths = [Path(model) for model in models]
    if not paths:
        raise errors.bench.nothing_to_measure()
    names = _names(paths)
    section = bench_section(runtimes=runtimes, threads=threads, batch=batch, seconds=seconds, memory=memory)
    unseen = Preprocess((0.0,), (1.0,))
    files = [
        Deployable(name, path, unseen if data is None else onnx_preprocess(path, data, mean, std))
        for name, path in zip(names, paths, strict=True)
    ]
    candidates = measure(
        files, section, images=None if data is None else data.test, root=Path(), seed=seed, say=say, on_round=on_round
    )
    return Report(
        name="bench",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tool_version=__version__,
        data={} if data is None else {"name": data.name, "test": len(data.test), "fingerprint": data.fingerprint},
        environment=environment(),
        recipe={"bench": section.model_dump(mode="json")},
        stages=(),
        candidates=candidates,
        reference=names[0],
    )


def _names(paths: Sequence[Path]) -> list[str]:
    """File names where they differ, else whole paths."""
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    whole = [str(path) for path in paths]
    return [f"{name} ({number})" if whole.count(name) > 1 else name for number, name in enumerate(whole, start=1)]


def explain(
    float_model: Path | str, int8_model: Path | str, *, runs: int = 40, seconds: float = 5.0, seed: int = 0
) -> Explanation:
    """Why the int8 file is as fast as it is: latency against the float file, time by operator, what stayed float.

    Measures on one thread for `seconds`, then profiles `runs` runs of each file. Raises EdgeLatheError for bad files.
    """
    from .explanation import explain as explain_files

    return explain_files(Path(float_model), Path(int8_model), runs=runs, seconds=seconds, seed=seed)


def inspect(model: Path | str) -> GraphFacts:
    """What can be read off an ONNX file without running it. Raises EdgeLatheError for bad files."""
    from .bench.graph import inspect_graph

    return inspect_graph(Path(model))


def gate(
    report: Path | str | Report,
    *,
    budget: Path | str | None = None,
    baseline: Path | str | None = None,
    candidate: str | None = None,
) -> GateVerdict:
    """Judge a run's report by the budgets in `budget` (default: those of its recipe).

    Given a run's folder, the judged model must still be there with the bytes that were measured.
    Raises EdgeLatheError where nothing can be judged: missing or changed files, no budgets, unknown metrics.
    """
    from .bench.budgets import parse_budgets, read_budgets
    from .bench.gate import judge
    from .bench.records import Report
    from .bench.report import verify_file

    judged = report if isinstance(report, Report) else _report(Path(report))
    if not isinstance(report, Report) and Path(report).is_dir():
        verify_file(judged, Path(report), candidate)
    budgets = read_budgets(Path(budget)) if budget is not None else parse_budgets(_gate_of(judged), "its recipe")
    return judge(judged, budgets, candidate=candidate, baseline=None if baseline is None else _report(Path(baseline)))


def report(run: Path | str) -> Report:
    """Read a report, and write the Markdown and HTML pages of a run's folder or report.json anew.

    Raises EdgeLatheError for bad files.
    """
    from .bench.report import JSON_NAME, write_report

    path = Path(run)
    found = _report(path)
    if path.is_dir() or path.name == JSON_NAME:  # beside a file of another name the pages may be another run's
        write_report(found, path if path.is_dir() else path.parent)
    return found


def doctor() -> Diagnosis:
    """What this machine can do for int8 inference and for measuring it."""
    from .bench.doctor import diagnose

    return diagnose()


def _report(path: Path) -> Report:
    from .bench.report import read_report

    return read_report(path / "report.json" if path.is_dir() else path)


def _gate_of(report: Report) -> dict[str, object]:
    gate = report.recipe.get("gate", {})
    return gate if isinstance(gate, dict) else {}
