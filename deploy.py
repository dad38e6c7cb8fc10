"""From a network to the files that could be shipped: export with its proof, and quantization with its audit.

Each function works in the folder it is given and returns what the stage's record says.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import errors
from .bench.encoded import stored_size
from .bench.records import NodeOutcome
from .compress.quantize.quantize import Quantized, quantize
from .compress.quantize.search.searched import Searched
from .compress.quantize.search.sensitivity import read_keep_float
from .compress.quantize.storage.store_weights import store_weights
from .compress.sparsify.support import sparse_support
from .data import Dataset, Preprocess, Split
from .export.metadata import describe_model, read_metadata
from .export.sparse import write_sparse
from .files import write_atomic
from .imagesequence import ImageSequence
from .recipe import ExportSection, ModelSection
from .recipe_stages import SEARCH_KEYS, Qat, Quantize, SparsityKeys, StoreWeights, stage_keys
from .runfolder import SCRATCH
from .tuning import tune_file

if TYPE_CHECKING:
    from .networks import Network

PARITY_BATCHES = (1, 2, 7)
PARITY_IMAGES = 14
VECTORS = 4


def file_name(candidate: str) -> str:
    return f"{candidate.replace(' ', '-')}.onnx"


def export_networks(
    networks: Mapping[str, Network], section: ExportSection, data: Dataset, provenance: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Write every network as ONNX, prove it against PyTorch and keep a few inputs and outputs beside it.

    Raises EdgeLatheError when a file computes something else.
    """
    from .compress.sparsify.masks import check_zeros
    from .export.parity import check_parity, torch_reference
    from .export.to_onnx import export_onnx
    from .export.vectors import write_vectors

    inputs_seen = data.test.x[:PARITY_IMAGES]
    batches = tuple(size for size in PARITY_BATCHES if size <= len(inputs_seen)) if section.dynamic_batch else (1,)
    facts: dict[str, Any] = {}
    for name, network in networks.items():
        check_zeros(network.masks, network.model, "at export")
        path = folder / file_name(name)
        metadata = describe_model(
            mean=network.preprocess.mean,
            std=network.preprocess.std,
            classes=data.classes,
            recipe=provenance,
            data_fingerprint=data.fingerprint,
        )
        export_onnx(
            network.deployed,
            network.example(data, 1),
            path,
            opset=section.opset,
            dynamic_batch=section.dynamic_batch,
            metadata=metadata,
        )
        inputs, differences, vectors = network.preprocess(inputs_seen), [], {}
        for number, output in enumerate(network.outputs):
            reference = torch_reference(network.deployed, output=number)
            parity = check_parity(reference, path, inputs, batches=batches, tolerance=section.tolerance, output=number)
            if not parity.passed:
                which = f"{path.name}, output {output}" if number else path.name
                raise errors.runs.export_differs(which, parity.reason)
            differences.append(parity.relative)
            vectors[output] = reference(inputs[:VECTORS])
        main, *exits = network.outputs
        others = {name: vectors[name] for name in exits}
        write_vectors(path.with_suffix(".vectors.npz"), inputs[:VECTORS], vectors[main], others)
        facts[name] = {"relative_difference": max(differences), "batches": list(batches)}
        if exits:
            facts[name]["outputs"] = dict(zip(network.outputs, differences, strict=True))
        if network.masks:
            facts[name]["sparse"] = sparse_facts(path)
    worst = max(fact["relative_difference"] for fact in facts.values())
    sizes = ", ".join(str(size) for size in batches)
    return {
        "settings": section.model_dump(mode="json"),
        "summary": f"ONNX equals PyTorch within {worst:.1e} of the outputs' spread, at batch {sizes}",
        "facts": facts,
    }


def sparsity_promises(stage: object, runtimes: Sequence[str]) -> list[str]:
    """What each runtime makes of the zeros of a sparsifying stage, a sentence each; nothing for other stages."""
    if not isinstance(stage, SparsityKeys):
        return []
    return [sparse_support(stage.pattern, runtime) for runtime in runtimes]


def sparse_facts(path: Path) -> dict[str, Any]:
    """Bytes of an ONNX file with zeros in it: as it is, as zip holds it, with weights as bitmap and values, and with
    sparse initializers where these are smaller; such a file is written beside it."""
    stored, sparse = stored_size(path), write_sparse(path, path.with_suffix(".sparse.onnx"))
    return {
        "parameters": stored.parameters,
        "zeros": stored.parameters - stored.nonzero,
        "file_bytes": sparse.bytes_before,
        "zip_bytes": len(zlib.compress(path.read_bytes())),
        "bitmap_bytes": stored.encoded_bytes,
        "sparse_initializers_bytes": sparse.bytes_after,
        "sparse_initializers": list(sparse.sparse),
    }


ZEROS_WORTH_TELLING = 0.01
"""Share of zero weights from which a float file counts as sparse: a few are zero in any network."""


def _zeros_kept(source: Path, output: Path) -> dict[str, Any]:
    """Shares of weights that are zero in a sparse float file and in the int8 file made of it; empty for a dense one."""
    before, after = stored_size(source), stored_size(output)
    shares = [1 - size.nonzero / max(size.parameters, 1) for size in (before, after)]
    if shares[0] < ZEROS_WORTH_TELLING:
        return {}
    zip_bytes = len(zlib.compress(output.read_bytes()))
    return {"zero_weights": {"float": shares[0], "int8": shares[1], "zip_bytes": zip_bytes}}


def quantize_file(
    source: Path,
    output: Path,
    stage: Quantize,
    images: Split,
    preprocess: Preprocess,
    *,
    judged: Split | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Quantize `source` to `output`; the plan is written beside it.

    A stage with max_accuracy_drop searches, judging files on `judged` images; it continues where it was.
    """
    keys = stage_keys(stage)
    search = {key: keys.pop(key) for key in SEARCH_KEYS}
    keys["keep_float"] = read_keep_float(stage.keep_float)
    result: Quantized | Searched
    if stage.max_accuracy_drop is None:
        pixels = (preprocess.mean, preprocess.std)
        result = quantize(source, output, ImageSequence(images.x, preprocess), pixels=pixels, **keys)
        facts: dict[str, Any] = {}
    else:
        assert judged is not None
        state = output.parent / SCRATCH
        result = tune_file(source, output, images, judged, preprocess, state=state, say=say, **keys, **search)
        facts = {key: value for key, value in result.as_dict().items() if key not in ("summary", "images")}
    write_atomic(output.with_name("plan.json"), result.plan.to_json() + "\n", "the quantization plan")
    return {
        "settings": stage.model_dump(mode="json"),
        "summary": result.summary(),
        "facts": {"images": result.images, "runtime": result.audit.runtime, **facts, **_zeros_kept(source, output)},
        "nodes": [node.model_dump() for node in _outcomes(result)],
    }


def store_weights_file(source: Path, output: Path, stage: StoreWeights) -> dict[str, Any]:
    """Write `source` with its weights in another format to `output`."""
    result = store_weights(source, output, **stage_keys(stage) | {"keep_float": read_keep_float(stage.keep_float)})
    nodes = [
        NodeOutcome(
            name=weight.node,
            op=weight.op,
            outcome="float",
            reason=weight.reason or f"only its weights are {weight.stored}; asked for",
        )
        for weight in result.weights
    ]
    return {
        "settings": stage.model_dump(mode="json"),
        "summary": result.summary(),
        "facts": {key: value for key, value in result.as_dict().items() if key not in ("summary", "weights")},
        "nodes": [node.model_dump() for node in nodes],
    }


def train_and_quantize_file(
    source: Path,
    output: Path,
    stage: Qat,
    data: Dataset,
    preprocess: Preprocess,
    *,
    calibration: int,
    seed: int,
    teacher: Network | None,
    state: Path,
    progress: bool,
) -> dict[str, Any]:
    """Quantization-aware training of `source` into `output`; the plan is written beside it."""
    from .compress.quantize.learning.qat import qat

    result = qat(
        source,
        output,
        ImageSequence(data.calibration(calibration, seed).x, preprocess),
        data,
        preprocess=preprocess,
        teacher=None if teacher is None else teacher.model,
        teacher_preprocess=None if teacher is None else teacher.preprocess,
        pixels=(preprocess.mean, preprocess.std),
        seed=seed,
        state=state,
        progress=progress,
        **stage_keys(stage) | {"keep_float": read_keep_float(stage.keep_float)},
    )
    write_atomic(output.with_name("plan.json"), result.quantized.plan.to_json() + "\n", "the quantization plan")
    facts = {
        "images": result.quantized.images,
        "runtime": result.quantized.audit.runtime,
        "precision": result.training.precision,
        "threads": result.training.threads,
        **_zeros_kept(source, output),
    }
    return {
        "settings": stage.model_dump(mode="json"),
        "summary": result.summary(),
        "facts": facts,
        "epochs": [asdict(epoch) for epoch in result.training.epochs],
        "nodes": [node.model_dump() for node in _outcomes(result.quantized)],
    }


def _outcomes(result: Quantized | Searched) -> list[NodeOutcome]:
    return [
        NodeOutcome(
            name=node.name,
            op=node.op,
            outcome="float" if node.kind == "float" else "int8",
            reason=node.reason if node.kind == "float" else "",
        )
        for node in result.audit.nodes
    ]


def inputs_line(model: ModelSection, preprocess: Preprocess) -> str:
    """How pixels become inputs; what neither the recipe nor the model's file says is called assumed."""
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (preprocess.mean, preprocess.std))
    line = f"inputs: (pixel / 255 - mean) / std with mean {mean} and std {std}"
    known = model.mean is not None and model.std is not None
    if model.file is not None and not known:
        stored = read_metadata(model.file)
        known = stored.mean is not None and stored.std is not None
    if known or not (model.is_onnx or model.weights):
        return line
    return f"{line}; assumed: set model.mean and model.std to what the weights were trained with"
