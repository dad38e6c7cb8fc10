"""Float weights of an ONNX file that share few values (Han et al. 2016): as fast as before, and small once packed.

Each layer has a codebook of its own, found by kmeans.py; weights that are exactly zero were pruned and stay zero,
beside the codebook. The file keeps every weight as float32, runs everywhere, and takes as many bytes as before: what
became small is what `pack` makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from ... import errors
from ...files import sha256_file, write_atomic
from ...models.onnx_file import load_onnx
from .kmeans import kmeans

WITH_WEIGHTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
MOST_BITS = 8


@dataclass(frozen=True)
class SharedWeight:
    name: str
    """Of the initializer."""
    shape: tuple[int, ...]
    bits: int
    values: int
    """Different values that are left, zero included."""
    zeros: float
    """Share of the weights that are zero, before and after."""
    error: float
    """Root mean square of what weights changed by, as a share of that of the weights."""
    reason: str
    """Why it was left alone; empty where its weights share values."""


@dataclass(frozen=True)
class SharedWeights:
    bits: int
    weights: tuple[SharedWeight, ...]

    def as_dict(self) -> dict[str, Any]:
        return {"summary": self.summary(), **asdict(self)}

    def summary(self) -> str:
        shared = [weight for weight in self.weights if not weight.reason]
        bits = sorted({weight.bits for weight in shared})
        spread = f"{bits[0]} bits" if len(bits) == 1 else f"{bits[0]} to {bits[-1]} bits"
        return (
            f"{len(shared)} of {len(self.weights)} layers share values of {spread} and differ by"
            f" {max(weight.error for weight in shared):.2g} of their size at most"
        )


def share_weights(
    model: Path | str, output: Path | str, *, bits: int = 5, layer_bits: Mapping[str, int] | None = None
) -> SharedWeights:
    """Write `model` with at most 2 ** `bits` different weights, zero not counted, in each layer.

    `layer_bits` gives other numbers to initializers, by name. Raises EdgeLatheError for unreadable models, bits outside
    of 1 to 8, unknown names, and models in which no weights can share values.
    """
    file, result = shared_model(model, bits=bits, layer_bits=layer_bits)
    write_atomic(Path(output), file, "the model with shared weights")
    return result


def shared_model(
    model: Path | str, *, bits: int = 5, layer_bits: Mapping[str, int] | None = None
) -> tuple[bytes, SharedWeights]:
    """The bytes that `share_weights` writes."""
    chosen = dict(layer_bits or {})
    for key, value in {"bits": bits, **chosen}.items():
        if not 1 <= value <= MOST_BITS:
            raise errors.inputs.impossible_setting(key, value, f"1 to {MOST_BITS}")
    path = Path(model)
    proto = load_onnx(path)
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    names = [
        name for node in proto.graph.node if node.op_type in WITH_WEIGHTS for name in node.input[1:2] if name in stored
    ]
    if unknown := sorted(chosen.keys() - set(names)):
        raise errors.inputs.unknown_choice("layer", unknown[0], names)
    weights = tuple(_share(stored[name], chosen.get(name, bits)) for name in dict.fromkeys(names))
    if all(weight.reason for weight in weights):
        raise errors.pack.nothing_to_share(path, weights[0].reason if weights else "it stores none")
    _describe(proto, path, bits)
    return proto.SerializeToString(deterministic=True), SharedWeights(bits, weights)


def _share(tensor: onnx.TensorProto, bits: int) -> SharedWeight:
    shape = tuple(tensor.dims)
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return SharedWeight(tensor.name, shape, bits, 0, 0.0, 0.0, "its weights are not float32")
    weight = numpy_helper.to_array(tensor)
    shared = shared_values(weight, bits)
    if isinstance(shared, str):
        return SharedWeight(tensor.name, shape, bits, 0, 0.0, 0.0, shared)
    tensor.CopyFrom(numpy_helper.from_array(shared, tensor.name))
    change, size = (float(np.square(array, dtype=np.float64).sum()) for array in (shared - weight, weight))
    zeros = float(np.mean(weight == 0))
    return SharedWeight(tensor.name, shape, bits, len(np.unique(shared)), zeros, (change / size) ** 0.5, "")


def shared_values(weight: np.ndarray, bits: int) -> np.ndarray | str:
    """`weight` float32 of any shape with 2 ** bits values besides zero; zeros stay. Or why that cannot be."""
    used = weight[weight != 0]
    if len(used) <= 2**bits:
        return f"it has no more than {2**bits} weights"
    if not np.isfinite(used).all():
        return "it has weights that are no finite numbers"
    clusters = kmeans(used, 2**bits)
    shared = np.zeros_like(weight)
    shared[weight != 0] = clusters.centroids.astype(np.float32)[clusters.indices]
    return shared


def _describe(proto: onnx.ModelProto, path: Path, bits: int) -> None:
    facts = {entry.key: entry.value for entry in proto.metadata_props}
    facts |= {"edgelathe.weights": f"shared, {bits} bits", "edgelathe.parent_sha256": sha256_file(path)}
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, facts)
