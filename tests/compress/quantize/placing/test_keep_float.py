from __future__ import annotations

import pytest
from edgelathe.compress.quantize.passes.prepare import prepare
from edgelathe.compress.quantize.placing.keep_float import check_keep_float
from edgelathe.compress.quantize.quantize import quantize
from edgelathe.errors import EdgeLatheError

from ..conftest import images, model_from_text

TEXT = """agraph (float[N,3,8,8] x) => (float[N,4] y) {
    c = Conv <pads = [1,1,1,1]> (x, w)
    r = Relu (c)
    e = Elu (r)
    d = Conv <pads = [1,1,1,1]> (e, v)
    g = GlobalAveragePool (d)
    y = Flatten (g)
}"""


@pytest.fixture
def path(save):  # type: ignore[no-untyped-def]
    proto = model_from_text(TEXT, {"w": (4, 3, 3, 3), "v": (4, 4, 3, 3)}, seed=0)
    for node in proto.graph.node:
        node.name = f"{node.output[0]}_node"
    return save(proto)


@pytest.mark.parametrize("name", ["c_node", "d"])
def test_names_that_change_something_pass(path, name: str) -> None:  # type: ignore[no-untyped-def]
    check_keep_float(prepare(path), [name], target="x86-vnni")
    result = quantize(path, path.with_name("out.onnx"), images(8, (3, 8, 8), seed=1), keep_float=[name])
    kept = name if name.endswith("_node") else f"{name}_node"
    assert {node.name: node.kind for node in result.plan.nodes}[kept] == "float"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("e_node", "it stays float anyway (there is no int8 kernel for Elu); take it out of keep_float."),
        (
            "r",
            "in int8 it is no operator of its own but goes into the output range of c_node; name that operator "
            "instead.",
        ),
    ],
)
def test_names_that_change_nothing_are_refused(path, name: str, why: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EdgeLatheError) as caught:
        quantize(path, path.with_name("out.onnx"), images(8, (3, 8, 8), seed=1), keep_float=["c_node", name])
    assert str(caught.value) == f'Cannot use "{name}" in keep_float: {why}'
    assert not path.with_name("out.onnx").exists()


def test_names_of_nothing_are_left_to_placement(path) -> None:  # type: ignore[no-untyped-def]
    check_keep_float(prepare(path), ["bogus"], target="x86-vnni")
    with pytest.raises(EdgeLatheError, match='No node or tensor of the model is named "bogus"'):
        quantize(path, path.with_name("out.onnx"), images(8, (3, 8, 8), seed=1), keep_float=["bogus"])


def test_dynamic_quantization_is_refused_with_what_to_do(path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EdgeLatheError) as caught:
        quantize(path, path.with_name("out.onnx"), images(8, (3, 8, 8), seed=1), method="dynamic")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "Cannot quantize dynamically: measuring ranges anew on every image makes convolution networks slower than "
        'float; leave method out, or write "mse", and they are measured once, on calibration images.'
    )
    with pytest.raises(EdgeLatheError, match='Unknown calibration method "mean": did you mean'):
        quantize(path, path.with_name("out.onnx"), images(8, (3, 8, 8), seed=1), method="mean")  # type: ignore[arg-type]
