from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from edgelathe.compress.quantize.placement import Placement, place
from edgelathe.compress.quantize.prepare import fold_constants, infer_shapes, prepare
from edgelathe.errors import EdgeLatheError

from .conftest import model_from_text


def placed(text: str, weights: dict[str, tuple[int, ...]], keep_float: tuple[str, ...] = ()) -> Placement:
    model = ir.from_proto(model_from_text(text, weights, seed=0))
    fold_constants(model)
    infer_shapes(model)
    return place(model, keep_float=keep_float)


def kinds(placement: Placement) -> list[tuple[str, str]]:
    return [(node.op, node.kind) for node in placement.nodes]


def test_a_small_resnet_is_int8_from_end_to_end(residual: onnx.ModelProto, save) -> None:  # type: ignore[no-untyped-def]
    placement = place(prepare(save(residual)))
    assert kinds(placement) == [
        ("Conv", "int8"), ("Relu", "absorbed"), ("Conv", "int8"), ("Clip", "absorbed"), ("Conv", "int8"),
        ("Add", "int8"), ("Relu", "absorbed"), ("MaxPool", "int8"), ("GlobalAveragePool", "int8"),
        ("Flatten", "int8"), ("Gemm", "int8"),
    ]  # fmt: skip
    # The logits stay float; pooling by maximum and flattening keep the codes of what they read.
    assert placement.tied == (("input",), ("r0",), ("r1",), ("c2",), ("r2", "m"), ("p", "f"))


def test_float_nodes_say_why() -> None:
    placement = placed(
        """agraph (float[N,3,4,4] x) => (float[N,2,4,4] y) {
             e = Elu (x)
             c = Conv (e, w)
             t = Tanh (c)
             s = Add (t, c)
             y = Relu (s)
           }""",
        {"w": (2, 3, 1, 1)},
    )
    assert [(node.op, node.kind, node.reason) for node in placement.nodes] == [
        ("Elu", "float", "there is no int8 kernel for Elu"),
        ("Conv", "int8", ""),
        ("Tanh", "float", "there is no int8 kernel for Tanh"),
        ("Add", "float", "its input t is float"),
        ("Relu", "float", "there is no int8 kernel for Relu"),
    ]


def test_operators_read_only_in_float_stay_float() -> None:
    placement = placed(
        """agraph (float[N,3,4,4] x) => (float[N,2,4,4] y) {
             c = Conv (x, w)
             s = Add (c, c)
             r = Relu (s)
             y = Softmax (r)
           }""",
        {"w": (2, 3, 1, 1)},
    )
    assert kinds(placement) == [("Conv", "int8"), ("Add", "float"), ("Relu", "float"), ("Softmax", "float")]
    assert placement.nodes[1].reason == "its result is only read in float"


def test_concatenation_shares_one_scale() -> None:
    placement = placed(
        """agraph (float[N,3,4,4] x) => (float[N,2,4,4] y) {
             a = Conv (x, w)
             b = Conv (a, v)
             j = Concat <axis = 1> (a, b)
             y = Conv (j, u)
           }""",
        {"w": (2, 3, 1, 1), "v": (2, 2, 1, 1), "u": (2, 4, 1, 1)},
    )
    assert ("a", "b", "j") in placement.tied


def test_weights_computed_at_run_time_stay_float() -> None:
    placement = placed(
        """agraph (float[1,2,1,1] x) => (float[1,1,1,1] y) {
             w = Abs (x)
             y = Conv (x, w)
           }""",
        {},
    )
    assert placement.nodes[1].reason == "its weights are computed at run time"


def test_nodes_and_values_can_be_kept_float(residual: onnx.ModelProto, save) -> None:  # type: ignore[no-untyped-def]
    model = prepare(save(residual))
    placement = place(model, keep_float=("c1",))
    convolutions = [node for node in placement.nodes if node.op == "Conv"]
    assert [(node.kind, node.reason) for node in convolutions] == [
        ("int8", ""), ("float", "asked to stay float"), ("int8", ""),
    ]  # fmt: skip


def test_unknown_names_are_refused(residual: onnx.ModelProto, save) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EdgeLatheError, match=r'No node or tensor of the model is named "logit": did you mean "logits"'):
        place(prepare(save(residual)), keep_float=("logit",))


def test_an_absorbed_activation_never_shares_a_wider_scale() -> None:
    placement = placed(
        """agraph (float[N,3,4,4] x) => (float[N,2,4,4] y) {
             a = Conv (x, w)
             r = Relu (a)
             b = Conv (r, v)
             m = MaxPool <kernel_shape = [1,1]> (r)
             j = Concat <axis = 1> (m, b)
             y = Conv (j, u)
           }""",
        {"w": (2, 3, 1, 1), "v": (2, 2, 1, 1), "u": (2, 4, 1, 1)},
    )
    assert ("r", "m") in placement.tied
    assert ("b",) in placement.tied
    assert ("j",) in placement.tied
