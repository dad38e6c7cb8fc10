"""Files that keep something in float, each for one reason, written as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from edgelathe.compress.quantize.audit import FileAudit, audit_file
from edgelathe.compress.quantize.placing.float_reasons import Wiring, why_float
from edgelathe.errors import EdgeLatheError


def quantized(body: str, *, codes: str = "uint8", weight_codes: str = "int8", bias: str = "int32") -> onnx.ModelProto:
    """A graph around one convolution, with the codes and scales that it may use."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {body}')
    rng = np.random.default_rng(0)
    floats = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    stored = {
        "w": floats,
        "b": np.zeros(4, np.float32),
        "wq": np.clip(floats * 40, -127, 127).astype(weight_codes),
        "wz": np.zeros((), weight_codes),
        "bq": np.zeros(4, bias),
        "bs": np.float32(0.02 * 0.025),
        "s": np.float32(0.02),
        "ws": np.float32(0.025),
        "z": np.zeros((), codes),
    }
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()
    )
    for node in model.graph.node:
        node.name = node.output[0]
    return model


HEAD = "net (float[N,3,8,8] input) => (float[N,4,6,6] output)"
INPUT = "q = QuantizeLinear (input, s, z) x = DequantizeLinear (q, s, z)"
WEIGHT = "v = DequantizeLinear (wq, ws, wz)"
OUTPUT = "r = QuantizeLinear (conv, s, z) output = DequantizeLinear (r, s, z)"


def reason_of(body: str, **codes: str) -> str:
    model = quantized(f"{HEAD} {{ {body} }}", **codes)
    (node,) = (node for node in model.graph.node if node.op_type == "Conv")
    return why_float(node, Wiring(model.graph))


@pytest.mark.parametrize(
    ("body", "codes", "reason"),
    [
        (f"{INPUT} {WEIGHT} conv = Conv (x, v) {OUTPUT}", {}, ""),
        (f"{INPUT} {WEIGHT} d = DequantizeLinear (bq, bs) conv = Conv (x, v, d) {OUTPUT}", {}, ""),
        (f"{INPUT} conv = Conv (x, w) {OUTPUT}", {}, "its weights are stored as float"),
        (f"{INPUT} u = Neg (w) conv = Conv (x, u) {OUTPUT}", {}, "its weights are computed at run time"),
        (f"{WEIGHT} e = Erf (input) conv = Conv (e, v) {OUTPUT}", {}, "its input comes in float from Erf e"),
        (f"{WEIGHT} conv = Conv (input, v) {OUTPUT}", {}, "its input comes in float from the model's input"),
        (
            f"{INPUT} {WEIGHT} conv = Conv (x, v, b) {OUTPUT}",
            {},
            "its bias is stored as float, and the runtime fuses int32 ones only",
        ),
        (
            f"{INPUT} {WEIGHT} d = DequantizeLinear (bq, bs, wz) conv = Conv (x, v, d) {OUTPUT}",
            {"bias": "int8"},
            "its bias is int8 instead of int32",
        ),
        (
            f"{INPUT} {WEIGHT} conv = Conv (x, v) {OUTPUT}",
            {"codes": "uint16"},
            "its input is uint16, for which the runtime has no kernel",
        ),
        (
            f"{INPUT} {WEIGHT} conv = Conv (x, v) {OUTPUT}",
            {"weight_codes": "int16"},
            "its weights are int16, for which the runtime has no kernel",
        ),
        (f"{INPUT} {WEIGHT} conv = Conv (x, v) output = Erf (conv)", {}, "its result is read in float by Erf output"),
        (
            f"{INPUT} {WEIGHT} conv = Conv (x, v) e = Erf (conv) r = QuantizeLinear (conv, s, z) "
            "f = DequantizeLinear (r, s, z) output = Add (e, f)",
            {},
            "its result is also read in float by Erf e",
        ),
        (f"{INPUT} {WEIGHT} output = Conv (x, v)", {}, "its result is an output of the model in float"),
        (
            f"{INPUT} {WEIGHT} conv = Conv (x, v) c = Relu (conv) r = QuantizeLinear (c, s, z) "
            "output = DequantizeLinear (r, s, z)",
            {},
            "Relu c follows it and its bounds are not those of the codes, so neither fuses",
        ),
    ],
)
def test_the_reason_is_what_breaks_the_pattern(body: str, codes: dict[str, str], reason: str) -> None:
    assert reason_of(body, **codes) == reason


def audited(tmp_path: Path, body: str, **codes: str) -> FileAudit:
    path = tmp_path / "model.onnx"
    onnx.save(quantized(f"{HEAD} {{ {body} }}", **codes), path)
    return audit_file(path)


def test_a_file_whose_convolution_fuses(tmp_path: Path) -> None:
    found = audited(tmp_path, f"{INPUT} {WEIGHT} conv = Conv (x, v) {OUTPUT}")
    assert (found.weighted, found.floats, found.survivors) == ({"Conv": 1}, (), ())
    assert (found.in_int8("Conv"), found.in_int8("Gemm")) == (1, 0)
    assert (found.dynamic, found.signed, found.full_range) == (False, False, True)
    assert found.runtime.startswith("onnxruntime ")


def test_what_is_left_in_float_is_named_with_its_neighbours(tmp_path: Path) -> None:
    found = audited(
        tmp_path,
        f"{INPUT} {WEIGHT} conv = Conv (x, v) e = Erf (conv) r = QuantizeLinear (e, s, z) "
        "f = DequantizeLinear (r, s, z) output = Sin (f)",
    )
    assert [(node.name, node.op, node.reason) for node in found.floats] == [
        ("conv", "Conv", "its result is read in float by Erf e")
    ]
    assert found.in_int8("Conv") == 0
    by_name = {left.name: left for left in found.survivors}
    assert (by_name["x"].before, by_name["x"].after) == ("QuantizeLinear q", ("Conv conv",))
    assert (by_name["r"].before, by_name["f"].after) == ("Erf e", ("Sin output",))


def test_weights_that_the_runtime_quantizes_unasked_are_named(tmp_path: Path) -> None:
    found = audited(tmp_path, f"{INPUT} conv = Conv (x, w) {OUTPUT}")
    assert (found.floats, found.requantized) == ((), ("conv",))


def test_signed_codes_are_noticed(tmp_path: Path) -> None:
    found = audited(tmp_path, f"{INPUT} {WEIGHT} conv = Conv (x, v) {OUTPUT}", codes="int8")
    assert found.signed


@pytest.mark.parametrize("types", [("uint16", "int8"), ("int16", "int16"), ("uint16", "int16")])
def test_sixteen_bits_run_in_float(types: tuple[str, str], tmp_path: Path) -> None:
    """What docs/search.md says about them; when this fails, the runtime has learnt to do better."""
    found = audited(tmp_path, f"{INPUT} {WEIGHT} conv = Conv (x, v) {OUTPUT}", codes=types[0], weight_codes=types[1])
    assert found.in_int8("Conv") == 0
    assert found.floats[0].reason.endswith("for which the runtime has no kernel")


def test_dynamic_quantization_is_noticed(tmp_path: Path) -> None:
    found = audited(
        tmp_path,
        "c, cs, cz = DynamicQuantizeLinear (input) conv = ConvInteger (c, wq, cz, wz) f = Cast <to = 1> (conv) "
        "output = Mul (f, cs)",
    )
    assert found.dynamic
    assert found.weighted == {}


def test_operators_without_names_get_one(tmp_path: Path) -> None:
    model = quantized(f"{HEAD} {{ {INPUT} {WEIGHT} conv = Conv (x, v) output = Erf (conv) }}")
    for node in model.graph.node:
        node.name = ""
    onnx.save(model, tmp_path / "model.onnx")
    (left,) = audit_file(tmp_path / "model.onnx").floats
    assert (left.name, left.reason) == ("Conv_3", "its result is read in float by Erf Erf_4")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(EdgeLatheError, match="truncated or no ONNX file"):
        audit_file(tmp_path / "x.onnx")
