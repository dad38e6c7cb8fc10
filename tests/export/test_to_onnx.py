"""The exported file: what is in it, that it computes the same, that it is the same twice; every refusal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from edgelathe import errors
from edgelathe.errors import EdgeLatheError
from edgelathe.export.metadata import describe_model, read_metadata
from edgelathe.export.parity import check_parity, torch_reference
from edgelathe.export.to_onnx import export_onnx
from edgelathe.models import zoo
from edgelathe.models.exits import Exit, Exits, NetworkWithExits
from edgelathe.models.weights import load_weights
from torch import Tensor, nn


class OptionA(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))


class Gate(nn.Module):
    """Squeeze and excite."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, 2, 1)
        self.expand = nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(F.silu(self.reduce(x.mean([2, 3], keepdim=True)))))


class Everything(nn.Module):
    """One layer of each kind that the zoo has, about 1,000 parameters."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.conv = nn.Conv2d(width, 8, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.option_a = OptionA()
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU6())
        self.gate = Gate(8)
        self.hard = nn.Sequential(nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4), nn.Hardswish(), nn.Dropout(0.5))
        self.norm = nn.BatchNorm2d(12)
        self.last = nn.Sequential(nn.Conv2d(12, 6, 1), nn.Identity(), nn.AvgPool2d(2), nn.MaxPool2d(2))
        self.fc = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = F.relu(self.bn(self.conv(x)) + self.option_a(x))
        y = self.gate(self.depthwise(y))
        y = torch.cat([y, self.hard(y)], 1)
        return self.fc(self.last(F.relu(self.norm(y))).mean([2, 3]))


def settled(model: nn.Module, seed: int) -> nn.Module:
    """Every batch normalization as after a training: nothing at its neutral value."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            with torch.no_grad():
                module.running_mean.normal_(generator=generator, std=0.1)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(generator=generator, std=0.1)
    return model


def make(model: type[nn.Module] = Everything, *, seed: int = 0, **arguments: int) -> nn.Module:
    torch.manual_seed(seed)
    return settled(model(**arguments), seed)


def images(count: int, shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


EXAMPLE = torch.zeros(1, 3, 16, 16)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path, onnx.ModelProto]:
    model = make().train()
    path = tmp_path_factory.mktemp("export") / "everything.onnx"
    export_onnx(model, EXAMPLE, path, metadata=describe_model(mean=[0.5], std=[0.25], classes=["a", "b"]))
    return model, path, onnx.load(path)


def test_header(exported: tuple[nn.Module, Path, onnx.ModelProto]) -> None:
    _, _, file = exported
    onnx.checker.check_model(file, full_check=True)
    assert [(opset.domain, opset.version) for opset in file.opset_import] == [("", 18)]
    assert file.ir_version == 8
    assert file.producer_name == "edgelathe"
    assert not file.functions


def test_inputs_and_outputs(exported: tuple[nn.Module, Path, onnx.ModelProto]) -> None:
    _, _, file = exported
    described = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*file.graph.input, *file.graph.output)
    }
    assert described == {"input": ["batch", 3, 16, 16], "logits": ["batch", 5]}


def test_operators_are_few_and_standard(exported: tuple[nn.Module, Path, onnx.ModelProto]) -> None:
    _, _, file = exported
    assert {node.domain for node in file.graph.node} == {""}
    assert Counter(node.op_type for node in file.graph.node) == {
        "Conv": 7, "Relu": 3, "Slice": 1, "Pad": 1, "Add": 1, "Clip": 1, "GlobalAveragePool": 2, "Sigmoid": 2,
        "Mul": 2, "HardSwish": 1, "Concat": 1, "BatchNormalization": 1, "AveragePool": 1, "MaxPool": 1,
        "Flatten": 1, "Gemm": 2,
    }  # fmt: skip


def test_names_are_those_of_the_modules(exported: tuple[nn.Module, Path, onnx.ModelProto]) -> None:
    _, _, file = exported
    names = [node.name for node in file.graph.node]
    assert len(set(names)) == len(names)
    assert names[:8] == [
        "stem.0", "stem.2/Relu", "conv", "option_a/Slice", "option_a/Pad", "Add", "Relu", "depthwise.0",
    ]  # fmt: skip
    assert {"gate.reduce", "gate.expand", "hard.0", "norm", "last.0", "fc.0", "fc.3"} <= set(names)
    assert {"conv.weight", "conv.bias", "norm.running_var", "fc.3.weight"} <= {
        tensor.name for tensor in file.graph.initializer
    }


def test_every_value_has_a_shape_with_a_free_batch(exported: tuple[nn.Module, Path, onnx.ModelProto]) -> None:
    _, _, file = exported
    shapes = {value.name: value.type.tensor_type.shape.dim[0].dim_param for value in file.graph.value_info}
    produced = {name for node in file.graph.node for name in node.output} - {"logits"}
    assert set(shapes) == produced
    assert set(shapes.values()) == {"batch"}


def test_same_results_at_every_batch_size(exported: tuple[nn.Module, Path, onnx.ModelProto]) -> None:
    model, path, _ = exported
    parity = check_parity(
        torch_reference(model), path, images(14, (3, 16, 16), seed=1), batches=(1, 2, 7), tolerance=1e-5
    )
    assert parity.passed, parity.reason
    assert parity.agreement == 1.0


def test_nothing_of_this_machine_in_the_file(exported: tuple[nn.Module, Path, onnx.ModelProto]) -> None:
    _, path, file = exported
    content = path.read_bytes()
    for trace in (str(Path.home()), sys.prefix, str(Path(__file__).parent), ".py", "pkg.torch", "torch.nn"):
        assert trace.encode() not in content, trace
    assert all(not node.metadata_props and not node.doc_string for node in file.graph.node)
    assert all(not tensor.HasField("data_location") for tensor in file.graph.initializer)


def test_metadata_is_in_the_file(exported: tuple[nn.Module, Path, onnx.ModelProto]) -> None:
    _, path, file = exported
    assert [entry.key for entry in file.metadata_props] == [
        "edgelathe.classes", "edgelathe.mean", "edgelathe.std", "edgelathe.tool_version",
    ]  # fmt: skip
    assert read_metadata(path).mean == (0.5,)
    assert json.loads(file.metadata_props[0].value) == ["a", "b"]


def test_same_bytes_again_and_the_model_untouched(
    exported: tuple[nn.Module, Path, onnx.ModelProto], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, path, _ = exported
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other_images = torch.rand(5, 3, 16, 16)
    export_onnx(
        model,
        other_images,
        tmp_path / "again.onnx",
        metadata=describe_model(mean=[0.5], std=[0.25], classes="ab"),
    )
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert [entry.name for entry in tmp_path.iterdir()] == ["again.onnx"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_same_bytes_in_another_process(exported: tuple[nn.Module, Path, onnx.ModelProto], tmp_path: Path) -> None:
    _, path, _ = exported
    script = tmp_path / "script.py"
    script.write_text(
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('tests_of_export', {str(Path(__file__))!r})\n"
        "module = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(module)\n"
        "metadata = module.describe_model(mean=[0.5], std=[0.25], classes=['a', 'b'])\n"
        "module.export_onnx(module.make(), module.EXAMPLE, sys.argv[1], metadata=metadata)\n"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    subprocess.run(
        [sys.executable, script, tmp_path / "b.onnx"],
        check=True,
        env=environment,
        cwd=tmp_path,
        capture_output=True,
    )
    assert (tmp_path / "b.onnx").read_bytes() == path.read_bytes()


def test_a_narrower_network_keeps_the_names(exported: tuple[nn.Module, Path, onnx.ModelProto], tmp_path: Path) -> None:
    class Narrow(Everything):
        pass

    model = make(Narrow, seed=1)
    model.gate.reduce = nn.Conv2d(8, 1, 1)
    model.gate.expand = nn.Conv2d(1, 8, 1)
    export_onnx(model, EXAMPLE, tmp_path / "narrow.onnx")
    narrow = onnx.load(tmp_path / "narrow.onnx")
    assert [node.name for node in narrow.graph.node] == [node.name for node in exported[2].graph.node]


def test_memory_layout_does_not_show(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    export_onnx(model, EXAMPLE, tmp_path / "a.onnx")
    last = model.to(memory_format=torch.channels_last)
    export_onnx(last, EXAMPLE.to(memory_format=torch.channels_last), tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_fixed_batch(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    export_onnx(model, torch.zeros(3, 3, 2, 2), tmp_path / "m.onnx", dynamic_batch=False)
    dims = onnx.load(tmp_path / "m.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [3, 3, 2, 2]


def test_newer_opset(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.GELU())
    export_onnx(model, torch.zeros(1, 1, 4, 4), tmp_path / "m.onnx", opset=20)
    file = onnx.load(tmp_path / "m.onnx")
    assert (file.opset_import[0].version, file.ir_version) == (20, 9)
    assert [node.op_type for node in file.graph.node] == ["Conv", "Gelu"]
    assert check_parity(
        torch_reference(model),
        tmp_path / "m.onnx",
        images(3, (1, 4, 4), seed=0),
        batches=(3,),
        tolerance=1e-5,
    ).passed


FAMILIES = {
    "cifar_resnet8": ({}, {"Conv": 7, "Relu": 7, "Add": 3, "Slice": 2, "Pad": 2}),
    "cifar_densenet": (
        {"growth": 4, "blocks": (2, 2)},
        {"Conv": 10, "BatchNormalization": 6, "Relu": 11, "Concat": 4, "AveragePool": 1},
    ),
    "cifar_mobilenet_v2": ({"width_mult": 0.1}, {"Conv": 52, "Clip": 35, "Add": 12}),
    "cifar_efficientnet_b0": ({"width_mult": 0.1}, {"Conv": 81, "Sigmoid": 65, "Mul": 65, "Add": 11}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_zoo(name: str, tmp_path: Path) -> None:
    arguments, expected = FAMILIES[name]
    torch.manual_seed(0)
    model = settled(zoo.build(name, num_classes=10, **arguments), seed=0)
    export_onnx(model, torch.zeros(1, 3, 32, 32), tmp_path / "m.onnx")
    found = Counter(node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node)
    pools = 17 if name == "cifar_efficientnet_b0" else 1
    assert found == expected | {"GlobalAveragePool": pools, "Flatten": 1, "Gemm": 1}
    parity = check_parity(
        torch_reference(model),
        tmp_path / "m.onnx",
        images(7, (3, 32, 32), seed=2),
        batches=(1, 2, 7),
        tolerance=1e-4,
    )
    assert parity.passed, parity.reason


def test_published_resnet20(test_data: Path, tmp_path: Path) -> None:
    model = zoo.build("cifar_resnet20", num_classes=10)
    load_weights(model, next((test_data / "weights/cifar10").glob("resnet20*.th")))
    export_onnx(model, torch.zeros(1, 3, 32, 32), tmp_path / "m.onnx")
    with np.load(test_data / "cifar10/test-1000.npz", allow_pickle=False) as file:
        x, y = file["x"][:64], file["y"][:64]
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    inputs = np.ascontiguousarray(((x / np.float32(255) - mean) / std).transpose(0, 3, 1, 2))
    reference = torch_reference(model)
    parity = check_parity(reference, tmp_path / "m.onnx", inputs, batches=(1, 2, 7, 64), tolerance=1e-5)
    assert parity.passed, parity.reason
    assert parity.agreement == 1.0
    assert (reference(inputs).argmax(axis=1) == y).mean() > 0.85


# --- refusals ------------------------------------------------------------------------------------------


class FixedBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, -1)


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.svd(x)[1].flatten(1)


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class OneNumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean()


CANNOT = "Cannot export the network"
REFUSALS = {
    "fixed batch": (FixedBatch(), {}, EXAMPLE, str(errors.export.network_fixes_batch())),
    "no counterpart": (Unknown(), {}, EXAMPLE, f"{CANNOT} to ONNX: ONNX has no counterpart of aten._linalg_svd;"),
    "branches": (Branches(), {}, EXAMPLE, f"{CANNOT} to ONNX: Could not guard on data-dependent expression"),
    "two outputs": (Pair(), {}, EXAMPLE, f"{CANNOT}: it returns a tuple instead of one float32 tensor"),
    "no batch": (OneNumber(), {}, EXAMPLE, f"{CANNOT}: it returns a float32 tensor of shape [] instead of"),
    "channels": (nn.Conv2d(1, 2, 1), {}, EXAMPLE, "Cannot run the network on images of shape [3 x 16 x 16] "),
    "old opset": (nn.ReLU(), {"opset": 17}, EXAMPLE, "Cannot use opset = 17: it must be from 18 to 23."),
    "float64": (nn.ReLU(), {}, EXAMPLE.double(), "Cannot export with an example of type float64 and shape [1, 3,"),
    "no image": (nn.ReLU(), {}, EXAMPLE[:0], "Cannot export with an example of type float32 and shape [0, 3, 16,"),
    "one image": (nn.ReLU(), {}, EXAMPLE[0], "Cannot export with an example of type float32 and shape [3, 16, 16]"),
    "metadata": (nn.ReLU(), {"metadata": {"k": 3}}, EXAMPLE, 'Cannot use the metadata "k": its value is int and'),
}


@pytest.mark.parametrize("model, arguments, example, message", REFUSALS.values(), ids=REFUSALS.keys())
def test_refusals(
    model: nn.Module,
    arguments: dict,
    example: Tensor,
    message: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(EdgeLatheError, match=f"^{re.escape(message)}") as caught:
        export_onnx(model, example, tmp_path / "m.onnx", **arguments)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_nan_in_the_weights(tmp_path: Path) -> None:
    model = make()
    with torch.no_grad():
        model.conv.weight[3, 0, 0, 0] = float("nan")
    with pytest.raises(EdgeLatheError) as caught:
        export_onnx(model, EXAMPLE, tmp_path / "m.onnx")
    assert str(caught.value) == str(errors.export.parameters_not_finite("conv.weight"))
    assert not list(tmp_path.iterdir())


def test_unwritable_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EdgeLatheError, match=r"^Cannot write the ONNX model .*file/m\.onnx: "):
        export_onnx(nn.Flatten(), EXAMPLE, tmp_path / "file" / "m.onnx")


# --- early exits --------------------------------------------------------------------------------------------


def test_exits_are_named_outputs_and_change_no_name_of_the_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    exits = Exits([Exit("0", 4, 8, 4, (4, 4), 3), Exit("1", 4, 8, 4, (2, 2), 3)])
    with_exits = NetworkWithExits(network, exits).eval()
    export_onnx(with_exits, torch.zeros(1, 3, 8, 8), tmp_path / "exits.onnx")
    export_onnx(network, torch.zeros(1, 3, 8, 8), tmp_path / "alone.onnx")
    graph, alone = (onnx.load(tmp_path / f"{name}.onnx").graph for name in ("exits", "alone"))
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in graph.output
    }
    assert list(shapes) == ["logits", "exit_0", "exit_1"]
    assert all(shape == ["batch", 3] for shape in shapes.values())

    beside = {node.name for node in graph.node} - {node.name for node in alone.node}
    assert {node.name for node in alone.node} <= {node.name for node in graph.node}
    assert {tensor.name for tensor in alone.initializer} <= {tensor.name for tensor in graph.initializer}
    assert beside
    assert all(name.startswith("exits.classifiers.") for name in beside)

    inputs = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
    path = tmp_path / "exits.onnx"
    for number in range(3):
        reference = torch_reference(with_exits, output=number)
        assert check_parity(reference, path, inputs, batches=(1, 3), tolerance=1e-5, output=number).passed
    swapped = check_parity(torch_reference(with_exits, output=1), path, inputs, batches=(1,), tolerance=1e-2, output=2)
    assert not swapped.passed
