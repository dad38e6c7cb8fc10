from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from . import cover, coverage
from .cover import POINTS, TOLERANCE, Covered, smallest_side
from .coverage import generic, parse, run, run_one
from .lively import enliven, images


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cover, "CALIBRATION", 4)
    monkeypatch.setattr(cover, "JUDGED", 3)


@pytest.mark.parametrize("network", ["cifar_resnet8", "mlperf_resnet8", "torchvision:squeezenet1_1"])
@pytest.mark.usefixtures("few_images")
def test_tiny_networks_walk_the_whole_road(network: str) -> None:
    found = cover.cover(network, 0.5, 0)
    assert found.failed == ""
    assert found.passed and found.side == 32
    assert found.kept_macs is not None and 0.5 - POINTS <= found.kept_macs <= 0.5
    assert found.difference is not None and found.difference <= TOLERANCE
    assert found.parity is not None and found.parity <= TOLERANCE
    assert found.convolutions == found.int8_convolutions and found.int8_macs == 1.0
    assert found.snr_db is not None and found.snr_db > 10


def test_a_road_that_ends_keeps_what_was_found_and_says_why(few_images: None) -> None:
    found = cover.cover("cifar_resnet8", 0.001, 0)
    assert found.failed.startswith("prune: Cannot prune to 0.1% of the MACs")
    assert (found.side, found.macs, found.passed) == (32, None, False)
    assert cover.cover("nowhere", 0.5, 0).failed.startswith("build: Unknown network")


def test_a_process_that_passes_its_limits_is_a_refusal(tmp_path: Path) -> None:
    asked = parse(["--json", str(tmp_path / "a.json"), "--gigabytes", "0.01"])
    found = run_one("cifar_resnet8", asked)
    assert found.failed.startswith("not run: stopped at 0.0 GB")


def test_what_is_in_the_file_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []

    def record(network: str, _: object) -> Covered:
        runs.append(network)
        left = {"a.b": "its channels enter a.c, and cannot be followed through it", "fc": coverage.USUAL[0]}
        return Covered(network=network, groups=4, left=left, kept_macs=0.49, rebuilt=True, snr_db=30.0)

    monkeypatch.setattr(coverage, "run_one", record)
    file, table = tmp_path / "coverage.json", tmp_path / "coverage.md"
    command = ["--json", str(file), "--markdown", str(table), "--networks"]
    assert run(parse([*command, "cifar_resnet8"])) == 0
    assert run(parse([*command, "cifar_resnet8", "torchvision:vgg11"])) == 0
    assert runs == ["cifar_resnet8", "torchvision:vgg11"]
    assert list(json.loads(file.read_text())) == runs
    text = table.read_text()
    assert "2 of 2 networks walk the whole road. Not run yet: cifar_resnet20, " in text
    assert "| vgg11 |" in text and "30.0 dB" in text
    assert "- vgg11: 1 of 4 groups of channels: its channels enter a module, and cannot be followed through it" in text
    assert str(tmp_path) not in text
    assert run(parse([*command, "vgg99", "--table-only"])) == 0
    assert runs == ["cifar_resnet8", "torchvision:vgg11"]


def test_reasons_without_names() -> None:
    assert generic("its channels leave stage2.0.branch1, and cannot be followed beyond it") == generic(
        "its channels leave stage4, and cannot be followed beyond it"
    )
    assert generic("cutting its channels breaks the forward pass (4 and 5)") == (
        "cutting its channels breaks the forward pass"
    )


def test_the_smallest_image_and_weights_that_do_something() -> None:
    class Strict(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.full((6, 1, 1), 1e-6))
            self.conv = nn.Conv2d(3, 6, 40)
            self.norm = nn.BatchNorm2d(6)
            self.head = nn.Linear(6, 4)
            nn.init.zeros_(self.head.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head((self.scale * self.norm(self.conv(x))).mean(dim=(2, 3)))

    model = Strict().eval()
    assert smallest_side(model) == 48
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    x = images(6, 48, seed=1)
    assert torch.equal(x, images(6, 48, seed=1)) and not torch.equal(x, images(6, 48, seed=2))
    with torch.no_grad():
        assert float(model(x).std(dim=0).max()) < 1e-6
        enliven(model, x, seed=0)
        spread = model(x).std(dim=0)
    assert float(spread.min()) > 0.1 and float(spread.max()) < 10
    assert not model.training and model.norm.momentum == 0.1
