from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from edgelathe import errors
from edgelathe.compress.quantize.learning.torch_graph import TorchGraph
from edgelathe.compress.quantize.passes.prepare import prepare
from torch import Tensor, nn

from ..conftest import images, model_from_text, run

Save = Callable[[onnx.ModelProto], Path]


@pytest.fixture
def prepared(residual: onnx.ModelProto, save: Save) -> ir.Model:
    return prepare(save(residual))


def stored(model: ir.Model) -> dict[str, bytes]:
    return {name: value.const_value.tobytes() for name, value in model.graph.initializers.items()}  # type: ignore[union-attr]


def test_computes_what_the_file_computes(prepared: ir.Model) -> None:
    x = images(5, (3, 8, 8), seed=1)
    with torch.no_grad():
        got = TorchGraph(prepared)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, run(prepared, x), rtol=1e-4, atol=1e-6)


FAMILIES: dict[str, dict[str, Any]] = {
    "cifar_resnet8": {},
    "mlperf_resnet8": {},
    "cifar_densenet": {"growth": 4, "blocks": (2, 2)},
    "cifar_mobilenet_v2": {"width_mult": 0.25},
    "cifar_efficientnet_b0": {"width_mult": 0.25},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_computes_every_family_of_the_zoo(family: str, tmp_path: Path) -> None:
    from edgelathe.export.to_onnx import export_onnx
    from edgelathe.models.zoo import build

    torch.manual_seed(0)
    network = build(family, num_classes=7, **FAMILIES[family])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.2)
    export_onnx(network, torch.zeros(1, 3, 32, 32), tmp_path / "net.onnx")
    graph = TorchGraph(prepare(tmp_path / "net.onnx"))
    x = images(3, (3, 32, 32), seed=2)
    wanted = run(tmp_path / "net.onnx", x)
    with torch.no_grad():
        got = graph(torch.from_numpy(x)).numpy()
    assert np.abs(wanted).max() > 1e-3
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def test_weights_and_biases_are_parameters_and_nothing_else(prepared: ir.Model) -> None:
    graph = TorchGraph(prepared)
    assert sorted(dict(graph.named_parameters())) == ["b0", "b1", "b2", "b3", "w0", "w1", "w2", "w3"]
    graph(torch.from_numpy(images(2, (3, 8, 8), seed=0))).square().sum().backward()
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in graph.parameters())  # type: ignore[union-attr]


def test_untrained_graph_is_written_back_bit_by_bit(prepared: ir.Model) -> None:
    before = stored(prepared)
    graph = TorchGraph(prepared).to(memory_format=torch.channels_last)
    written = graph.to_ir()
    assert stored(written) == before == stored(prepared)
    assert [node.op_type for node in written.graph] == [node.op_type for node in prepared.graph]


def test_trained_parameters_are_written_into_a_copy(prepared: ir.Model) -> None:
    before = stored(prepared)
    graph = TorchGraph(prepared)
    with torch.no_grad():
        for parameter in graph.parameters():
            parameter.mul_(1.5)
    x = images(4, (3, 8, 8), seed=3)
    written = graph.to_ir()
    with torch.no_grad():
        wanted = graph(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(run(written, x), wanted, rtol=1e-4, atol=1e-6)
    assert stored(prepared) == before
    assert stored(written) != before


def test_names_with_dots_and_weights_of_constant_nodes() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]> toy (float[N,2] x) => (float[N,2] y) {
      w = Constant <value = float[2,2] {1.0, 2.0, 3.0, 4.0}> ()
      h = MatMul (x, w)
      y = Gemm (h, layer)
    }"""
    proto = onnx.parser.parse_model(text)
    proto.graph.node[2].input[1] = "layer.weight"
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(2, dtype=np.float32), "layer.weight"))
    graph = TorchGraph(ir.from_proto(proto))
    assert sorted(dict(graph.named_parameters())) == ["layer/weight", "w"]
    with torch.no_grad():
        graph.constant("w").mul_(2.0)  # type: ignore[union-attr]
    x = np.array([[1.0, -1.0]], np.float32)
    np.testing.assert_array_equal(run(graph.to_ir(), x), [[-4.0, -4.0]])


def test_block_runs_alone_from_captured_inputs(prepared: ir.Model) -> None:
    graph = TorchGraph(prepared)
    x = torch.from_numpy(images(3, (3, 8, 8), seed=4))
    with torch.no_grad():
        whole = graph.run(x, collect=["r0", "r1", "r2", "logits"])
        block = graph.run({"r0": whole["r0"], "r1": whole["r1"]}, collect=["r2"])
    assert list(block) == ["r2"]
    assert torch.equal(block["r2"], whole["r2"])
    assert torch.equal(whole["logits"], graph(x))


def test_block_runs_only_its_own_nodes(prepared: ir.Model) -> None:
    graph = TorchGraph(prepared)
    computed: list[str] = []
    graph.on_value = lambda name, tensor: (computed.append(name), tensor)[1]
    r0 = torch.zeros(1, 8, 8, 8)
    graph.run({"r0": r0}, collect=["r1"])
    assert computed == ["c1", "r1"]


def test_values_are_freed_after_their_last_reader(prepared: ir.Model) -> None:
    graph = TorchGraph(prepared)
    made: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def watch(name: str, tensor: Tensor) -> Tensor:
        result = tensor.clone()
        made.append(weakref.ref(result))
        alive.append(sum(reference() is not None for reference in made))
        return result

    graph.on_value = watch
    with torch.no_grad():
        graph(torch.zeros(1, 3, 8, 8))
    assert len(alive) == 12
    assert max(alive) <= 4  # the residual, an operator's input and output, and the reader's loop variable


def test_hooks_see_and_replace_values_weights_and_constants(prepared: ir.Model) -> None:
    graph = TorchGraph(prepared)
    weights: list[str] = []
    constants: list[tuple[str, int]] = []

    def weight(node: str, tensor: Tensor) -> Tensor:
        weights.append(graph.step(node).outputs[0])
        return tensor * 0.0

    def other(node: str, position: int, tensor: Tensor) -> Tensor:
        constants.append((graph.step(node).op, position))
        return tensor * 0.0 if graph.step(node).op != "Clip" else tensor

    graph.on_weight, graph.on_constant = weight, other
    graph.on_value = lambda name, tensor: tensor + 1.0 if name == "logits" else tensor
    with torch.no_grad():
        logits = graph(torch.ones(2, 3, 8, 8))
    assert torch.equal(logits, torch.ones(2, 10))
    assert weights == ["c0", "c1", "c2", "logits"]
    assert constants == [("Conv", 2), ("Conv", 2), ("Clip", 1), ("Clip", 2), ("Conv", 2), ("Gemm", 2)]


def test_node_that_is_passed_over_hands_on_its_input(prepared: ir.Model) -> None:
    graph = TorchGraph(prepared)
    relu = next(step for step in graph.steps if step.outputs == ("r0",))
    x = torch.from_numpy(images(1, (3, 8, 8), seed=5))
    with torch.no_grad():
        wanted = graph.run(x, collect=["c0"])["c0"]
        graph.passed_over = frozenset({relu.name})
        got = graph.run(x, collect=["r0"])["r0"]
    assert float(wanted.min()) < 0
    assert torch.equal(got, wanted)


def test_copy_learns_apart_from_the_original(prepared: ir.Model) -> None:
    graph = TorchGraph(prepared)
    twin = copy.deepcopy(graph)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
        logits = graph(torch.ones(1, 3, 8, 8))
    assert float(logits.abs().sum()) > 0
    assert stored(graph.to_ir()) == stored(prepared)


def test_unknown_operator_is_named() -> None:
    proto = model_from_text("toy (float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Sinh (x) }", {}, seed=0)
    with pytest.raises(errors.EdgeLatheError, match='its operator Sinh of the node "'):
        TorchGraph(ir.from_proto(proto))


def test_unknown_value_and_missing_input_are_refused(prepared: ir.Model) -> None:
    graph = TorchGraph(prepared)
    with pytest.raises(errors.EdgeLatheError, match='No node or tensor of the model is named "r9"'):
        graph.run(torch.zeros(1, 3, 8, 8), collect=["r9"])
    with pytest.raises(errors.EdgeLatheError, match='Cannot compute r2 from r1 alone: "input" is needed as well'):
        graph.run({"r1": torch.zeros(1, 8, 8, 8)}, collect=["r2"])


def test_two_inputs_are_refused() -> None:
    proto = model_from_text("toy (float[N,3] x, float[N,3] z) => (float[N,3] y) { y = Add (x, z) }", {}, seed=0)
    with pytest.raises(errors.EdgeLatheError, match="2 inputs"):
        TorchGraph(ir.from_proto(proto))
