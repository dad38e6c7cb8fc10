"""ONNX files and the machine looked at and measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from .. import errors
from ..version import __version__
from .saying import Say, silent

if TYPE_CHECKING:
    from ..bench.doctor import Diagnosis
    from ..bench.latency import Progress
    from ..bench.records import GraphFacts, Report
    from ..data import Dataset
    from ..explanation import Explanation


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
    say: Say = silent,
    on_round: Callable[[Progress], None] | None = None,
) -> Report:
    """Measure ONNX files against the first of them: latency, memory, size, and with `data` accuracy.

    Raises EdgeLatheError for bad input and for runtimes that are not installed.
    """
    from ..bench.environment import environment
    from ..bench.records import Report
    from ..candidates import Deployable, measure
    from ..data import Preprocess
    from ..onnxinputs import onnx_preprocess
    from ..recipe import bench_section

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
        files,
        section,
        images=None if data is None else data.test,
        classes=() if data is None else data.classes,
        root=Path(),
        seed=seed,
        say=say,
        on_round=on_round,
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
    from ..explanation import explain as explain_files

    return explain_files(Path(float_model), Path(int8_model), runs=runs, seconds=seconds, seed=seed)


def inspect(model: Path | str) -> GraphFacts:
    """What can be read off an ONNX file without running it. Raises EdgeLatheError for bad files."""
    from ..bench.graph import inspect_graph

    return inspect_graph(Path(model))


def doctor() -> Diagnosis:
    """What this machine can do for int8 inference and for measuring it."""
    from ..bench.doctor import diagnose

    return diagnose()
