"""Write a matrix product with a bias as Gemm over rows, for which runtimes have an int8 kernel with bias.

    MatMul(x, W) + b   ->   Reshape(Gemm(Reshape(x, [-1, K]), W, b), [..., C])

Left as it is, ONNX Runtime fuses the product of a known number of rows with its bias into a float Gemm before it looks
for int8 kernels, and the linear layers of a transformer exported for a fixed batch run in float.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....models.onnx_graph import add_initializer, constant, only_consumer


def matmul_to_gemm(model: ir.Model) -> int:
    """Rewrite every MatMul by constant weights whose result is only read by the Add of a constant vector, in place;
    returns how many."""
    return sum(_rewrite(model, node) for node in list(model.graph) if node.op_type == "MatMul")


def _rewrite(model: ir.Model, product: ir.Node) -> bool:
    source, weight = product.inputs[0], constant(product.inputs[1])
    addition = only_consumer(product.outputs[0])
    if source is None or source.shape is None or weight is None or weight.ndim != 2 or weight.dtype != np.float32:
        return False
    if addition is None or addition.op_type != "Add":
        return False
    bias = constant(next((value for value in addition.inputs if value is not product.outputs[0]), None))
    columns = weight.shape[1]
    if bias is None or bias.size != columns or bias.shape[-1:] != (columns,):
        return False
    leading = [dim if isinstance(dim, int) else -1 for dim in source.shape[:-1]]
    if leading.count(-1) > 1 or bias.ndim > len(leading) + 1:
        return False
    result, graph = addition.outputs[0], model.graph
    flat = add_initializer(graph, f"{result.name}_rows_shape", np.array([-1, weight.shape[0]], np.int64))
    full = add_initializer(graph, f"{result.name}_shape", np.array([*leading, columns], np.int64))
    vector = add_initializer(graph, f"{result.name}_bias", bias.reshape(columns))
    rows = ir.Node("", "Reshape", [source, flat], name=f"{product.name}_rows")
    gemm = ir.Node("", "Gemm", [rows.outputs[0], product.inputs[1], vector], name=product.name)
    back = ir.Node("", "Reshape", [gemm.outputs[0], full], name=addition.name)
    rows.outputs[0].name, gemm.outputs[0].name = f"{result.name}_rows", f"{result.name}_sums"
    rows.outputs[0].type = gemm.outputs[0].type = None if source.dtype is None else ir.TensorType(source.dtype)
    ir.convenience.replace_nodes_and_values(
        graph, addition, [product, addition], [rows, gemm, back], [result], [back.outputs[0]]
    )
    return True
