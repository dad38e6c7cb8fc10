from __future__ import annotations

import copy

import pytest
import torch
from edgelathe.compress import compiling
from edgelathe.compress.compiling import compile_anew
from edgelathe.compress.distill.features import FeaturePair, Features, paired_layers, paired_stages
from edgelathe.compress.distill.layers import Layer, layers_of
from edgelathe.errors import EdgeLatheError
from torch import Tensor, nn


class Block(nn.Module):
    """Widens at the resolution it gets, then halves it: its first layer is inside the next stage's block."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(inputs, 2 * outputs, 1)
        self.halve = nn.Conv2d(2 * outputs, outputs, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.halve(torch.relu(self.widen(x)))
        return halved


class Net(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU())
        self.pad = nn.ZeroPad2d(1)
        self.first = Block(width, width)
        self.second = nn.Sequential(Block(width, 2 * width), nn.ReLU())
        self.idle = nn.Conv2d(3, 3, 1)
        self.tokens = nn.Flatten(2)
        self.linear = nn.Linear(2 * width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(self.pad(self.stem(x))[:, :, 1:-1, 1:-1]))
        logits: Tensor = self.linear(self.tokens(x).mean(dim=2))
        return logits


INPUTS = torch.zeros(2, 3, 8, 8)


def test_stages_are_paired_by_resolution_where_both_have_it() -> None:
    student, teacher = layers_of(Net(), INPUTS), layers_of(Net(6), torch.zeros(2, 3, 16, 16))
    assert paired_stages(student, teacher) == (FeaturePair("first", "second", (4, 4, 4), (12, 4, 4)),)  # 4, 2 and 8, 4


def test_stages_without_a_common_resolution_are_paired_from_the_last() -> None:
    student = {"a": Layer((1, 9, 9)), "b": Layer((1, 5, 5))}
    teacher = {"c": Layer((1, 8, 8)), "d": Layer((1, 4, 4)), "e": Layer((1, 2, 2))}
    assert [(pair.student, pair.teacher) for pair in paired_stages(student, teacher)] == [("a", "d"), ("b", "e")]


def test_layers_by_name() -> None:
    layers = {"a": Layer((1, 8, 8)), "b": Layer((2,))}
    (pair,) = paired_layers(layers, {"a": Layer((5, 4, 4))}, ["a"])
    assert pair == FeaturePair("a", "a", (1, 8, 8), (5, 4, 4))
    (pair,) = paired_layers(layers, {"x": Layer((7,))}, {"b": "x"})
    assert pair == FeaturePair("b", "x", (2,), (7,))


def test_an_unknown_name_is_answered_by_the_nearest() -> None:
    layers = {f"layer{stage}.{block}": Layer((1, 8, 8)) for stage in (1, 2, 3) for block in range(4)}
    with pytest.raises(EdgeLatheError) as caught:
        paired_layers(layers, layers, {"layer1.0": "layer2.7"})
    message = str(caught.value)
    assert message.startswith('Cannot compare layer "layer2.7" of the teacher: it has no such layer that gives maps or')
    listed = message.split("first: ")[1]
    assert listed.split(", ")[:4] == ["layer2.0", "layer2.1", "layer2.2", "layer2.3"]
    assert listed.endswith(" and 4 more.")
    with pytest.raises(EdgeLatheError, match='Cannot compare layer "conv" of the student'):
        paired_layers(layers, layers, ["conv"])


def test_nothing_to_compare() -> None:
    with pytest.raises(EdgeLatheError, match=r"with layers = \[\]: nothing is named"):
        paired_layers({"a": Layer((1,))}, {"a": Layer((1,))}, [])
    with pytest.raises(EdgeLatheError, match="no layer of the student gives maps of more than one pixel; name layers"):
        paired_stages({"a": Layer((3,)), "b": Layer((3, 1, 1))}, {"c": Layer((1, 8, 8))})


def _hooks(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


def test_features_are_those_of_the_latest_pass_in_the_mode_that_counts_with_their_graph() -> None:
    network = Net().train()
    features = Features(["first", "linear"], "student")
    with features.listening(network):
        assert _hooks(network) == 2
        network(torch.ones(5, 3, 8, 8))
        logits = network(torch.ones(2, 3, 8, 8))
        with torch.no_grad():
            network.eval()(torch.ones(7, 3, 8, 8))
        found = features.take()
        assert found["first"].shape == (2, 4, 4, 4)
        assert torch.equal(found["linear"], logits)
        found["first"].sum().backward()
        assert network.get_parameter("stem.0.weight").grad is not None
        with pytest.raises(EdgeLatheError, match='layer "first" of the student: it did not run with this batch'):
            features.take()
    assert _hooks(network) == 0


def test_hooks_are_gone_after_an_exception_even_while_they_are_put_on() -> None:
    network = Net()
    with pytest.raises(KeyboardInterrupt), Features(["stem"], "teacher").listening(network):
        raise KeyboardInterrupt
    with pytest.raises(AttributeError), Features(["stem", "no such"], "teacher").listening(network):
        pass
    assert _hooks(network) == 0


def test_a_compiled_network_is_heard_though_its_like_was_compiled_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_by_inductor", lambda module, inputs: module.forward)
    network = Net().train()
    inputs = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    compile_anew(copy.deepcopy(network))(inputs)
    features = Features(["first"], "student")
    with features.listening(network):
        compiled = compile_anew(network)
        compiled(inputs)
        heard = features.take()["first"]
        network(inputs)
        assert torch.equal(heard, features.take()["first"])
    torch.compiler.reset()
