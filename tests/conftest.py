"""Fixtures that every test folder shares."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import settings
from onnx import TensorProto, helper, numpy_helper

# Toy networks gain nothing from a second thread, and threads that spin while they wait for each other crawl on a busy
# machine. Read when torch is first imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples on every run, and no limit on the time of one: machines that run tests are busy.
settings.register_profile("edgelathe", deadline=None, derandomize=True)
settings.load_profile("edgelathe")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real images and weights, named by EDGELATHE_TEST_DATA."""
    folder = os.environ.get("EDGELATHE_TEST_DATA")
    if not folder:
        pytest.skip("EDGELATHE_TEST_DATA does not name a folder of real images and weights")
    path = Path(folder)
    if not path.is_dir():
        pytest.skip(f"EDGELATHE_TEST_DATA names {folder}, which is no folder")
    return path.resolve()


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs `edgelathe` with the given words, in this process; all that reaches the terminal is caught."""
    from edgelathe import cli

    monkeypatch.setenv("COLUMNS", "120")

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["edgelathe", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capfd.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Ended(code or 0, printed.out, printed.err)

    return run


@pytest.fixture
def refused(command: Callable[..., Ended]) -> Callable[..., str]:
    """Runs a command that must refuse its input: exit code 2, nothing on standard output, one sentence on the
    other, which is returned; and with --json the same sentence as one JSON document."""

    def run(*words: object) -> str:
        ended = command(*words, "--quiet")
        assert (ended.code, ended.out) == (2, ""), ended
        sentence = ended.err.removesuffix("\n")
        assert sentence, "nothing was said"
        assert "\n" not in sentence
        assert "Traceback" not in sentence
        as_json = command(*words, "--json")
        assert (as_json.code, as_json.err) == (2, "")
        assert json.loads(as_json.out) == {"error": sentence}
        return sentence

    return run


TOY_RECIPE = """\
name = "toy"

[model]
source = "cifar_resnet8"

[data]
source = "digits"
limit_train = 640
limit_test = 120
calibration = 64

[[stages]]
do = "train"
epochs = 4
batch = 64
precision = "float32"           # nothing here may depend on a timing, nor on how busy the machine is
threads = 1

[[stages]]
do = "prune-channels"

[[stages]]
do = "distill"
epochs = 1
batch = 64
precision = "float32"
threads = 1

[[stages]]
do = "quantize"

[bench]
seconds = 0.1
memory = false

[gate]
size = "<= 0.5 x"
macs = "<= 0.5 x"
"""


@pytest.fixture(scope="session")
def toy_recipe() -> str:
    """A recipe of every kind of stage that takes a few seconds."""
    return TOY_RECIPE


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that recipe's finished run: runs/toy, beside toy.toml. Not to be written to."""
    import edgelathe

    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy.toml").write_text(TOY_RECIPE)
    return edgelathe.run(folder / "toy.toml", runs=folder / "runs")[1]


@dataclass(frozen=True)
class Disk:
    folder: Path
    why: str
    """What the system says when it is full."""


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Callable[[int], Disk]]:
    """Makes a folder on a disk of so many bytes. Where that cannot be mounted (only root can), no file may grow
    beyond them."""
    mounted: list[Path] = []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def make(size: int) -> Disk:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
        if shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
            mounted.append(folder)
            return Disk(folder, "No space left on device")
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        return Disk(folder, "File too large")

    yield make
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="session")
def resnet_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a CIFAR ResNet of `depth` layers (option A shortcuts, batch norm folded, seeded weights)."""
    folder = tmp_path_factory.mktemp("resnets")

    def save(depth: int, width: int = 16) -> Path:
        path = folder / f"resnet{depth}-{width}.onnx"
        if not path.exists():
            onnx.save_model(_cifar_resnet((depth - 2) // 6, width), path)
        return path

    return save


def _cifar_resnet(blocks: int, width: int) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []

    def keep(name: str, array: np.ndarray) -> str:
        stored.append(numpy_helper.from_array(array, name))
        return name

    def add(op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{op.lower()}{len(nodes)}"
        nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def conv(x: str, channels: int, filters: int, stride: int) -> str:
        scale = np.float32(np.sqrt(2 / (9 * channels)))
        shape = (filters, channels, 3, 3)
        weight = keep(f"w{len(stored)}", random.standard_normal(shape).astype(np.float32) * scale)
        bias = keep(f"b{len(stored)}", np.zeros(filters, np.float32))
        return add("Conv", [x, weight, bias], pads=[1] * 4, strides=[stride] * 2)

    channels = width
    x = add("Relu", [conv("input", 3, channels, 1)])
    for stage, filters in enumerate((width, 2 * width, 4 * width)):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = conv(add("Relu", [conv(x, channels, filters, stride)]), filters, filters, 1)
            if channels != filters:
                cut = {"starts": [0, 0], "ends": [99, 99], "axes": [2, 3], "steps": [2, 2]}
                names = [keep(f"{k}{stage}", np.array(v, np.int64)) for k, v in cut.items()]
                half = channels // 2
                pads = keep(f"pads{stage}", np.array([0, half, 0, 0, 0, half, 0, 0], np.int64))
                x = add("Pad", [add("Slice", [x, *names]), pads])
            x = add("Relu", [add("Add", [y, x])])
            channels = filters
    pooled = add("ReduceMean", [x, keep("axes", np.array([2, 3], np.int64))], keepdims=0)
    weight = keep("fc.weight", random.standard_normal((10, channels)).astype(np.float32))
    bias = keep("fc.bias", np.zeros(10, np.float32))
    nodes.append(helper.make_node("Gemm", [pooled, weight, bias], ["logits"], name="fc", transB=1))
    graph = helper.make_graph(
        nodes,
        "resnet",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model
