"""Search the precision of an int8 file with what `bench` measures; the search itself knows nothing of measuring."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from . import errors
from .bench.accuracy import predict
from .bench.environment import environment
from .bench.latency import measure_latency
from .bench.paired import paired_interval
from .bench.profile import profile
from .compress.quantize.builder import Rounding
from .compress.quantize.calibration.ranges import Method
from .compress.quantize.passes.prepare import prepare
from .compress.quantize.quantize import CorrectBias, Equalize, scheme_of
from .compress.quantize.search.search import SCHEMES, search_precision
from .compress.quantize.search.searched import Probes, Searched
from .compress.quantize.search.sensitivity import read_keep_float, to_json
from .data import Dataset, Preprocess, Split, stratified_order
from .files import write_atomic
from .imagesequence import ImageSequence

JUDGED = 1000
"""Training images that calibration has not seen and files are judged on."""
LEAST_JUDGED = 30
Judge = Literal["labels", "float"]
LATENCY_SECONDS = 4.0
"""Budget of each latency measurement."""
PROFILED_RUNS = 20


def tune_file(
    model: Path,
    output: Path,
    calibration: Split,
    judged: Split,
    preprocess: Preprocess,
    *,
    state: Path,
    max_accuracy_drop: float,
    minutes: float = 10.0,
    judge: Judge = "labels",
    weight_size: float | None = None,
    target: str = "x86-vnni",
    method: Method = "mse",
    per_channel: bool = True,
    keep_float: Sequence[str] = (),
    equalize: Equalize = "auto",
    correct_bias: CorrectBias = "empirical",
    rounding: Rounding = "nearest",
    say: Callable[[str], None] = lambda _: None,
) -> Searched:
    """`search_precision` with accuracy counted on `judged` and latency measured against `model`, one thread each.

    `judge` by labels, or by the float file: the drop is then the share of images classified otherwise than in float.

    The scheme that the settings of `quantize` make is tried first, then the others. Beside `output` the record of the
    search is written as search.json and the ranking of its operators, where they were ranked, as sensitivity.json.
    Raises EdgeLatheError as `search_precision` does.
    """

    def measure(path: Path) -> float:
        files = {"float": model, "int8": path}
        return measure_latency(files, reference="float", seconds=LATENCY_SECONDS)["int8"].ratio

    if judge not in get_args(Judge):
        raise errors.inputs.unknown_choice("judge", judge, get_args(Judge))
    own = scheme_of(prepare(model), method, per_channel, equalize, correct_bias, rounding)
    result = search_precision(
        model,
        output,
        ImageSequence(calibration.x, preprocess),
        Probes(lambda path: predict(path, judged.x, preprocess), measure, paired_interval, node_times),
        labels=judged.y if judge == "labels" else None,
        state=state,
        max_accuracy_drop=max_accuracy_drop,
        minutes=minutes,
        target=target,
        keep_float=read_keep_float(keep_float),
        schemes=(own, *(scheme for scheme in SCHEMES if scheme != own)),
        weight_size=weight_size,
        pixels=(preprocess.mean, preprocess.std),
        machine=environment().fingerprint,
        say=say,
    )
    record = json.dumps(result.as_dict(), indent=1) + "\n"
    write_atomic(output.with_suffix(".search.json"), record, "the record of the search")
    if result.sensitivities:
        ranking = to_json(result.sensitivities, keep_float=result.best.keep_float)
        write_atomic(output.with_suffix(".sensitivity.json"), ranking, "the ranking")
    return result


def node_times(path: Path) -> Mapping[str, float]:
    """Microseconds of each operator of the file under ONNX Runtime's profiler, by name."""
    times: dict[str, float] = defaultdict(float)
    for node in profile({"file": path}, runs=PROFILED_RUNS)["file"].nodes:
        times[node.name] += node.microseconds
    return times


def split_training(data: Dataset, calibration: int, seed: int, judged: int = JUDGED) -> tuple[Split, Split]:
    """The images that `data.calibration` gives, and up to `judged` others of the training images.

    Raises EdgeLatheError where there are no training images, or too few others.
    """
    first = data.calibration(calibration, seed)
    train = data.train
    assert train is not None
    others = train[stratified_order(train.y, seed)[calibration : calibration + judged]]
    if len(others) < LEAST_JUDGED:
        raise errors.quantize.too_few_to_judge(data.name, len(train), calibration, LEAST_JUDGED)
    return first, others
