"""The network that is trained is the file that is written: every quantized value, in the runtime and in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from edgelathe.compress.quantize.apply import apply_plan
from edgelathe.compress.quantize.audit import audit
from edgelathe.compress.quantize.calibration.calibrate import calibrate
from edgelathe.compress.quantize.learning.quantized_graph import QuantizedGraph
from edgelathe.compress.quantize.learning.value_ranges import RANGES, Ranges
from edgelathe.compress.quantize.passes.exact_pixels import PIXELS, exact_pixels
from edgelathe.compress.quantize.passes.prepare import prepare
from edgelathe.compress.quantize.placing.placement import Placement, place
from edgelathe.compress.quantize.placing.saturation import INT16, saturation_report
from edgelathe.compress.quantize.plan import QuantPlan, plan_from
from edgelathe.models.onnx_graph import constant
from torch import nn

from ..conftest import RESIDUAL, RESIDUAL_WEIGHTS, images, model_from_text, run

DEPTHWISE = """
depthwise (float[N,3,8,8] input) => (float[N,5] logits) {
  six = Constant <value_float = 6.0> ()
  zero = Constant <value_float = 0.0> ()
  gain = Constant <value = float[8,1,1] {2.0, 1.77, -1.31, 0.43, 1.09, 0.61, 1.53, 1.97}> ()
  c0 = Conv <pads = [0,0,1,1], strides = [2,2]> (input, w0, b0)
  r0 = Clip (c0, zero, six)
  c1 = Conv <group = 8, pads = [1,1,1,1]> (r0, w1)
  s1 = Sigmoid (c1)
  m1 = Mul (c1, s1)
  d1 = Mul (m1, gain)
  c2 = Conv (d1, w2, b2)
  l2 = LeakyRelu <alpha = 0.1> (c2)
  p = GlobalAveragePool (l2)
  f = Flatten (p)
  logits = MatMul (f, w3)
}
"""
DEPTHWISE_WEIGHTS = {"w0": (8, 3, 3, 3), "b0": (8,), "w1": (8, 1, 3, 3), "w2": (6, 8, 1, 1), "b2": (6,), "w3": (6, 5)}
CONCAT = """
dense (float[N,3,8,8] input) => (float[N,5] logits) {
  c0 = Conv <pads = [1,1,1,1]> (input, w0, b0)
  r0 = Relu (c0)
  c1 = Conv <pads = [1,1,1,1]> (r0, w1, b1)
  r1 = Relu (c1)
  j1 = Concat <axis = 1> (r0, r1)
  a1 = AveragePool <kernel_shape = [2,2], strides = [2,2]> (j1)
  c2 = Conv (a1, w2, b2)
  j2 = Concat <axis = 1> (a1, c2)
  p = GlobalAveragePool (j2)
  f = Flatten (p)
  logits = Gemm <transB = 1> (f, w3, b3)
}
"""
CONCAT_WEIGHTS = {
    "w0": (6, 3, 3, 3), "b0": (6,), "w1": (4, 6, 3, 3), "b1": (4,), "w2": (4, 10, 1, 1), "b2": (4,),
    "w3": (5, 14), "b3": (5,),
}  # fmt: skip
SHORTCUT = """
shortcut (float[N,3,8,8] input) => (float[N,5] logits) {
  c0 = Conv <pads = [1,1,1,1]> (input, w0, b0)
  r0 = Relu (c0)
  starts = Constant <value_ints = [0,0]> ()
  ends = Constant <value_ints = [99,99]> ()
  axes = Constant <value_ints = [2,3]> ()
  steps = Constant <value_ints = [2,2]> ()
  s = Slice (r0, starts, ends, axes, steps)
  pads = Constant <value_ints = [0,2,0,0,0,2,0,0]> ()
  a = Pad (s, pads)
  c1 = Conv <pads = [1,1,1,1], strides = [2,2]> (r0, w1, b1)
  sum = Add (c1, a)
  r1 = Relu (sum)
  p = GlobalAveragePool (r1)
  f = Flatten (p)
  logits = Gemm <transB = 1> (f, w2, b2)
}
"""
SHORTCUT_WEIGHTS = {"w0": (4, 3, 3, 3), "b0": (4,), "w1": (8, 4, 3, 3), "b1": (8,), "w2": (5, 8), "b2": (5,)}
TOYS = {
    "residual": (RESIDUAL, RESIDUAL_WEIGHTS),
    "depthwise": (DEPTHWISE, DEPTHWISE_WEIGHTS),
    "concat": (CONCAT, CONCAT_WEIGHTS),
    "shortcut": (SHORTCUT, SHORTCUT_WEIGHTS),
}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Toy:
    prepared: ir.Model
    placement: Placement
    plan: QuantPlan
    x: np.ndarray

    def network(self, ranges: Ranges = "lsq") -> QuantizedGraph:
        return QuantizedGraph(self.prepared, self.placement, self.plan, ranges=ranges)


@pytest.fixture
def toy(save: Callable[[onnx.ModelProto], Path]) -> Callable[..., Toy]:
    def make(
        name: str, *, target: str = "x86-vnni", per_channel: bool = True, bits: int = 8, pixels: bool = False
    ) -> Toy:
        prepared = prepare(save(model_from_text(*TOYS[name], seed=0)))
        x = images(12, (3, 8, 8), seed=1)
        if pixels:
            codes = np.random.default_rng(1).integers(0, 256, (12, 8, 8, 3))
            x = ((codes / 255 - MEAN) / STD).astype(np.float32).transpose(0, 3, 1, 2)
            through = exact_pixels(prepared, MEAN, STD)
            assert through is not None
            prepared = through
        placement = place(prepared, target=target)
        statistics = calibrate(prepared, placement.values, x)
        settings = {"target": target, "method": "mse", "per_channel": per_channel}
        plan = plan_from(prepared, placement, statistics, **settings)  # type: ignore[arg-type]
        if bits < 8:
            few = dict.fromkeys(plan.weights, bits)
            plan = plan_from(prepared, placement, statistics, weight_bits=few, **settings)  # type: ignore[arg-type]
        return Toy(prepared, placement, plan, x)

    return make


def trained(network: QuantizedGraph, x: np.ndarray, *, steps: int, lr: float) -> QuantizedGraph:
    network.train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=lr, momentum=0.9)
    inputs = torch.from_numpy(np.ascontiguousarray(x))
    wanted = torch.nn.functional.one_hot(torch.arange(len(x)) % 5, 5).float()
    for _ in range(steps):
        optimizer.zero_grad()
        (network(inputs)[:, :5] - wanted).square().mean().backward()
        optimizer.step()
    return network.eval()


def values_in_runtime(model: ir.Model, names: list[str], x: np.ndarray) -> list[np.ndarray]:
    """Codes of the named values, computed operator by operator as the standard says."""
    proto = ir.to_proto(model)
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(f"{name}_quantized") for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run([f"{name}_quantized" for name in names], {session.get_inputs()[0].name: x})


def assert_equal_within_one_step(network: QuantizedGraph, x: np.ndarray) -> None:
    plan = network.plan()
    written = apply_plan(network.to_ir(), plan)
    names = [name for name in plan.codes if name != PIXELS]
    with torch.no_grad():
        mine = network.graph.run(torch.from_numpy(np.ascontiguousarray(x)), collect=[*names, *network.graph.outputs])
    for name, theirs in zip(names, values_in_runtime(written, names, x), strict=True):
        codes = plan.codes[name]
        got = np.round(mine[name].numpy() / codes.scale) + codes.zero_point
        assert got.min() >= np.iinfo(theirs.dtype).min
        assert got.max() <= np.iinfo(theirs.dtype).max
        apart = np.abs(got - theirs.astype(np.float64))
        assert apart.max() <= 1, name
        assert (apart > 0).mean() < 0.01, name
    logits = mine[network.graph.outputs[0]].numpy()
    last = plan.codes[next(step for step in reversed(network.graph.steps) if step.inputs[0] in plan.codes).inputs[0]]
    weight = max(np.abs(constant(node.inputs[1])).max() for node in network.to_ir().graph if node.name in plan.weights)
    np.testing.assert_allclose(run(written, x), logits, rtol=0, atol=3 * last.scale * weight)


SETTINGS = (
    {},
    {"per_channel": False},
    {"target": "x86-avx2"},
    {"target": "arm64"},
    {"target": "openvino"},
    {"bits": 4},
    {"pixels": True},
)  # fmt: skip


@pytest.mark.parametrize("ranges", RANGES)
@pytest.mark.parametrize("name", TOYS)
def test_the_file_equals_the_trained_network(toy: Callable[..., Toy], name: str, ranges: Ranges) -> None:
    made = toy(name)
    network = made.network(ranges)
    assert_equal_within_one_step(network.eval(), made.x)
    assert_equal_within_one_step(trained(network, made.x, steps=5, lr=0.02), made.x)
    assert network.plan() != made.plan


@pytest.mark.parametrize("ranges", RANGES)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_file_equals_the_trained_network_under_every_setting(
    toy: Callable[..., Toy], settings: dict[str, object], ranges: Ranges
) -> None:
    for name in ("residual", "depthwise"):
        made = toy(name, **settings)
        assert_equal_within_one_step(trained(made.network(ranges), made.x, steps=3, lr=0.02), made.x)


@pytest.mark.parametrize("ranges", RANGES)
@pytest.mark.parametrize("pixels", [False, True])
def test_untrained_it_is_the_file_of_post_training_quantization(
    toy: Callable[..., Toy], ranges: Ranges, pixels: bool
) -> None:
    made = toy("residual", pixels=pixels)
    network = made.network(ranges).eval()
    assert network.plan().codes == made.plan.codes
    for name, planned in network.plan().weights.items():
        np.testing.assert_allclose(planned.scales, made.plan.weights[name].scales, rtol=1e-6)
    theirs = run(apply_plan(made.prepared, made.plan), made.x)
    mine = run(apply_plan(network.to_ir(), network.plan()), made.x)
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=0.02 * np.abs(theirs).max())


@pytest.mark.parametrize("ranges", RANGES)
def test_training_changes_numbers_and_not_the_graph(toy: Callable[..., Toy], ranges: Ranges) -> None:
    made = toy("residual")
    network = trained(made.network(ranges), made.x, steps=2, lr=0.02)
    before, after = apply_plan(made.prepared, made.plan), apply_plan(network.to_ir(), network.plan())
    assert [node.op_type for node in after.graph] == [node.op_type for node in before.graph]
    assert sorted(after.graph.initializers) == sorted(before.graph.initializers)
    audited = audit(ir.to_proto(after).SerializeToString(), network.plan().nodes)
    assert audited.broken_promises == ()


@pytest.mark.parametrize("ranges", RANGES)
def test_weights_lie_on_the_grid_and_ties_hold(toy: Callable[..., Toy], ranges: Ranges) -> None:
    made = toy("concat", bits=3)
    network = trained(made.network(ranges), made.x, steps=3, lr=0.05)
    plan = network.plan()
    for node in network.to_ir().graph:
        if node.name in plan.weights:
            weight, planned = constant(node.inputs[1]), plan.weights[str(node.name)]
            assert weight is not None
            shape = [-1 if axis == planned.axis else 1 for axis in range(weight.ndim)]
            codes = weight.astype(np.float64) / planned.array.astype(np.float64).reshape(shape)
            np.testing.assert_allclose(codes, np.round(codes), rtol=0, atol=1e-5)
            assert np.abs(codes).max() <= planned.limit + 1e-5 == 3 + 1e-5
    for group in made.placement.tied:
        assert len({plan.codes[name] for name in group}) == 1
    assert any(len(group) > 1 for group in made.placement.tied)


@pytest.mark.parametrize("ranges", RANGES)
def test_training_lowers_the_error_that_rounding_made(toy: Callable[..., Toy], ranges: Ranges) -> None:
    made = toy("residual", bits=3)
    with torch.no_grad():
        target = made.network(ranges).graph
        target.on_value = target.on_weight = target.on_constant = None
        wanted = target(torch.from_numpy(made.x))
    network = made.network(ranges).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    losses = []
    for _ in range(60):
        loss = (network(torch.from_numpy(made.x)) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_a_shortcut_that_copies_goes_on_copying(toy: Callable[..., Toy]) -> None:
    made = toy("shortcut")
    network = trained(made.network(), made.x, steps=3, lr=0.05)
    (before,) = (node for node in made.prepared.graph if node.name not in ("c0", "c1") and _copies(node))
    (after,) = (node for node in network.to_ir().graph if node.name == before.name)
    np.testing.assert_allclose(constant(after.inputs[1]), constant(before.inputs[1]), rtol=1e-6)


def _copies(node: ir.Node) -> bool:
    weight = constant(node.inputs[1]) if node.op_type == "Conv" else None
    return weight is not None and bool(np.isin(weight, (0.0, 1.0)).all())


@pytest.mark.parametrize("ranges", RANGES)
def test_pixels_stay_pixels_and_their_weights_move_like_others(toy: Callable[..., Toy], ranges: Ranges) -> None:
    made = toy("residual", pixels=True)
    network = trained(made.network(ranges), made.x, steps=3, lr=0.02)
    assert network.plan().codes[PIXELS] == made.plan.codes[PIXELS]
    stems = [node for node in (made.prepared.graph, network.to_ir().graph) for node in node if node.op_type == "Conv"]
    before, after = (constant(stem.inputs[1]) for stem in (stems[0], stems[3]))
    assert before is not None
    assert after is not None
    assert 1e-4 < np.abs(after - before).max() / np.abs(before).max() < 1.0


@pytest.mark.parametrize("ranges", RANGES)
@pytest.mark.parametrize("per_channel", [True, False])
def test_sums_cannot_saturate_after_training_either(toy: Callable[..., Toy], ranges: Ranges, per_channel: bool) -> None:
    made = toy("residual", target="x86-avx2", per_channel=per_channel)
    network = trained(made.network(ranges), made.x, steps=10, lr=0.05)
    layers = saturation_report(network.to_ir(), network.plan())
    assert len(layers) == 4
    assert all(layer.saturating == 0 for layer in layers)
    assert max(abs(layer.worst) for layer in layers) > 0.9 * INT16.max


def test_gradients_in_int8_train_the_same_graph(toy: Callable[..., Toy]) -> None:
    made = toy("residual")
    network = QuantizedGraph(made.prepared, made.placement, made.plan, gradients="int8", seed=3)
    assert network.gradients is not None
    assert_equal_within_one_step(trained(network, made.x, steps=3, lr=0.02), made.x)
    assert int(network.gradients.steps) == 3
    assert float(network.gradients.deviations.max()) > 0


def test_judging_changes_nothing(toy: Callable[..., Toy]) -> None:
    made = toy("residual")
    network = made.network("ema").eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.inference_mode():
        network(torch.from_numpy(100 * made.x))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert isinstance(network, nn.Module)
