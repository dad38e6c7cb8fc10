from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from edgelathe.compress.checkpoint import state_sha256
from edgelathe.compress.prune.apply import silence
from edgelathe.compress.prune.channels import plan_channels, prune_channels
from edgelathe.compress.prune.l1 import l1
from edgelathe.compress.prune.macs import count_macs
from edgelathe.compress.prune.plan import PruningPlan, Scope
from edgelathe.errors import EdgeLatheError
from edgelathe.models import weights, zoo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

Make = Callable[[str], nn.Module]

ALL = [
    "Chain", "Residual", "OptionA", "OwnOptionA", "Dense", "Inverted", "Upsampling", "Grouped", "Positional",
    "Aggregated", "Next", "Shuffled",
]  # fmt: skip


def _same_outputs(model: nn.Module, pruned: nn.Module, plan: PruningPlan, example: Tensor) -> None:
    """The pruned network must equal the whole one in which nothing reads the channels that are gone."""
    with torch.no_grad():
        wanted = silence(model, plan.groups)(example)
        assert torch.allclose(pruned(example), wanted, rtol=0, atol=1e-5)
        assert not torch.allclose(model(example), wanted, rtol=0, atol=1e-5)


def _widths(plan: PruningPlan) -> dict[str, tuple[int, int]]:
    return {width.layer: (width.before, width.after) for width in plan.widths}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("criterion", ["fpgm", "l1", "random"])
def test_pruned_network_equals_the_whole_one_without_those_channels(
    make: Make, example: Tensor, name: str, criterion: str
) -> None:
    model = make(name)
    before = state_sha256(model)
    pruned, plan = prune_channels(model, example, criterion=criterion, keep_macs=0.75)
    assert state_sha256(model) == before
    _same_outputs(model, pruned, plan, example)
    assert (plan.macs_before, plan.parameters_before) == count_macs(model, example)
    assert (plan.macs_after, plan.parameters_after) == count_macs(pruned, example)
    assert 0.4 * plan.macs_before < plan.macs_after <= 0.75 * plan.macs_before


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(ALL[:7]),
    keep=st.floats(0.72, 1.0),
    multiple=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
def test_any_target_is_met_and_no_wider_step_would_meet_it(
    make: Make, example: Tensor, name: str, keep: float, multiple: int, seed: int
) -> None:
    model = make(name)
    plan = plan_channels(model, example, criterion="random", keep_macs=keep, multiple=multiple, seed=seed)
    assert plan.macs_after <= keep * plan.macs_before
    for group in plan.groups:
        assert bool(group.reason) == (group.after == group.before)
        assert group.reason or group.after % multiple == 0
    if plan.ratio < 1:
        wider = plan_channels(
            model, example, criterion="random", keep_macs=min(1.0, keep + 0.2), multiple=multiple, seed=seed
        )
        assert wider.ratio >= plan.ratio


def test_widest_uniform_widths_within_the_target(make: Make, example: Tensor) -> None:
    # 8x8 pixels: stem 3*8*9*64, inner and outer 8*10*9*64 each; stream and inner layer keep the same share.
    model = make("Residual")
    plan = plan_channels(model, example, keep_macs=0.5)
    tried = {}
    for number in range(1, 100):
        stream, inner = (max(1, int(number / 100 * width + 0.5)) for width in (8, 10))
        tried[stream, inner] = 64 * 9 * (3 * stream + 2 * stream * inner) + 4 * stream
    fitting = {widths: macs for widths, macs in tried.items() if macs <= plan.macs_before / 2}
    best = max(fitting, key=lambda widths: fitting[widths])
    assert (_widths(plan)["stem"][1], _widths(plan)["inner"][1]) == best
    assert plan.macs_after == fitting[best]


def test_keeps_the_most_important_channels(make: Make, example: Tensor) -> None:
    model = make("Chain")
    with torch.no_grad():
        model.conv1.weight.copy_(torch.arange(8.0)[:, None, None, None] % 5 + 1)  # type: ignore[operator, union-attr]
    plan = plan_channels(model, example, criterion=l1, keep_macs=0.6, ignore=["conv2", "fc1"])
    group = plan.groups[0]
    assert group.layer == "conv1"
    order = [4, 3, 2, 7, 1, 6, 0, 5]  # by norm, equals in order
    assert group.keep == tuple(sorted(order[: group.after]))
    assert plan.criterion == "l1"


def test_every_layer_left_alone_has_its_reason(make: Make, example: Tensor) -> None:
    def reasons(name: str) -> dict[str, str]:
        plan = plan_channels(make(name), example, keep_macs=0.9)
        return {width.layer: width.reason for width in plan.widths}

    joined = "the option A shortcut shortcut joins its channels to others by position"
    outputs = "its channels are the network's outputs"
    assert reasons("OptionA") == {"stem": joined, "inner": "", "outer": joined, "fc": outputs}
    own = reasons("OwnOptionA")
    assert own["inner"] == ""
    assert own["outer"].startswith("cutting its channels ")
    positional = reasons("Positional")
    assert positional["a"] == "cutting its channels changes what other layers compute"
    assert positional["b"] == ""
    assert set(reasons("Grouped").values()) <= {"", outputs, "the target is met without cutting it"}


def test_layers_that_share_channels_are_cut_together(make: Make, example: Tensor) -> None:
    plan = plan_channels(make("Inverted"), example, keep_macs=0.5)
    widths = _widths(plan)
    assert widths["expand"] == widths["depthwise"] == widths["excite"]
    assert widths["stem"] == widths["project"]
    assert widths["squeeze"][1] < 4
    group = next(group for group in plan.groups if group.layer == "expand")
    layers = {(member.layer, member.side) for member in group.members}
    assert layers == {
        ("expand", "out"), ("bn", "channels"), ("depthwise", "channels"), ("squeeze", "in"),
        ("excite", "out"), ("project", "in"),
    }  # fmt: skip


def test_flattened_map_loses_all_pixels_of_a_channel(make: Make, example: Tensor) -> None:
    pruned, plan = prune_channels(make("Chain"), example, keep_macs=0.6)
    member = next(m for group in plan.groups for m in group.members if (m.layer, m.side) == ("fc1", "in"))
    assert (member.count, member.repeat) == (6, 16)
    assert pruned.fc1.in_features == 16 * pruned.conv2.out_channels  # type: ignore[union-attr, operator]


def test_widths_are_whole_multiples(make: Make, example: Tensor) -> None:
    plan = plan_channels(make("Residual"), example, keep_macs=0.6, multiple=4)
    widths = _widths(plan)
    assert widths["stem"] == (8, 4)
    assert widths["inner"] in {(10, 4), (10, 8), (10, 10)}


def test_ignored_layers_keep_their_outputs(make: Make, example: Tensor) -> None:
    plan = plan_channels(make("Residual"), example, keep_macs=0.9, ignore=["outer"])
    assert _widths(plan)["stem"] == (8, 8)
    assert plan.widths[0].reason == "outer is named in ignore"
    with pytest.raises(EdgeLatheError) as caught:
        plan_channels(make("Residual"), example, ignore=["outr"])
    assert str(caught.value) == 'Unknown layer in ignore "outr": did you mean "outer"?'


def test_everything_kept(make: Make, example: Tensor) -> None:
    plan = plan_channels(make("Residual"), example, keep_macs=1.0)
    assert plan.macs_after == plan.macs_before
    assert plan.groups[0].reason == "the target is met without cutting it"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("Residual", {"keep_macs": 0.0}, r"Cannot use keep_macs = 0.0: it must be above 0 and at most 1\."),
        ("Residual", {"multiple": 0}, 'Cannot use multiple = 0: it must be a whole number from 1, or "auto".'),
        ("Residual", {"scope": "globl"}, 'Unknown scope "globl": did you mean "global"?'),
        ("Residual", {"keep_macs": 0.5, "keep_params": 0.5}, r"several targets at once \(keep_macs, keep_params\)"),
        ("Residual", {"keep_latency": 0.5}, "Cannot prune with keep_latency: .* nothing measures; give measure"),
        ("Residual", {"multiple": "auto"}, 'Cannot prune with multiple = "auto": .* nothing measures; give measure'),
        ("Residual", {"keep_params": 0.01}, r"Cannot prune to 1.0% of the parameters: .* narrowest 3\.3% remain"),
        ("Residual", {"keep_latency": 0.5, "measure": lambda _: 1.0}, r"least that was measured is 100\.0% \("),
        ("Residual", {"keep_macs": 0.01}, r"Cannot prune to 1.0% of the MACs: .* narrowest 2\.7% remain"),
        ("Chain", {"ignore": ["conv1", "conv2", "fc1"]}, "no group of channels may be cut .conv1: conv1 is named"),
        ("Chain", {"criterion": lambda filters: filters}, "criterion must return 8 finite numbers"),
    ],
)  # fmt: skip
def test_impossible_requests(make: Make, example: Tensor, name: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(EdgeLatheError, match=message):
        plan_channels(make(name), example, **settings)  # type: ignore[arg-type]


def _macs_and_overhead(example: Tensor) -> Callable[[nn.Module], float]:
    """A runtime that takes 5 ns per MAC and 100 us for each network."""
    return lambda network: 1e-4 + 5e-9 * count_macs(network, example)[0]


@pytest.mark.parametrize("scope", ["uniform", "global", "isomorphic"])
@pytest.mark.parametrize("name", ["Inverted", "Dense", "Residual"])
def test_every_scope_meets_every_target(make: Make, example: Tensor, name: str, scope: Scope) -> None:
    model = make(name)
    pruned, plan = prune_channels(model, example, criterion="l1", keep_params=0.6, scope=scope)
    assert 0.3 * plan.parameters_before < plan.parameters_after <= 0.6 * plan.parameters_before
    assert (plan.target, plan.keep, plan.scope) == ("parameters", 0.6, scope)
    _same_outputs(model, pruned, plan, example)
    pruned, plan = prune_channels(model, example, criterion="l1", keep_macs=0.6, scope=scope)
    assert 0.3 * plan.macs_before < plan.macs_after <= 0.6 * plan.macs_before
    _same_outputs(model, pruned, plan, example)


def test_no_wider_parameters_are_within_the_target(make: Make, example: Tensor) -> None:
    """All widths that the uniform scope allows: stream and inner layer keep the same share, rounded half up."""
    plan = plan_channels(make("Residual"), example, keep_params=0.5)
    tried = {}
    for number in range(1, 200):
        s, i = (max(1, int(number / 200 * width + 0.5)) for width in (8, 10))
        tried[s, i] = (27 * s + s) + (9 * s * i + i) + (9 * i * s + s) + (4 * s + 4)
    fitting = {widths: parameters for widths, parameters in tried.items() if parameters <= plan.parameters_before / 2}
    best = max(fitting, key=lambda widths: fitting[widths])
    assert (_widths(plan)["stem"][1], _widths(plan)["inner"][1]) == best
    assert plan.parameters_after == fitting[best]


def test_global_scope_takes_from_the_group_of_least_importance(make: Make, example: Tensor) -> None:
    model = make("Residual")
    with torch.no_grad():
        model.inner.weight[2:] = 1e-6  # type: ignore[union-attr, index]
        model.inner.weight[:2] = 1.0  # type: ignore[union-attr, index]
        for stream in (model.stem, model.outer):
            stream.weight.fill_(1.0)  # type: ignore[union-attr, operator]
    plan = plan_channels(model, example, criterion="l1", keep_macs=0.5, scope="global")
    assert _widths(plan)["stem"] == (8, 8)
    inner = next(group for group in plan.groups if group.layer == "inner")
    assert {0, 1} < set(inner.keep)
    assert plan.macs_after == 64 * 9 * (3 * 8 + 2 * 8 * inner.after) + 4 * 8 <= plan.macs_before / 2
    assert str(plan).startswith("l1, global: ")


def test_latency_is_hit_and_what_was_measured_is_in_the_plan(make: Make, example: Tensor) -> None:
    model = make("Inverted")
    measure = _macs_and_overhead(example)
    pruned, plan = prune_channels(model, example, criterion="l1", keep_latency=0.7, measure=measure)
    assert plan.target == "latency"
    assert plan.latency_before == measure(model) == plan.latencies[0].latency
    assert plan.latency_after == pytest.approx(measure(pruned), rel=1e-12)
    assert plan.latency_after == pytest.approx(0.7 * plan.latency_before, rel=0.05)
    assert plan.latencies[0].macs == plan.macs_before
    assert sum(trial.macs == plan.macs_after for trial in plan.latencies) >= 2
    assert "; latency " in str(plan).splitlines()[0]
    assert PruningPlan.from_json(plan.to_json()) == plan


def test_multiples_are_measured(make: Make, example: Tensor) -> None:
    """Convolutions are computed in blocks of 4 outputs, so that groups of 8 and 10 channels go to multiples of 4."""

    def measure(network: nn.Module) -> float:
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
        return 1.0 + sum(layer.in_channels * -(-layer.out_channels // 4) for layer in layers[:2])

    plan = plan_channels(make("Residual"), example, keep_macs=0.6, multiple="auto", measure=measure)
    assert plan.multiple == "auto"
    assert [(found.layer, found.multiple) for found in plan.multiples] == [("stem", 4), ("inner", 4)]
    assert plan.multiples[0].reason in str(plan)
    assert {group.after for group in plan.groups if not group.reason} == {4, 8}
    assert plan.latencies == ()


def test_networks_that_cannot_run_or_be_followed(make: Make, example: Tensor) -> None:
    with pytest.raises(EdgeLatheError, match=r"Cannot run the network on images of shape \[1 x 8 x 8\]"):
        plan_channels(make("Residual"), example[:, :1])
    broken = make("Residual")
    with torch.no_grad():
        broken.fc.bias.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(EdgeLatheError, match="does not return one tensor of finite numbers"):
        plan_channels(broken, example)


def test_frozen_and_training_networks_stay_so(make: Make, example: Tensor) -> None:
    model = make("Residual").train().requires_grad_(False)
    pruned, _ = prune_channels(model, example, keep_macs=0.5)
    assert all(module.training for module in pruned.modules())
    assert not any(parameter.requires_grad for parameter in pruned.parameters())


def test_pruned_network_trains(make: Make, example: Tensor) -> None:
    pruned, _ = prune_channels(make("Inverted"), example, keep_macs=0.5)
    pruned.train()(example).sum().backward()
    assert all(parameter.grad is not None for parameter in pruned.parameters())


def test_published_resnet32_at_half_the_macs(test_data: Path) -> None:
    model = zoo.build("cifar_resnet32", num_classes=10).eval()
    weights.load_weights(model, next((test_data / "weights" / "cifar10").glob("resnet32*.th")))
    example = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    pruned, plan = prune_channels(model, example, criterion="fpgm", keep_macs=0.5)
    assert (plan.macs_before, plan.parameters_before) == (68_862_592, 464_154)
    assert 0.49 < plan.macs_after / plan.macs_before <= 0.5
    assert set(_widths(plan).values()) == {(16, 16), (32, 32), (64, 64), (16, 8), (32, 16), (64, 31), (10, 10)}  # fmt: skip  # noqa: E501
    assert sum(not group.reason for group in plan.groups) == 15
    _same_outputs(model, pruned, plan, example)
