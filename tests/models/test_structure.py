"""Pruned networks survive the disk bit for bit, and files that were tampered with are refused."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_pruning
from edgelathe.compress.prune.channels import prune_channels
from edgelathe.errors import EdgeLatheError
from edgelathe.models import attention, zoo
from edgelathe.models.edits import Edit, make_edit, refusal
from edgelathe.models.structure import STRUCTURE, TENSORS, NetworkSpec, load_network, save_network
from edgelathe.models.weights import load_weights
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.regnet import BlockParams, RegNet

from .. import transformers

TINY = [
    NetworkSpec("cifar_resnet8", {"num_classes": 3, "in_channels": 3, "width": 4}),
    NetworkSpec("cifar_resnet8", {"num_classes": 3, "in_channels": 1, "width": 4, "shortcut": "B"}),
    NetworkSpec("mlperf_resnet8", {"num_classes": 3, "in_channels": 3, "width": 4}),
    NetworkSpec("cifar_densenet", {"num_classes": 3, "in_channels": 3, "growth": 4, "blocks": [2, 2]}),
    NetworkSpec("cifar_mobilenet_v2", {"num_classes": 3, "in_channels": 3, "width_mult": 0.25}),
    NetworkSpec("cifar_efficientnet_b0", {"num_classes": 3, "in_channels": 3, "width_mult": 0.25}),
    NetworkSpec("torchvision:squeezenet1_1", {"num_classes": 3, "in_channels": 3}),
]


def _example(spec: NetworkSpec) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, spec.arguments["in_channels"], 32, 32, generator=generator)


def _build(spec: NetworkSpec) -> nn.Module:
    """With statistics that make batch norms matter."""
    torch.manual_seed(0)
    model = zoo.build(spec.source, **spec.arguments)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def _prune(model: nn.Module, spec: NetworkSpec) -> nn.Module:
    """Remove the first channel wherever that can be done; the residual stream of option A cannot be cut."""
    graph = torch_pruning.DependencyGraph()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph.build_dependency(model, example_inputs=_example(spec))
    inner_only = spec.source == "cifar_resnet8" and "shortcut" not in spec.arguments
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.out_channels > 1:
            if inner_only and not (name.endswith("conv1") and "layer" in name):
                continue
            group = graph.get_pruning_group(layer, torch_pruning.prune_conv_out_channels, [0])
            if graph.check_pruning_group(group):
                group.prune()
    return model


def _halve(model: nn.Module) -> nn.Module:
    return prune_channels(model, torch.randn(2, 3, 32, 32), keep_macs=0.5)[0]


def _outputs(model: nn.Module, spec: NetworkSpec) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(_example(spec))


def _refusal(folder: Path) -> str:
    with pytest.raises(EdgeLatheError) as refusal:
        load_network(folder)
    return str(refusal.value)


@pytest.mark.parametrize("spec", TINY, ids=lambda spec: spec.source)
@pytest.mark.parametrize("pruned", [False, True])
def test_outputs_survive_a_round_trip_bit_for_bit(spec: NetworkSpec, pruned: bool, tmp_path: Path) -> None:
    model = _build(spec)
    if pruned:
        before = sum(parameter.numel() for parameter in model.parameters())
        model = _prune(model, spec)
        assert sum(parameter.numel() for parameter in model.parameters()) < before
    save_network(model, spec, tmp_path)
    rebuilt = load_network(tmp_path)
    assert torch.equal(_outputs(rebuilt, spec), _outputs(model, spec))
    for (name, layer), other in zip(model.named_modules(), rebuilt.modules(), strict=True):
        assert layer.extra_repr() == other.extra_repr(), name


def test_files_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    model = _prune(_build(TINY[0]), TINY[0])
    for name in ("a", "b"):
        save_network(model, TINY[0], tmp_path / name)
    save_network(load_network(tmp_path / "a"), TINY[0], tmp_path / "c")
    for file in (STRUCTURE, TENSORS):
        assert len({(tmp_path / name / file).read_bytes() for name in ("a", "b", "c")}) == 1
    widths = json.loads((tmp_path / "a" / STRUCTURE).read_text())["layers"]["layer1.0.conv1"]
    assert widths == {"in_channels": 4, "out_channels": 3, "groups": 1}


def test_loading_leaves_the_random_state_alone(tmp_path: Path) -> None:
    save_network(_build(TINY[0]), TINY[0], tmp_path)
    state = torch.get_rng_state()
    load_network(tmp_path)
    assert torch.equal(state, torch.get_rng_state())


class _Mixed(nn.Module):
    """Every kind of layer that can be narrowed, a bare parameter, tied weights and a frozen one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 1)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.up = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.group_norm = nn.GroupNorm(2, width)
        self.prelu = nn.PReLU(width)
        self.norm = nn.LayerNorm(width)
        self.scale = nn.Parameter(torch.rand(width))
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.second.weight = self.first.weight
        self.scale.requires_grad = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.prelu(self.group_norm(self.up(self.depthwise(self.conv(x)))))
        return self.second(self.first(self.norm(x.mean((2, 3))) * self.scale))


def test_every_kind_of_layer_is_narrowed(tmp_path: Path) -> None:
    spec = NetworkSpec("mine.py:build", {"in_channels": 1})
    torch.manual_seed(0)
    narrow = _Mixed(width=6).double()
    save_network(narrow, spec, tmp_path)
    rebuilt = load_network(tmp_path, build=lambda _: _Mixed(width=8))
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    assert torch.equal(narrow(x), rebuilt(x))
    assert rebuilt.second.weight is rebuilt.first.weight
    assert not rebuilt.scale.requires_grad and rebuilt.first.weight.requires_grad


def test_a_users_file_is_not_run_because_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise SystemExit('this ran')")
    source = f"{tmp_path}/mine.py:build"
    save_network(nn.Linear(1, 1), NetworkSpec(source, {"num_classes": 1}), tmp_path)
    assert _refusal(tmp_path) == (
        f"Cannot rebuild the network in {tmp_path}: it was made by {source}, and what a file says is not "
        "run; pass the function that builds it."
    )


def test_changed_tensors_are_refused(tmp_path: Path) -> None:
    save_network(_build(TINY[0]), TINY[0], tmp_path)
    data = bytearray((tmp_path / TENSORS).read_bytes())
    data[-1] ^= 1
    (tmp_path / TENSORS).write_bytes(data)
    assert _refusal(tmp_path) == (
        f"Cannot rebuild the network from {tmp_path / TENSORS}: its SHA-256 is not the one in {STRUCTURE}; "
        "restore the file or save it again."
    )


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("version",), 4, "version Input should be 1, 2 or 3"),
        (("edits",), [{"module": "conv1", "becomes": "identity"}], "conv1 is no squeeze-and-excitation block"),
        (("edits",), [{"module": "conv1", "becomes": "relu6"}], "conv1 (Conv2d) is no activation that relu6 stands in"),
        (("edits",), [{"module": "conv1", "becomes": "os.system"}], "edits.0.becomes Input should be 'relu6', 're"),
        (("edits",), [{"module": "act", "becomes": "relu6"}], 'it has no module "act"'),
        (("edits",), [{"module": "act", "becomes": "relu6", "code": "x"}], "edits.0.code Unexpected keyword argument"),
        (("extra",), 1, "extra Extra inputs are not permitted"),
        (("layers", "conv1", "out_channels"), 5, "out_channels of conv1 is 5, which cannot be cut from 4"),
        (("layers", "conv1", "out_channels"), 3, "conv1.weight is [4, 3, 3, 3] and not [3, 3, 3, 3] as in "),
        (("layers", "conv1", "out_channels"), -1, "out_channels of conv1 is -1, which cannot be cut from 4"),
        (("layers", "conv1", "stride"), 1, "the widths of conv1 are not in_channels, out_channels, groups"),
        (("layers", "conv9"), {}, "it and the network differ in the layer conv9"),
        (("arguments",), {}, "cifar_resnet8 lacks arguments"),
        (("arguments", "width"), 2, "which cannot be cut from"),
        (("source",), "cifar_resnet20", "it and the network differ in the layer layer1.1.bn1"),
    ],
)
def test_changed_structure_is_refused(path: list[str], value: object, reason: str, tmp_path: Path) -> None:
    save_network(_build(TINY[0]), TINY[0], tmp_path)
    structure = json.loads((tmp_path / STRUCTURE).read_text())
    place = structure
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / STRUCTURE).write_text(json.dumps(structure))
    message = _refusal(tmp_path)
    assert message.startswith(f"Cannot rebuild the network from {tmp_path}/") and reason in message


EFFICIENTNET = NetworkSpec("cifar_efficientnet_b0", {"num_classes": 3, "in_channels": 3, "width_mult": 0.25})


def _simplify(model: nn.Module) -> nn.Module:
    """Two edits of one activation, one of an activation inside a block, and that block dropped."""
    for edit in (
        Edit("features.0.2", "hardswish"),
        Edit("features.0.2", "relu6"),
        Edit("features.1.conv.1.activation", "relu"),
        Edit("features.1.conv.1", "identity"),
        Edit("features.3.conv.1.2", "relu"),
    ):
        assert refusal(model, edit) == ""
        make_edit(model, edit)
    return model


@pytest.mark.parametrize("order", [(_simplify,), (_simplify, _halve), (_halve, _simplify)])
def test_edited_networks_survive_a_round_trip_before_and_after_pruning(
    order: tuple[Callable[[nn.Module], nn.Module], ...], tmp_path: Path
) -> None:
    model = _build(EFFICIENTNET)
    for change in order:
        model = change(model)
    save_network(model, EFFICIENTNET, tmp_path / "a")
    rebuilt = load_network(tmp_path / "a")
    assert torch.equal(_outputs(rebuilt, EFFICIENTNET), _outputs(model, EFFICIENTNET))
    assert [type(module) for module in rebuilt.modules()] == [type(module) for module in model.modules()]
    save_network(rebuilt, EFFICIENTNET, tmp_path / "b")
    for file in (STRUCTURE, TENSORS):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_users_network_is_edited_after_it_was_built(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 2), nn.SiLU())

    model = build()
    make_edit(model, Edit("1", "hardswish"))
    save_network(model, NetworkSpec("mine.py:build"), tmp_path)
    rebuilt = load_network(tmp_path, build=lambda _: build())
    x = torch.randn(3, 2)
    assert torch.equal(rebuilt(x), model(x))


def test_files_of_version_1_are_still_read(tmp_path: Path) -> None:
    model = _prune(_build(TINY[0]), TINY[0])
    save_network(model, TINY[0], tmp_path)
    structure = json.loads((tmp_path / STRUCTURE).read_text())
    assert structure.pop("edits") == []
    (tmp_path / STRUCTURE).write_text(json.dumps(structure | {"version": 1}))
    assert torch.equal(_outputs(load_network(tmp_path), TINY[0]), _outputs(model, TINY[0]))
    (tmp_path / STRUCTURE).write_text(json.dumps(structure | {"version": 1, "edits": [asdict(Edit("1", "relu"))]}))
    assert "version 1 has no edits" in _refusal(tmp_path)


def test_an_edit_that_was_taken_out_of_the_file_is_noticed(tmp_path: Path) -> None:
    save_network(_simplify(_build(EFFICIENTNET)), EFFICIENTNET, tmp_path)
    structure = json.loads((tmp_path / STRUCTURE).read_text())
    dropped = structure["edits"].pop(3)
    assert dropped == {"module": "features.1.conv.1", "becomes": "identity"}
    (tmp_path / STRUCTURE).write_text(json.dumps(structure))
    assert "it and the network differ in the layer features.1.conv.1.expand" in _refusal(tmp_path)


def test_built_in_layers_of_unknown_widths_are_refused(tmp_path: Path) -> None:
    save_network(nn.Bilinear(2, 2, 3), NetworkSpec("mine.py:build"), tmp_path)
    with pytest.raises(EdgeLatheError, match="bias cannot be narrowed: its layer's widths are unknown"):
        load_network(tmp_path, build=lambda _: nn.Bilinear(2, 2, 4))


def test_truncated_and_missing_files(tmp_path: Path) -> None:
    assert _refusal(tmp_path) == (
        f"Cannot read the network {tmp_path / STRUCTURE}: there is no such file; check the path."
    )
    save_network(_build(TINY[0]), TINY[0], tmp_path)
    text = (tmp_path / STRUCTURE).read_text()
    (tmp_path / STRUCTURE).write_text(text[: len(text) // 2])
    assert f"Cannot rebuild the network from {tmp_path / STRUCTURE}: Invalid JSON" in _refusal(tmp_path)
    (tmp_path / STRUCTURE).write_text(text)
    (tmp_path / TENSORS).unlink()
    assert _refusal(tmp_path).startswith(f"Cannot read the network {tmp_path / TENSORS}: ")


def _convnext() -> nn.Module:
    setting = [CNBlockConfig(8, 12, 1), CNBlockConfig(12, None, 1)]
    return ConvNeXt(setting, layer_scale=1.0, num_classes=3)


def _regnet() -> nn.Module:
    return RegNet(BlockParams([1, 1], [8, 16], [4, 4], [1.0, 1.0], [2, 2], 0.25), num_classes=3, stem_width=8)


GROUPED = "trunk_output.block1.block1-0.f.b.0"


def _pruned(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return _halve(build().eval()).eval()


@pytest.mark.parametrize("build", [_convnext, _regnet])
def test_norms_over_channels_bare_scales_and_grouped_convolutions_survive(
    build: Callable[[], nn.Module], tmp_path: Path
) -> None:
    model = _pruned(build)
    save_network(model, NetworkSpec("mine.py:build"), tmp_path)
    rebuilt = load_network(tmp_path, build=lambda _: build()).eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(rebuilt(x), model(x))
    assert [layer.extra_repr() for layer in rebuilt.modules()] == [layer.extra_repr() for layer in model.modules()]


@pytest.mark.parametrize(
    ("build", "path", "value", "reason"),
    [
        (_convnext, ("features.0.1", "normalized_shape"), [3], "features.0.1.weight is ["),
        (_convnext, ("features.0.1", "normalized_shape"), [9], "is [9], which cannot be cut from [8]"),
        (_convnext, ("features.0.1", "normalized_shape"), [5, 1], "is [5, 1], which cannot be cut from [8]"),
        (_convnext, ("features.0.1", "normalized_shape"), 5, "normalized_shape of features.0.1 is 5, which cannot be"),
        (_regnet, (GROUPED, "groups"), 1, f"{GROUPED}.weight is ["),
        (_regnet, (GROUPED, "groups"), 4, f"groups of {GROUPED} is 4, which cannot be cut from 2"),
    ],
)
def test_changed_widths_of_norms_and_groups_are_refused(
    build: Callable[[], nn.Module], path: tuple[str, str], value: object, reason: str, tmp_path: Path
) -> None:
    save_network(_pruned(build), NetworkSpec("mine.py:build"), tmp_path)
    structure = json.loads((tmp_path / STRUCTURE).read_text())
    structure["layers"][path[0]][path[1]] = value
    (tmp_path / STRUCTURE).write_text(json.dumps(structure))
    with pytest.raises(EdgeLatheError) as refusal:
        load_network(tmp_path, build=lambda _: build())
    assert reason in str(refusal.value)


@pytest.mark.parametrize("shape", [(9, 1, 1), (4, 2, 1), (4,)])
def test_a_bare_scale_that_cannot_have_been_cut_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    model = _pruned(_convnext)
    block = model.get_submodule("features.1.0")
    block.layer_scale = nn.Parameter(torch.ones(shape))
    save_network(model, NetworkSpec("mine.py:build"), tmp_path)
    with pytest.raises(EdgeLatheError) as refusal:
        load_network(tmp_path, build=lambda _: _convnext())
    wanted = f"features.1.0.layer_scale is {list(shape)}, which cannot be cut from [8, 1, 1]"
    assert wanted in str(refusal.value)


class _Versioned(nn.Linear):
    """Refuses a state dict that does not say which version made it, as torchvision's MNASNet does."""

    _version = 2

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: dict[str, Any], *rest: Any) -> None:
        assert metadata.get("version") == 2
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def test_modules_that_ask_for_their_version_are_told(tmp_path: Path) -> None:
    model = nn.Sequential(_Versioned(3, 2))
    save_network(model, NetworkSpec("mine.py:build"), tmp_path)
    rebuilt = load_network(tmp_path, build=lambda _: nn.Sequential(_Versioned(3, 2)))
    x = torch.ones(1, 3)
    assert torch.equal(rebuilt(x), model(x))
    load_weights(rebuilt, tmp_path / TENSORS)


HEADED = NetworkSpec("transformer.py:build", {})


def _save_without_heads(name: str, folder: Path) -> nn.Module:
    model = transformers.build(name)
    for place, module in enumerate(attention.attentions(model).values()):
        if place != 1:
            attention.keep_heads(module, torch.arange(1, attention.heads(module)))
    save_network(model, HEADED, folder)
    return model


@pytest.mark.parametrize("name", transformers.KINDS)
def test_transformers_without_some_heads_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    model = _save_without_heads(name, tmp_path / "a")
    rebuilt = load_network(tmp_path / "a", lambda spec: transformers.build(name))
    with torch.no_grad():
        assert torch.equal(rebuilt(transformers.images()), model(transformers.images()))
    assert [type(module) for module in rebuilt.modules()] == [type(module) for module in model.modules()]
    save_network(rebuilt, HEADED, tmp_path / "b")
    for file in (STRUCTURE, TENSORS):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("name", transformers.KINDS)
def test_heads_that_are_not_those_of_the_tensors_are_refused(name: str, tmp_path: Path) -> None:
    model = _save_without_heads(name, tmp_path)
    structure = json.loads((tmp_path / STRUCTURE).read_text())
    first = next(iter(attention.attentions(model)))
    assert structure["heads"][first] == attention.heads(model.get_submodule(first))

    def refusal_of(heads: dict[str, object], **changes: object) -> str:
        (tmp_path / STRUCTURE).write_text(json.dumps(structure | {"heads": heads} | changes))
        with pytest.raises(EdgeLatheError) as caught:
            load_network(tmp_path, lambda spec: transformers.build(name))
        return str(caught.value)

    before = attention.heads(attention.attentions(transformers.build(name))[first])
    for heads in (0, before + 1):
        assert f"{first} has {heads} heads, which cannot be cut from {before}" in refusal_of({first: heads})
    assert "is no attention whose heads are known" in refusal_of({f"{first}.nothing": 1})
    assert "version 2 has no heads" in refusal_of(structure["heads"], version=2)
    # Of a network in which no head is gone, and of one in which another number is.
    assert "as the heads in structure.json ask for" in refusal_of({})
    if before > 2:
        assert "cannot be cut from" in refusal_of(structure["heads"] | {first: before - 2})


def test_tensors_of_attention_that_lost_more_than_its_heads_are_refused(tmp_path: Path) -> None:
    model = transformers.build("vit")
    name, module = next(iter(attention.attentions(model).items()))
    for tensor in ("in_proj_weight", "in_proj_bias"):
        setattr(module, tensor, nn.Parameter(getattr(module, tensor)[:24]))
    save_network(model, HEADED, tmp_path)
    with pytest.raises(EdgeLatheError) as caught:
        load_network(tmp_path, lambda spec: transformers.build("vit"))
    assert f"{name}.in_proj_bias is [24] and not [96] as the heads in structure.json ask for" in str(caught.value)


def test_files_of_before_heads_were_cut_are_read(tmp_path: Path) -> None:
    model = transformers.build("vit")
    save_network(model, HEADED, tmp_path)
    structure = json.loads((tmp_path / STRUCTURE).read_text())
    del structure["heads"]
    (tmp_path / STRUCTURE).write_text(json.dumps(structure | {"version": 2}))
    rebuilt = load_network(tmp_path, lambda spec: transformers.build("vit"))
    with torch.no_grad():
        assert torch.equal(rebuilt(transformers.images()), model(transformers.images()))
