from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from edgelathe.compress.quantize.learning.torch_graph import TorchGraph
from edgelathe.compress.quantize.learning.torch_operators import OPERATORS

IMAGE = "float[N,4,9,8]"
BODIES = {
    # name: (graph body from "x" to "y", constants by name and shape)
    "Conv groups": (
        "y = Conv <group = 2, pads = [1,1,1,1], strides = [2,1]> (x, w, b)",
        {"w": (6, 2, 3, 3), "b": (6,)},
    ),
    "Conv uneven pads": ("y = Conv <pads = [0,1,2,1], dilations = [2,1]> (x, w)", {"w": (6, 4, 3, 2)}),
    "Conv same upper": ('y = Conv <auto_pad = "SAME_UPPER", strides = [2,2]> (x, w)', {"w": (6, 4, 3, 3)}),
    "Conv same lower": ('y = Conv <auto_pad = "SAME_LOWER", strides = [2,2]> (x, w)', {"w": (6, 4, 2, 2)}),
    "ConvTranspose": (
        "y = ConvTranspose <group = 2, pads = [1,0,0,1], strides = [2,2], output_padding = [1,0]> (x, w, b)",
        {"w": (4, 3, 3, 3), "b": (6,)},
    ),
    "MaxPool": ("y = MaxPool <kernel_shape = [3,3], strides = [2,2], pads = [1,0,0,1]> (x)", {}),
    "MaxPool ceil": ("y = MaxPool <kernel_shape = [3,3], strides = [2,2], ceil_mode = 1> (x)", {}),
    "AveragePool uneven": ("y = AveragePool <kernel_shape = [3,3], pads = [1,0,0,1]> (x)", {}),
    "AveragePool even": ("y = AveragePool <kernel_shape = [3,3], pads = [1,1,1,1], strides = [2,2]> (x)", {}),
    "AveragePool padded": ("y = AveragePool <kernel_shape = [3,3], pads = [1,0,0,1], count_include_pad = 1> (x)", {}),
    "GlobalAveragePool": ("y = GlobalAveragePool (x)", {}),
    "Gemm": ("f = Flatten (x)\n y = Gemm <alpha = 0.5, beta = 2.0, transB = 1> (f, w, b)", {"w": (5, 288), "b": (5,)}),
    "Gemm transposed": ("f = Flatten <axis = 2> (x)\n y = Gemm <transA = 1> (f, w)", {"w": (8, 3)}),
    "MatMul": ("y = MatMul (x, w)", {"w": (8, 5)}),
    "BatchNormalization": (
        "p = Exp (v)\n y = BatchNormalization (x, g, b, m, p)",
        {"g": (4,), "b": (4,), "m": (4,), "v": (4,)},
    ),
    "LayerNormalization": ("y = LayerNormalization <axis = 2> (x, g, b)", {"g": (9, 8), "b": (9, 8)}),
    "PRelu": ("y = PRelu (x, s)", {"s": (4, 1, 1)}),
    "LeakyRelu": ("y = LeakyRelu <alpha = 0.2> (x)", {}),
    "Elu": ("y = Elu <alpha = 0.7> (x)", {}),
    "Softplus": ("y = Softplus (x)", {}),
    "Relu": ("y = Relu (x)", {}),
    "Clip": (
        "six = Constant <value_float = 0.6> ()\n zero = Constant <value_float = 0.1> ()\n y = Clip (x, zero, six)",
        {},
    ),
    "Clip above": ("six = Constant <value_float = 0.6> ()\n y = Clip (x, , six)", {}),
    "HardSigmoid": ("y = HardSigmoid <alpha = 0.3, beta = 0.4> (x)", {}),
    "HardSwish": ("y = HardSwish (x)", {}),
    "Gelu": ("y = Gelu (x)", {}),
    "Gelu tanh": ('y = Gelu <approximate = "tanh"> (x)', {}),
    "Erf": ("y = Erf (x)", {}),
    "Tanh": ("y = Tanh (x)", {}),
    "Sigmoid": ("y = Sigmoid (x)", {}),
    "Softmax": ("y = Softmax <axis = 1> (x)", {}),
    "arithmetic": (
        "a = Exp (x)\n b = Sqrt (a)\n c = Reciprocal (b)\n d = Pow (c, e)\n f = Sub (d, x)\n g = Div (f, b)\n"
        "h = Neg (g)\n i = Abs (h)\n j = Log (a)\n k = Mul (i, j)\n y = Identity (k)",
        {"e": ()},
    ),
    "Min and Max": ("a = Max (x, s, t)\n y = Min (a, t)", {"s": (4, 1, 1), "t": (1, 1, 8)}),
    "Where": ("a = Equal (x, x)\n b = Not (a)\n y = Where (b, x, s)", {"s": (4, 1, 1)}),
    "ReduceMean": ("axes = Constant <value_ints = [1,-1]> ()\n y = ReduceMean <keepdims = 0> (x, axes)", {}),
    "ReduceMean of all": ("y = ReduceMean (x)", {}),
    "ReduceMean of none": ("y = ReduceMean <noop_with_empty_axes = 1> (x)", {}),
    "ReduceSum": ("axes = Constant <value_ints = [2]> ()\n y = ReduceSum (x, axes)", {}),
    "ReduceL2": ("axes = Constant <value_ints = [1]> ()\n y = ReduceL2 (x, axes)", {}),
    "Concat": ("y = Concat <axis = 1> (x, x)", {}),
    "Slice": (
        "s = Constant <value_ints = [1,-1]> ()\n e = Constant <value_ints = [9223372036854775807,-100]> ()\n"
        "a = Constant <value_ints = [2,-1]> ()\n t = Constant <value_ints = [2,-3]> ()\n y = Slice (x, s, e, a, t)",
        {},
    ),
    "Slice of the first axes": (
        "s = Constant <value_ints = [0,1]> ()\n e = Constant <value_ints = [1,-1]> ()\n y = Slice (x, s, e)",
        {},
    ),
    "Pad": (
        "p = Constant <value_ints = [0,1,0,-2,0,2,3,0]> ()\n v = Constant <value_float = 0.5> ()\n y = Pad (x, p, v)",
        {},
    ),
    "Pad reflect": ('p = Constant <value_ints = [0,0,2,1,0,0,1,3]> ()\n y = Pad <mode = "reflect"> (x, p)', {}),
    "Pad edge": ('p = Constant <value_ints = [0,0,2,1,0,0,1,3]> ()\n y = Pad <mode = "edge"> (x, p)', {}),
    "Reshape": ("s = Constant <value_ints = [0,2,-1]> ()\n y = Reshape (x, s)", {}),
    "Squeeze and Unsqueeze": (
        "a = Constant <value_ints = [-1,1]> ()\n b = Unsqueeze (x, a)\n c = Constant <value_ints = [1]> ()\n"
        "d = Squeeze (b, c)\n y = Squeeze (d)",
        {},
    ),
    "Transpose": ("y = Transpose <perm = [2,0,3,1]> (x)", {}),
    "Transpose backwards": ("y = Transpose (x)", {}),
    "SpaceToDepth": ("h = Concat <axis = 2> (x, x)\n y = SpaceToDepth <blocksize = 2> (h)", {}),
    "DepthToSpace": ("y = DepthToSpace <blocksize = 2> (x)", {}),
    "DepthToSpace by columns": ('y = DepthToSpace <blocksize = 2, mode = "CRD"> (x)', {}),
    "Split": (
        "s = Constant <value_ints = [1,3]> ()\n a, b = Split <axis = 1> (x, s)\n c = Neg (a)\n y = Mul (b, c)",
        {},
    ),
    "Split by number": ("a, b, c = Split <axis = 3, num_outputs = 3> (x)\n y = Concat <axis = 3> (c, a)", {}),
    "Gather": ("i = Constant <value_ints = [2,-1]> ()\n y = Gather <axis = 1> (x, i)", {}),
    "Gather one": ("i = Constant <value_int = -1> ()\n y = Gather <axis = 2> (x, i)", {}),
    "GatherND": (
        "i = Constant <value_ints = [0,1,1,3]> ()\n t = Constant <value_ints = [2,2]> ()\n j = Reshape (i, t)\n"
        "y = GatherND (x, j)",
        {},
    ),
    "GatherND by image": (
        "i = Constant <value_ints = [0,1,1,3,1,0,2,2]> ()\n t = Constant <value_ints = [2,2,2]> ()\n"
        "j = Reshape (i, t)\n y = GatherND <batch_dims = 1> (x, j)",
        {},
    ),
    "ScatterND": (
        "i = Constant <value_ints = [1]> ()\n t = Constant <value_ints = [1,1]> ()\n j = Reshape (i, t)\n"
        "u = Neg (x)\n s = Constant <value_ints = [0]> ()\n e = Constant <value_ints = [1]> ()\n v = Slice (u, s, e)\n"
        "y = ScatterND (x, j, v)",
        {},
    ),
    "shape arithmetic": (
        "s = Shape <start = 0, end = 1> (x)\n m = Constant <value_ints = [-1]> ()\n t = Concat <axis = 0> (s, m)\n"
        "two = Constant <value_ints = [2]> ()\n half = Div (s, two)\n z = Cast <to = 1> (half)\n r = Reshape (x, t)\n"
        "y = Mul (r, z)",
        {},
    ),
    "Expand": ("s = Constant <value_ints = [3,1,1,1,1]> ()\n y = Expand (x, s)", {}),
    "ConstantOfShape and Range": (
        "s = Shape <start = 3> (x)\n c = ConstantOfShape (s)\n zero = Constant <value_int = 0> ()\n"
        "one = Constant <value_int = 1> ()\n n = Squeeze (s)\n r = Range (zero, n, one)\n f = Cast <to = 1> (r)\n"
        "g = Add (f, c)\n y = Mul (x, g)",
        {},
    ),
    "Einsum": ('y = Einsum <equation = "n c h w, n c h v -> n c w v"> (x, x)', {}),
}


def model_of(body: str, constants: dict[str, tuple[int, ...]]) -> onnx.ModelProto:
    text = f'<ir_version: 10, opset_import: ["" : 20]> toy ({IMAGE} x) => (float y) {{\n {body} \n}}'
    model = onnx.parser.parse_model(text)
    random = np.random.default_rng(0)
    for name, shape in constants.items():
        array = random.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return onnx.shape_inference.infer_shapes(model)


@pytest.mark.parametrize("case", BODIES)
def test_operator_computes_what_onnx_runtime_computes(case: str) -> None:
    model = model_of(*BODIES[case])
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    x = np.random.default_rng(1).normal(size=(2, 4, 9, 8)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"x": x})
    with torch.no_grad():
        got = TorchGraph(ir.from_proto(model))(torch.from_numpy(x)).numpy()
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_every_operator_is_held_to_onnx_runtime() -> None:
    seen = {node.op_type for body in BODIES.values() for node in model_of(*body).graph.node}
    assert OPERATORS.keys() <= seen
