"""Sparse initializers made dense again, as runtimes do when they load them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from .. import errors


def make_dense(model: onnx.ModelProto, path: Path) -> None:
    """Replace the sparse initializers of a checked model, in place, by dense ones of the same names.

    Raises EdgeLatheError, which names `path`, for tensors that a dense ONNX file could not hold.
    """
    for sparse in model.graph.sparse_initializer:
        values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
        shape = tuple(sparse.dims)
        # In whole numbers of Python: a few bytes may claim a tensor that fits into no memory.
        size = int(np.prod([int(dim) for dim in shape], dtype=object))
        if size * values.itemsize > onnx.checker.MAXIMUM_PROTOBUF:
            raise errors.bench.broken_onnx(path, f'its sparse tensor "{sparse.values.name}" has {size} elements')
        places = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
        dense = np.zeros(size, values.dtype)
        dense[places] = values
        model.graph.initializer.append(numpy_helper.from_array(dense.reshape(shape), sparse.values.name))
    model.graph.ClearField("sparse_initializer")
