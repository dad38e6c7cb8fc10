"""ONNX files made from ONNX files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import errors
from .saying import Say, silent

if TYPE_CHECKING:
    from ..compress.quantize.learning.qat import QatResult
    from ..compress.quantize.quantize import Quantized
    from ..compress.quantize.search.searched import Searched
    from ..compress.quantize.storage.store_weights import StoredWeights
    from ..data import Dataset


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
    equalize: str = "auto",
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
    from ..compress.quantize.quantize import quantize as quantize_file
    from ..compress.quantize.search.sensitivity import read_keep_float
    from ..export.metadata import ModelMetadata, write_metadata
    from ..imagesequence import ImageSequence
    from ..onnxinputs import onnx_preprocess

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
    from ..compress.quantize.learning.qat import qat as train_file
    from ..compress.quantize.search.sensitivity import read_keep_float
    from ..export.metadata import ModelMetadata, write_metadata
    from ..imagesequence import ImageSequence
    from ..onnxinputs import onnx_preprocess

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
    from ..compress.quantize.search.sensitivity import read_keep_float
    from ..compress.quantize.storage.store_weights import store_weights as store_file

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
    judge: str = "labels",
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
    say: Say = silent,
) -> tuple[Searched, Path]:
    """Search for the fastest int8 version of an ONNX file that loses at most `max_accuracy_drop` points.

    The drop is counted in right answers lost, or with judge = "float" in answers that are not the float file's.
    Ranges are calibrated on `images` training images of `data`, files are judged on `judged` others, and latency is
    measured against the float file. The best so far is always at `output` (default <model>.int8.onnx); the state
    beside it lets the same call continue after a kill, `minutes` counting all of them. Returns what was tried and
    chosen, and the path; where no file held the drop, `held` is False and the most accurate one was written.
    Raises EdgeLatheError for bad input.
    """
    from ..export.metadata import ModelMetadata, write_metadata
    from ..onnxinputs import onnx_preprocess
    from ..tuning import split_training, tune_file

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
        judge=judge,  # type: ignore[arg-type]
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
