"""What the weights of an ONNX file take once their zeros are left out: the size that sparsity pays for.

Each stored tensor counts as the smaller of two encodings: all of its values, or the values that are not zero and where
they are. The places count with their entropy, which an arithmetic coder reaches (one that knows only how many zeros
there are, as in Han et al. 2016: "Deep Compression", if anything with a better coder). The values count as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from ..models.onnx_file import elements, load_onnx, stored_tensors, tensor_bytes
from .parameters import count_parameters, parameter_names


@dataclass(frozen=True)
class StoredSize:
    parameters: int
    nonzero: int
    """Parameters that are not zero."""
    encoded_bytes: int
    """Of everything stored: parameters, scales, shapes."""


def encoded_bytes(values: int, nonzero: int, bytes_per_value: float) -> int:
    """All values, or those that are not zero and the entropy of their places, whichever is less."""
    places = values * _entropy(nonzero / values) / 8 if values else 0.0
    return math.ceil(min(values * bytes_per_value, places + nonzero * bytes_per_value))


def _entropy(share: float) -> float:
    """Bits of one yes or no of which `share` are yes."""
    return -sum(each * math.log2(each) for each in (share, 1 - share) if each > 0)


def stored_size(path: Path) -> StoredSize:
    """Count the ONNX file at `path`, external data included. Raises EdgeLatheError for a damaged file."""
    model = load_onnx(path)
    names, parameters = parameter_names(model), count_parameters(model)
    zeros = total = 0
    for sparse in model.graph.sparse_initializer:
        values, kept = elements(sparse.dims), elements(sparse.values.dims)
        total += encoded_bytes(values, kept, _width(sparse.values))
        zeros += (values - kept) * (sparse.values.name in names)
    model.graph.ClearField("sparse_initializer")  # else their values and indices would count as dense tensors
    for tensor in stored_tensors(model):
        total += encoded_bytes(elements(tensor.dims), _nonzero(tensor), _width(tensor))
    for name, tensor in _named(model.graph):
        zeros += (elements(tensor.dims) - _nonzero(tensor)) * (name in names)
    return StoredSize(parameters, parameters - zeros, total)


def _named(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield node.output[0], attribute.t


def _nonzero(tensor: onnx.TensorProto) -> int:
    if tensor.data_type == onnx.TensorProto.STRING:
        return elements(tensor.dims)
    return int(np.count_nonzero(numpy_helper.to_array(tensor)))


def _width(tensor: onnx.TensorProto) -> float:
    values = elements(tensor.dims)
    return tensor_bytes(tensor) / values if values else 0.0
