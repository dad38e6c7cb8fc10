from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgelathe.bench.graph import inspect_graph
from edgelathe.errors import EdgeLatheError

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'


def test_facts_of_a_small_network(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        HEAD
        + """g (float[batch,3,8,8] image) => (float[batch,5] logits)
        <float[6,3,3,3] w, float[6] b, int64[2] axes = {2, 3}, float[5,6] f>
        {
            c = Conv<pads=[1,1,1,1]>(image, w, b)
            r = Relu(c)
            p = ReduceMean<keepdims=0>(r, axes)
            logits = Gemm<transB=1>(p, f)
        }"""
    )
    facts = inspect_graph(path)
    assert facts.file_bytes == path.stat().st_size
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts.parameters == 6 * 27 + 6 + 30
    assert facts.macs == 64 * 6 * 27 + 30
    assert facts.int8_macs == 0
    assert facts.bytes_by_type == {"float32": 4 * (162 + 6 + 30), "int64": 16}
    assert facts.ops == {"Conv": 1, "Gemm": 1, "ReduceMean": 1, "Relu": 1}
    assert facts.activation_peak == 4 * 64 * (3 + 6)
    assert (facts.opset, facts.ir_version) == (20, 10)
    assert facts.inputs == {"image": ("batch", 3, 8, 8)}
    assert facts.outputs == {"logits": ("batch", 5)}
    assert facts.notes == ()


def test_a_fixed_batch_is_divided_out_of_the_macs(save_text: Callable[[str], Path]) -> None:
    facts = inspect_graph(save_text(HEAD + "g (float[8,4] x) => (float[8,3] y) <float[4,3] w> { y = MatMul(x, w) }"))
    assert facts.macs == 12
    assert facts.activation_peak == 8 * 4 * (4 + 3)
    assert facts.notes == ("the activation peak is that of the file's fixed batch of 8",)


def test_stale_shapes_in_the_file_are_ignored(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        HEAD
        + """g (float[n,4] x) => (float[n,3] y) <float[4,6] a, float[6,3] b>
        { h = MatMul(x, a)  y = MatMul(h, b) }"""
    )
    model = onnx.load_model(path)
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, [64, 6]))
    onnx.save_model(model, path)
    assert inspect_graph(path).macs == 24 + 18


def test_stored_shapes_serve_behind_operators_of_a_vendor(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        '<ir_version: 10, opset_import: ["" : 20, "vendor" : 1]>'
        + """g (float[n,4] x) => (float[n,3] y) <float[6,3] b> { h = vendor.Magic(x)  y = MatMul(h, b) }"""
    )
    assert inspect_graph(path).macs == 0
    model = onnx.load_model(path)
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, ["n", 6]))
    onnx.save_model(model, path)
    facts = inspect_graph(path)
    assert (facts.macs, facts.notes) == (18, ())
    assert facts.ops == {"MatMul": 1, "vendor.Magic": 1}


def test_an_open_image_size_must_be_given(save_text: Callable[[str], Path]) -> None:
    path = save_text(HEAD + "g (float[n,3,h,w] x) => (float[n,4,h,w] y) <float[4,3,1,1] k> { y = Conv(x, k) }")
    with pytest.raises(EdgeLatheError) as caught:
        inspect_graph(path)
    assert str(caught.value) == (
        f'Cannot tell the size of input "x" [n, 3, h, w] of the model {path}: only its first dimension '
        "may be left open; give the shape of that input, or export the model with the others fixed."
    )
    assert inspect_graph(path, input_shapes={"x": (1, 3, 10, 6)}).macs == 60 * 12
    assert inspect_graph(path, input_shapes={"x": (5, 3, 10, 6)}).macs == 60 * 12


def test_a_shape_that_disagrees_is_refused(save_text: Callable[[str], Path]) -> None:
    path = save_text(HEAD + "g (float[n,3] x) => (float[n,3] y) { y = Relu(x) }")
    with pytest.raises(EdgeLatheError) as caught:
        inspect_graph(path, input_shapes={"x": (1, 4)})
    assert str(caught.value) == (
        f'Cannot give input "x" [n, 3] of the model {path} the shape [1, 4]: they do not agree; '
        "give the shape that the model declares."
    )
    with pytest.raises(EdgeLatheError, match=r'Unknown input of .* "y": valid are: x'):
        inspect_graph(path, input_shapes={"y": (1, 3)})


def test_a_dimension_named_by_an_earlier_input_is_known(save_text: Callable[[str], Path]) -> None:
    facts = inspect_graph(save_text(HEAD + "g (float[n,3] x, float[3,n] z) => (float[n,n] y) { y = MatMul(x, z) }"))
    assert facts.macs == 3


def test_weights_listed_as_inputs_are_no_inputs(save_text: Callable[[str], Path]) -> None:
    path = save_text(HEAD + "g (float[n,4] x) => (float[n,3] y) <float[4,3] w> { y = MatMul(x, w) }")
    model = onnx.load_model(path)
    model.ir_version = 3
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [4, 3]))
    onnx.save_model(model, path)
    facts = inspect_graph(path)
    assert facts.inputs == {"x": ("n", 4)}
    assert (facts.macs, facts.parameters) == (12, 12)


def test_shapes_computed_inside_the_graph_are_followed(save_text: Callable[[str], Path]) -> None:
    facts = inspect_graph(
        save_text(
            HEAD
            + """g (float[n,2,6] x) => (float[n,5] y) <int64[1] zero = {0}, int64[1] rest = {-1},
            float[12,5] w> {
                s = Shape(x)
                batch = Gather(s, zero)
                t = Concat<axis=0>(batch, rest)
                f = Reshape(x, t)
                y = MatMul(f, w)
            }"""
        )
    )
    assert (facts.macs, facts.notes) == (60, ())


def test_local_functions_are_looked_into(save_text: Callable[[str], Path]) -> None:
    path = save_text(
        """<ir_version: 10, opset_import: ["" : 20, "mine" : 1]>
        g (float[n,4] x) => (float[n,3] y) <float[4,3] w> { y = mine.Layer(x, w) }
        <domain: "mine", opset_import: ["" : 20]>
        Layer (a, b) => (c) { m = MatMul(a, b)  c = Relu(m) }"""
    )
    facts = inspect_graph(path)
    assert facts.ops == {"MatMul": 1, "Relu": 1}
    assert (facts.macs, facts.parameters) == (12, 12)


def test_external_weights_count_as_part_of_the_model(tmp_path: Path, resnet_file: Callable[..., Path]) -> None:
    inside = resnet_file(8, 4)
    outside = tmp_path / "m.onnx"
    onnx.save_model(onnx.load_model(inside), outside, save_as_external_data=True, location="m.data", size_threshold=0)
    one, two = inspect_graph(inside), inspect_graph(outside)
    same = ("parameters", "macs", "bytes_by_type", "ops", "activation_peak", "inputs", "outputs", "notes")
    assert [getattr(one, name) for name in same] == [getattr(two, name) for name in same]
    assert two.file_bytes == outside.stat().st_size + (tmp_path / "m.data").stat().st_size
    before = two.sha256
    data = bytearray((tmp_path / "m.data").read_bytes())
    data[0] ^= 1
    (tmp_path / "m.data").write_bytes(data)
    assert inspect_graph(outside).sha256 != before


def test_inspecting_imports_no_torch(resnet_file: Callable[..., Path]) -> None:
    code = (
        "import sys; from pathlib import Path; from edgelathe.bench.graph import inspect_graph; "
        f"inspect_graph(Path({str(resnet_file(8, 4))!r})); "
        "print('torch' in sys.modules, 'onnxruntime' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_large_weights_do_not_change_the_facts(save_text: Callable[[str], Path]) -> None:
    facts = inspect_graph(
        save_text(HEAD + "g (float[n,100] x) => (float[n,90] y) <float[100,90] w> { y = MatMul(x, w) }")
    )
    assert (facts.parameters, facts.macs) == (9_000, 9_000)
    assert facts.bytes_by_type == {"float32": int(np.prod((100, 90))) * 4}


def test_the_runtimes_own_quantized_operators_are_seen_through(save_text: Callable[[str], Path]) -> None:
    facts = inspect_graph(
        save_text(
            '<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>'
            """g (uint8[n,4,8,8] x) => (float[n,5] y) <float s, uint8 z, int8[4,4,1,1] w, int8 wz, int8[8,5] f>
            {
                a = com.microsoft.QLinearAdd(x, s, z, x, s, z, s, z)
                b = QLinearConv(a, s, z, w, s, wz, s, z)
                c = com.microsoft.QLinearConcat<axis=1>(s, z, a, s, z, b, s, z)
                d = com.microsoft.QLinearGlobalAveragePool(c, s, z, s, z)
                e = Flatten(d)
                y = com.microsoft.QGemm(e, s, z, f, s, wz)
            }"""
        )
    )
    assert facts.macs == facts.int8_macs == 64 * 16 + 8 * 5
    assert facts.parameters == 16 + 40
    assert facts.activation_peak == 64 * (4 + 4 + 8)
    assert facts.notes == ()
