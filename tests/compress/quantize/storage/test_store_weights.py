from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest
from edgelathe.compress.quantize.storage.store_weights import FORMATS, store_weights
from edgelathe.errors import EdgeLatheError
from edgelathe.files import sha256_file
from onnx import numpy_helper

from ..conftest import decibels, images, model_from_text, run

Save = Callable[..., Path]

TEXT = """agraph (float[N,4,8,8] x) => (float[N,10] y) {
    a = Conv <pads = [1,1,1,1]> (x, w, b)
    r = Relu (a)
    d = Conv <pads = [1,1,1,1], group = 32> (r, dw)
    u = ConvTranspose (d, up)
    tiny = Conv (u, small)
    g = GlobalAveragePool (tiny)
    f = Flatten (g)
    h = MatMul (f, m)
    y = Gemm <transB = 1> (h, fc, c)
}"""
SHAPES = {
    "w": (32, 4, 3, 3), "b": (32,), "dw": (32, 1, 3, 3), "up": (32, 16, 1, 1), "small": (8, 16, 1, 1), "m": (8, 64),
    "fc": (10, 64), "c": (10,),
}  # fmt: skip


@pytest.fixture
def path(save: Save) -> Path:
    proto = model_from_text(TEXT, SHAPES, seed=0)
    for node in proto.graph.node:
        node.name = f"{node.output[0]}_node"
    onnx.helper.set_model_props(proto, {"edgelathe.mean": "[0.5]", "mine": "kept"})
    return save(proto)


def refusal(model: Path, **keys: object) -> str:
    with pytest.raises(EdgeLatheError) as caught:
        store_weights(model, model.with_name("out.onnx"), **keys)  # type: ignore[arg-type]
    assert not model.with_name("out.onnx").exists()
    return str(caught.value)


@pytest.mark.parametrize(("format", "at_least"), [("int8", 38.0), ("int4", 17.0), ("float16", 60.0)])
def test_outputs_differ_by_the_rounding_of_the_weights_alone(path: Path, format: str, at_least: float) -> None:
    output = path.with_name("out.onnx")
    result = store_weights(path, output, format=format)  # type: ignore[arg-type]
    proto = onnx.load(output)
    onnx.checker.check_model(proto, full_check=True)
    x = images(4, (4, 8, 8), seed=1)
    wanted, found = run(path, x), run(output, x)
    assert at_least < decibels(wanted, found) < at_least + 25

    rounded = onnx.load(path)
    names = {tensor.name: tensor for tensor in rounded.graph.initializer}
    computed = run_values(proto, [weight for weight in SHAPES if weight not in ("b", "c", "small")])
    for name, values in computed.items():
        names[name].CopyFrom(numpy_helper.from_array(values, name))
    np.testing.assert_allclose(found, run(rounded, x), rtol=1e-4, atol=1e-5)
    assert [(weight.node, weight.reason) for weight in result.weights if weight.reason] == [
        ("tiny_node", "it has fewer than 256 weights")
    ]
    assert result.decoded_each_run == 0
    assert result.bytes_after == output.stat().st_size < result.bytes_before == path.stat().st_size


def run_values(proto: onnx.ModelProto, names: list[str]) -> dict[str, np.ndarray]:
    """What the file's operators decode, by onnx's reference implementation of them."""
    decoding = [node for node in proto.graph.node if node.op_type in ("Cast", "Mul", "Reshape")]
    graph = onnx.helper.make_graph(
        decoding,
        "decoding",
        [],
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, SHAPES[name]) for name in names],
        list(proto.graph.initializer),
    )
    model = onnx.helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    found = onnx.reference.ReferenceEvaluator(model).run(names, {})
    return dict(zip(names, found, strict=True))


def test_operators_names_and_metadata_stay(path: Path) -> None:
    output = path.with_name("out.onnx")
    store_weights(path, output, format="int8")
    before, after = onnx.load(path), onnx.load(output)
    decoding = {f"{name}_{op}" for name in SHAPES for op in ("cast", "mul", "reshape")}
    kept = [node for node in after.graph.node if node.name not in decoding]
    assert [(node.name, node.op_type, *node.input) for node in kept] == [
        (node.name, node.op_type, *node.input) for node in before.graph.node
    ]
    assert (after.graph.input, after.graph.output) == (before.graph.input, before.graph.output)
    assert {entry.key: entry.value for entry in after.metadata_props} == {
        "edgelathe.mean": "[0.5]",
        "mine": "kept",
        "edgelathe.weights": "int8",
        "edgelathe.parent_sha256": sha256_file(path),
    }
    again = path.with_name("again.onnx")
    store_weights(path, again, format="int8")
    assert again.read_bytes() == output.read_bytes()


def test_the_summary_says_what_it_saves_and_what_not(path: Path) -> None:
    result = store_weights(path, path.with_name("out.onnx"), format="int4")
    share = result.bytes_after / result.bytes_before
    assert result.summary() == (
        f"5 of 6 weights stored as int4, the file is {share:.2f} x as large and weights differ by"
        f" {max(weight.error for weight in result.weights):.2g} of their size at most; everything is computed in"
        " float32, in the time and memory of the float model, so this helps where files are sent or stored;"
        " convolution networks can lose much of their accuracy by it, so measure that; opset raised from 18 to 21"
    )
    assert {weight.node: weight.stored for weight in result.weights} == {
        "a_node": "int4",
        "d_node": "int8",
        "u_node": "int8",
        "tiny_node": "float32",
        "h_node": "int8",
        "y_node": "int4",
    }
    assert result.as_dict()["summary"] == result.summary()


def test_shared_weights_are_stored_once_and_constants_count_as_weights(save: Save) -> None:
    text = """agraph (float[N,16,4,4] x) => (float[N,16,4,4] y) {
        a = Conv (x, w)
        b = Conv (a, w)
        y = Conv (b, k)
    }"""
    proto = model_from_text(text, {"w": (16, 16, 1, 1), "k": (16, 16, 1, 1)}, seed=3)
    constant = next(tensor for tensor in proto.graph.initializer if tensor.name == "k")
    proto.graph.initializer.remove(constant)
    proto.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["k"], value=constant))
    path = save(proto)
    output = path.with_name("out.onnx")
    result = store_weights(path, output)
    assert [weight.stored for weight in result.weights] == ["int8"] * 3
    codes = [tensor for tensor in onnx.load(output).graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    assert len(codes) == 2
    x = images(2, (16, 4, 4), seed=4)
    assert decibels(run(path, x), run(output, x)) > 35


@pytest.mark.parametrize(("name", "node"), [("y_node", "y_node"), ("h", "h_node")])
def test_weights_of_named_nodes_stay_float(path: Path, name: str, node: str) -> None:
    output = path.with_name("out.onnx")
    result = store_weights(path, output, keep_float=[name])
    reasons = {weight.node: weight.reason for weight in result.weights}
    assert reasons[node] == "asked to stay float"
    weight = {"y_node": "fc", "h_node": "m"}[node]
    before, after = ({t.name: t for t in onnx.load(file).graph.initializer} for file in (path, output))
    assert after[weight] == before[weight]


def test_weights_that_cannot_be_stored_say_why(save: Save) -> None:
    text = """agraph (float[N,32] x) => (float[N,32] y, float[32,32] z) {
        big = MatMul (x, huge)
        t = Transpose (w)
        p = MatMul (big, t)
        q = MatMul (p, twice)
        z = Neg (twice)
        both = MatMul (q, s)
        y = Gemm <transB = 1> (both, s)
    }"""
    shapes = dict.fromkeys(("huge", "w", "twice", "s"), (32, 32))
    proto = model_from_text(text, shapes, seed=5)
    huge = next(tensor for tensor in proto.graph.initializer if tensor.name == "huge")
    huge.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(huge) * np.float32(1e6), "huge"))
    for node in proto.graph.node:
        node.name = node.output[0]
    sentence = refusal(save(proto), format="float16")
    assert sentence.endswith("keep the file as it is.")
    result = store_weights(save(proto), save(proto).with_name("int8.onnx"), format="int8")
    assert {weight.node: weight.reason for weight in result.weights} == {
        "big": "",
        "p": "its weights are computed and not stored",
        "q": "z (Neg) reads the same weights for something else",
        "both": "y (Gemm) has the channels of the same weights along another axis",
        "y": "both (MatMul) has the channels of the same weights along another axis",
    }


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"format": "fp16"}, 'Unknown format of weights "fp16": did you mean "float16"?'),
        ({"keep_float": ["h_nod"]}, 'No node or tensor of the model is named "h_nod": did you mean "h_node"?'),
        (
            {"keep_float": ["tiny_node"]},
            'Cannot use "tiny_node" in keep_float: it stays float anyway (it has fewer than 256 weights); take it out '
            "of keep_float.",
        ),
        (
            {"keep_float": ["r"]},
            'Cannot use "r" in keep_float: it stays float anyway (it has no weights); take it out of keep_float.',
        ),
    ],
)
def test_names_that_do_not_exist_or_change_nothing(path: Path, keys: dict[str, object], sentence: str) -> None:
    assert refusal(path, **keys) == sentence


def test_a_model_without_weights_is_refused(save: Save) -> None:
    proto = model_from_text("agraph (float[N,3] x) => (float[N,3] y) { y = Relu (x) }", {}, seed=0)
    path = save(proto)
    assert refusal(path, format="float16") == (
        f"Cannot store weights of {path} as float16: none may be changed, most often because it has no convolution or "
        "matrix product; keep the file as it is."
    )


def test_every_format_is_offered() -> None:
    assert set(FORMATS) == {"int8", "int4", "float16"}
