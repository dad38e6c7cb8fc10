"""Heads and MLP widths of vision transformers: groups, plans, what they cost, and the whole way to int8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from edgelathe.bench.macs import count_macs as count_macs_of_graph
from edgelathe.bench.shapes import fix_inputs, infer_types
from edgelathe.compress.prune.apply import apply_plan, silence
from edgelathe.compress.prune.channels import plan_channels, prune_channels
from edgelathe.compress.prune.evidence import Samples
from edgelathe.compress.prune.l1 import l1
from edgelathe.compress.prune.macs import count_macs, layer_costs
from edgelathe.compress.prune.plan import Group, PruningPlan
from edgelathe.compress.prune.trace import trace_groups
from edgelathe.compress.quantize.quantize import quantize
from edgelathe.errors import EdgeLatheError
from edgelathe.export.to_onnx import export_onnx
from edgelathe.models.attention import attentions, heads
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...transformers import KINDS, build, images

FIRST = {
    "vit": "encoder.layers.encoder_layer_0.self_attention",
    "swin": "features.1.0.attn",
    "swin_v2": "features.1.0.attn",
    "maxvit": "blocks.0.layers.0.layers.window_attention.attn_layer.1",
}


def _groups(name: str, ignore: tuple[str, ...] = ()) -> dict[str, Group]:
    return {group.layer: group for group in trace_groups(build(name), images(), ignore)}


@pytest.mark.parametrize("name", KINDS)
def test_heads_and_mlps_are_groups_and_the_stream_is_not(name: str) -> None:
    model, groups = build(name), _groups(name)
    for attention, module in attentions(model).items():
        assert (groups[attention].before, groups[attention].reason) == (heads(module), "")
    mlps = [layer for layer, group in groups.items() if ".mlp" in layer and not group.reason]
    assert len(mlps) == len(attentions(model))
    stream = {"vit": "conv_proj", "maxvit": "blocks.0.layers.0.layers.MBconv.proj.1"}.get(name, "features.0.0")
    assert "cannot be followed through it" in groups[stream].reason


def test_layers_inside_of_attention_say_where_they_belong() -> None:
    groups = _groups("swin_v2")
    inside = "it is part of features.1.0.attn (ShiftedWindowAttentionV2), which loses whole heads or nothing"
    assert {groups[f"{FIRST['swin_v2']}.{layer}"].reason for layer in ("qkv", "proj", "cpb_mlp.0")} == {inside}
    merging = "it is part of features.2 (PatchMergingV2), which joins the channels of neighbouring pixels"
    assert groups["features.2.reduction"].reason == merging


@pytest.mark.parametrize("ignored", [FIRST["swin"], f"{FIRST['swin']}.qkv", "features.1"])
def test_heads_that_are_ignored(ignored: str) -> None:
    groups = _groups("swin", (ignored,))
    assert groups[FIRST["swin"]].reason == f"{FIRST['swin']} is named in ignore"
    other = "features.1.1.attn is named in ignore" if ignored == "features.1" else ""
    assert groups["features.1.1.attn"].reason == other


@pytest.mark.parametrize("name", KINDS)
def test_half_the_macs(name: str) -> None:
    model = build(name)
    pruned, plan = prune_channels(model, images(), criterion="l1", keep_macs=0.5)
    assert 0.45 * plan.macs_before < plan.macs_after <= 0.5 * plan.macs_before
    assert (plan.macs_before, plan.parameters_before) == count_macs(model, images())
    assert (plan.macs_after, plan.parameters_after) == count_macs(pruned, images())
    with torch.no_grad():
        found, wanted = pruned(images()), silence(model, plan.groups)(images())
    assert torch.allclose(found, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))
    again = apply_plan(model, PruningPlan.from_json(plan.to_json()))
    with torch.no_grad():
        assert torch.equal(again(images()), found)
    width = next(width for width in plan.widths if width.layer == FIRST[name])
    before, after = (heads(attentions(network)[FIRST[name]]) for network in (model, pruned))
    assert (width.before, width.after) == (before, after) and after < before


@pytest.mark.parametrize("name", KINDS)
def test_pruned_networks_can_be_pruned_again_and_trained(name: str) -> None:
    once, _ = prune_channels(build(name), images(), criterion="l1", keep_macs=0.8)
    twice, plan = prune_channels(once, images(), criterion="l1", keep_macs=0.7)
    with torch.no_grad():
        wanted = silence(once, plan.groups)(images())
        assert torch.allclose(twice(images()), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))
    twice.train()(images()).sum().backward()
    assert all(parameter.grad is not None for parameter in twice.parameters())


def test_weakest_heads_go() -> None:
    model = build("vit")
    with torch.no_grad():
        weight = model.get_submodule(FIRST["vit"]).in_proj_weight
        weight.unflatten(0, (3, 4, 8))[:, 2].mul_(0.1)  # type: ignore[operator]
    plan = plan_channels(model, images(), criterion=l1, keep_macs=0.85)
    group = next(group for group in plan.groups if group.layer == FIRST["vit"])
    assert group.keep == (0, 1, 3)
    assert group.unit == 8


@pytest.mark.parametrize("criterion", ["fpgm", "taylor", "obd", "lamp", "random"])
def test_criteria_rank_heads(criterion: str) -> None:
    samples = Samples(images(4), torch.tensor([0, 1, 2, 0]))
    plan = plan_channels(
        build("vit"), images(), criterion=criterion, keep_macs=0.6, scope="isomorphic", samples=samples
    )
    assert any(member.side == "heads" for group in plan.groups if not group.reason for member in group.members)


def test_criterion_of_feature_maps_leaves_heads_alone() -> None:
    samples = Samples(images(2), torch.tensor([0, 1]))
    plan = plan_channels(build("vit"), images(), criterion="hrank", keep_macs=0.8, samples=samples)
    reasons = {group.layer: group.reason for group in plan.groups}
    assert reasons[FIRST["vit"]] == "hrank looks at feature maps, and attention gives none of a single head"
    assert reasons["encoder.layers.encoder_layer_0.mlp.0"] == ""


def test_multiple_counts_features_of_heads() -> None:
    group = _groups("vit")[FIRST["vit"]]
    assert [group.step(multiple) for multiple in (1, 4, 8, 16, 24)] == [1, 1, 1, 2, 3]
    plan = plan_channels(build("vit"), images(), criterion="l1", keep_macs=0.6, multiple=16)
    assert {width.after for width in plan.widths if width.layer.endswith("self_attention")} == {2}


def test_least_that_remains_is_said() -> None:
    # 98,304 of 414,144 before the encoder; one of four heads and one of 64 MLP features in each of two blocks.
    with pytest.raises(EdgeLatheError, match=r"Cannot prune to 5.0% of the MACs: .* at its narrowest 34\.9% remain"):
        plan_channels(build("vit"), images(), keep_macs=0.05)


def test_plans_that_point_outside_of_the_heads_are_refused() -> None:
    model = build("vit")
    plan = plan_channels(model, images(), criterion="l1", keep_macs=0.5)

    def refusal(**changes: object) -> str:
        groups = tuple(
            replace(group, members=tuple(replace(member, **changes) for member in group.members))  # type: ignore[arg-type]
            if group.layer == FIRST["vit"]
            else group
            for group in plan.groups
        )
        with pytest.raises(EdgeLatheError) as caught:
            apply_plan(model, replace(plan, groups=groups))
        return str(caught.value)

    assert "it points outside of the 4 channels of" in refusal(count=5)
    assert "has no channels that can be cut" in refusal(side="out")
    assert "has no channels that can be cut" in refusal(layer="encoder.layers.encoder_layer_0.mlp.0")


def test_macs_by_hand() -> None:
    # 4x4 patches and a class token: 17 tokens of 32. Each block: 3 projections and one back, 17*17 pairs twice, an MLP.
    attention = 4 * 17 * 32 * 32 + 2 * 17 * 17 * 32
    costs = layer_costs(build("vit"), images())
    assert costs[FIRST["vit"]].macs == attention
    assert costs[FIRST["vit"]].at(1, 1) == attention // 4
    total = 16 * 32 * 3 * 64 + 2 * (attention + 2 * 17 * 32 * 64) + 32 * 3
    assert count_macs(build("vit"), images())[0] == total


def test_macs_of_windows_count_their_padding() -> None:
    # 36x32 pixels: 9x8 tokens of 12, padded to 12x8 in windows of 16.
    cost = layer_costs(build("swin"), images(1, 36, 32))[FIRST["swin"]]
    assert cost.macs == 96 * (4 * 12 * 12 + 2 * 16 * 12)


def test_macs_of_attention_across_sequences_called_by_keyword() -> None:
    class Across(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, kdim=6, vdim=5)

        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).permute(2, 0, 1)
            return self.attention(value=tokens[:7, :, :5], key=tokens[:7, :, :6], query=tokens)[0]

    macs, _ = count_macs(Across(), torch.zeros(1, 8, 3, 4))
    assert macs == 12 * 8 * 8 + 7 * 6 * 8 + 7 * 5 * 8 + 2 * 12 * 7 * 8 + 12 * 8 * 8


@pytest.mark.parametrize("name", ["vit", "swin", "maxvit"])
def test_macs_are_those_of_the_operators_that_run(name: str) -> None:
    pruned, plan = prune_channels(build(name), images(), criterion="l1", keep_macs=0.7)
    for model, macs in ((build(name), plan.macs_before), (pruned, plan.macs_after)):
        # With gradients on, nn.MultiheadAttention runs operators that can be counted.
        with FlopCounterMode(display=False) as counter:
            model(images(1))
        assert counter.get_total_flops() == 2 * macs


@pytest.mark.parametrize("name", ["vit", "swin_v2", "maxvit"])
def test_whole_way_to_int8(name: str, tmp_path: Path) -> None:
    pruned, plan = prune_channels(build(name), images(), criterion="l1", keep_macs=0.5)
    export_onnx(pruned, images(1), tmp_path / "float.onnx")
    for count in (1, 3):
        with torch.no_grad():
            wanted = pruned(images(count)).numpy()
        found = _run(tmp_path / "float.onnx", images(count))
        assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
    proto = onnx.load(tmp_path / "float.onnx")
    operators = {node.op_type for node in proto.graph.node}
    assert not operators & {"ScatterND", "GatherND", "Where", "ConstantOfShape"}  # masks and biases are constants
    _, meaning = fix_inputs(tmp_path / "float.onnx", proto, None)
    counted, notes = count_macs_of_graph(proto.graph, infer_types(proto, meaning))
    assert (sum(node.macs for node in counted), notes) == (plan.macs_after, [])

    result = quantize(tmp_path / "float.onnx", tmp_path / "int8.onnx", images(8).numpy(), correct_bias="none")
    kinds = {(node.op, node.kind): node.reason for node in result.audit.nodes}
    assert ("Gemm", "int8") in kinds
    assert kinds["LayerNormalization", "float"].startswith("it divides by the spread of a row")
    assert kinds["MatMul", "float"].startswith("both of its sides are activations")
    products = [node for node in result.audit.nodes if node.op in ("Gemm", "MatMul") and node.kind == "float"]
    assert len(products) == 2 * len(attentions(pruned))
    wanted = _run(tmp_path / "float.onnx", images(8))
    noise = _run(tmp_path / "int8.onnx", images(8)) - wanted
    assert 10 * np.log10(np.square(wanted).sum() / np.square(noise).sum()) > 15


def _run(path: Path, inputs: Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": inputs.numpy()})[0]
