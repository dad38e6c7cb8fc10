"""Bad input, given to the real verbs: exit code 2, one sentence, the same as JSON, and nothing half-written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edgelathe
import numpy as np
import pytest
import torch
from edgelathe.bench.report import read_report, write_report
from edgelathe.compress.train import train
from edgelathe.data import load_data
from edgelathe.errors import EdgeLatheError
from edgelathe.export.to_onnx import export_onnx
from edgelathe.export.vectors import write_vectors
from edgelathe.models.structure import NetworkSpec, save_network
from edgelathe.models.zoo import build
from PIL import Image
from safetensors.torch import save_file

Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_recipe: str) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "toy.toml").write_text(toy_recipe)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def model(toy_run: Path, workplace: Path) -> str:
    shutil.copy(toy_run / "4-export" / "float-dense.onnx", workplace / "net.onnx")
    return "net.onnx"


def files_in(folder: Path) -> dict[str, bytes]:
    """All that lies in a folder, but empty locks."""
    return {
        str(path): path.read_bytes() for path in sorted(Path().rglob("*")) if path.is_file() and path.name != ".lock"
    }


def arrays(**changed: np.ndarray) -> None:
    """A sound data.npz of 20 toy images in 10 classes, but for what is `changed`."""
    x = np.random.default_rng(0).random((20, 8, 8, 1)).astype(np.float32)
    y = np.arange(20) % 10
    sound: dict[str, Any] = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    np.savez("data.npz", **{**sound, **changed})


# --- recipes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [("run", "toy.toml"), ("run", "toy.toml", "--dry-run")])
@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("stages.0.do=trian", 'Unknown stage "trian" at stages.0.do in --set stages.0.do=trian: did you mean "train"?'),
        ("seed=x", "Wrong value 'x' for seed in --set seed=x: it must be a whole number."),
        ("model.weights=no.pth", "Cannot read the weights no.pth: there is no such file; check the path."),
        ("model.source=no.py:f", "Cannot read the function's file no.py: there is no such file; check the path."),
        ("model.source=cifar_resnet9", 'Unknown network "cifar_resnet9": did you mean "cifar_resnet8"?'),
        ("data.source=digit", 'Unknown data source "digit": did you mean "digits"?'),
        ("gate.size=5 kB", "Cannot use the budget size = '5 kB': it is not a comparison, a number and a unit; "
         'write for example size = "<= 300 kB" or size = "<= 0.3 x".'),
        ('bench.runtimes=["tflite"]', 'Unknown runtime "tflite": valid are: onnxruntime.'),
    ],
)  # fmt: skip
def test_wrong_recipes(refused: Refused, verb: tuple[str, ...], override: str, sentence: str) -> None:
    before = files_in(Path())
    assert refused(*verb, "--set", override) == sentence
    assert files_in(Path()) == before


def test_a_stage_that_cannot_work_leaves_nothing_finished(refused: Refused) -> None:
    assert refused("run", "toy.toml", "--set", "stages.0.epochs=-1") == "Cannot use epochs = -1: it must be 1 or more."
    assert [path.name for path in Path("runs/toy").iterdir() if path.is_dir()] == ["1-train.partial"]
    assert [path.name for path in Path("runs/toy/1-train.partial").rglob("*")] == ["key.json"]


def test_a_missing_recipe(refused: Refused) -> None:
    assert refused("run", "no.toml") == "Cannot read the recipe no.toml: there is no such file; check the path."


# --- checkpoints --------------------------------------------------------------------------------------------


def test_the_checkpoint_of_another_architecture(refused: Refused) -> None:
    other = build("cifar_resnet20", num_classes=10, in_channels=1)
    save_file(other.state_dict(), "w.safetensors")
    sentence = refused("run", "toy.toml", "--set", "model.weights=w.safetensors")
    assert sentence == (
        "Cannot load the weights w.safetensors into this network: 72 tensors are unexpected"
        " (layer1.1.bn1.bias, layer1.1.bn1.num_batches_tracked, layer1.1.bn1.running_mean, ...);"
        " check source and arguments."
    )
    assert not list(Path("runs/toy").glob("1-*"))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda path: path.write_bytes(path.read_bytes()[:-500]),
            "Cannot read the weights w.pth: the file is truncated or no checkpoint of PyTorch or safetensors;"
            " get it again.",
        ),
        (
            lambda path: torch.save({"state_dict": torch.nn.Linear(1, 1)}, path),
            "Cannot read the weights w.pth: it holds more than tensors (torch.nn.modules.linear.Linear) and reading it "
            "would run code; where you trust it, load it yourself and save model.state_dict() alone.",
        ),
        (
            lambda path: torch.save(torch.load(path) | {"conv1.weight": torch.full((16, 1, 3, 3), torch.nan)}, path),
            "Cannot use the weights w.pth: conv1.weight has NaN or infinite values; the training had diverged, "
            "take an earlier checkpoint.",
        ),
    ],
    ids=["truncated", "with code", "NaN"],
)
def test_checkpoints_that_cannot_be_read(refused: Refused, spoil: Callable[[Path], Any], sentence: str) -> None:
    torch.save(build("cifar_resnet8", num_classes=10, in_channels=1).state_dict(), "w.pth")
    spoil(Path("w.pth"))
    assert refused("run", "toy.toml", "--set", "model.weights=w.pth") == sentence


# --- ONNX files ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["inspect", "quantize", "bench", "run", "dry-run"])
def with_model(request: pytest.FixtureRequest, toy_recipe: str) -> Callable[[str], tuple[str, ...]]:
    """Every verb that takes an ONNX file, as words."""

    def words(model: str) -> tuple[str, ...]:
        run = ("run", "toy.toml", "--set", f"model.source={model}", "--set", 'stages=[{do = "quantize"}]')
        return {
            "inspect": ("inspect", model),
            "quantize": ("quantize", model, "--data", "digits"),
            "bench": ("bench", model, "--data", "digits", "--seconds", "0.1"),
            "run": run,
            "dry-run": (*run, "--dry-run"),
        }[request.param]

    return words


def test_truncated_onnx(refused: Refused, model: str, with_model: Callable[[str], tuple[str, ...]]) -> None:
    data = Path(model).read_bytes()
    for size in (len(data) - 5, len(data) // 2, 100, 1, 0):
        Path(model).write_bytes(data[:size])
        before = files_in(Path())
        sentence = refused(*with_model(model))
        assert sentence.startswith("Cannot read the model net.onnx: it "), size
        assert sentence.endswith("; export or download the file again, and check that it is an ONNX model.")
        assert files_in(Path()) == before


def test_missing_onnx(refused: Refused, with_model: Callable[[str], tuple[str, ...]]) -> None:
    assert refused(*with_model("no.onnx")) == ("Cannot read the model no.onnx: there is no such file; check the path.")


def test_a_folder_for_an_onnx_file(refused: Refused, with_model: Callable[[str], tuple[str, ...]]) -> None:
    Path("folder.onnx").mkdir()
    assert refused(*with_model("folder.onnx")) == (
        "Cannot read the model folder.onnx: it is a folder; name the .onnx file inside it."
    )


# --- images -------------------------------------------------------------------------------------------------


@pytest.fixture(params=["quantize", "bench", "run"])
def with_data(request: pytest.FixtureRequest, model: str) -> Callable[..., tuple[str, ...]]:
    """Every verb that takes a data set, as words; its options are those of the command line."""

    def words(source: str, root: str) -> tuple[str, ...]:
        run = ("run", "toy.toml", "--set", f"data.source={source}", "--set", f"data.root={root}")
        return run if request.param == "run" else (request.param, model, "--data", source, "--root", root)

    return words


def test_an_empty_folder(refused: Refused, with_data: Callable[..., tuple[str, ...]]) -> None:
    Path("photos").mkdir()
    before = files_in(Path())
    assert refused(*with_data("folder", "photos")) == (
        "Cannot find images in photos: it holds neither test/<class>/ nor val/<class>/ folders nor a labels.csv;"
        " arrange it as one of these."
    )
    assert refused(*with_data("npz", "photos")) == (
        "Cannot find data in photos: it holds no test*.npz; check the folder or choose another source."
    )
    assert files_in(Path()) == before


def test_nan_pixels(refused: Refused, with_data: Callable[..., tuple[str, ...]]) -> None:
    x = np.zeros((20, 8, 8, 1), np.float32)
    x[13, 2, 2, 0] = np.nan
    for key, which in (("x_train", "training"), ("x_test", "test")):
        arrays(**{key: x})
        assert refused(*with_data("npz", "data.npz")) == (
            f"Cannot use the {which} images of data: image 13 has NaN or infinite pixels; mend or remove it."
        )


def test_a_class_without_images(refused: Refused, with_data: Callable[..., tuple[str, ...]]) -> None:
    arrays(y_train=np.array([3, 5, 6, 7, 8, 9, 0, 1, 2, 3] * 2))
    assert refused(*with_data("npz", "data.npz")) == (
        'Cannot use the training images of data: the class "4" has no images; add some or remove the class.'
    )
    for which in ("train", "test"):
        for name in ("ant", "bee"):
            Path("photos", which, name).mkdir(parents=True)
            if (which, name) != ("train", "bee"):
                Image.new("RGB", (8, 8)).save(Path("photos", which, name, "1.png"))
    assert refused(*with_data("folder", "photos")) == (
        'Cannot use the image folder photos/train: the class "bee" has no images; add some or remove the class.'
    )


def test_an_image_that_cannot_be_read(refused: Refused, with_data: Callable[..., tuple[str, ...]]) -> None:
    for which in ("train", "test"):
        Path("photos", which, "ant").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(Path("photos", which, "ant", "1.png"))
    broken = Path("photos/train/ant/1.png")
    broken.write_bytes(broken.read_bytes()[:40])
    sentence = refused(*with_data("folder", "photos"))
    assert sentence.startswith("Cannot read the image photos/train/ant/1.png: ")
    assert sentence.endswith("; replace or remove the file.")


@pytest.mark.parametrize(
    ("x", "shape"), [(np.zeros((20, 4, 4, 1), np.uint8), "1 x 4 x 4"), (np.zeros((20, 8, 8, 3), np.uint8), "3 x 8 x 8")]
)
def test_calibration_images_of_the_wrong_shape(refused: Refused, model: str, x: np.ndarray, shape: str) -> None:
    arrays(x_train=x, x_test=x)
    before = files_in(Path())
    normalised = ("--mean", "0.5", "--std", "0.5")
    words = ("quantize", model, "--data", "npz", "--root", "data.npz", *normalised)
    assert refused(*words) == (
        f'Cannot calibrate input "input" of shape N x 1 x 8 x 8 with images of shape 1 x {shape}: the shapes differ;'
        " check the size and channels of the data, or whether it is channels-last."
    )
    words = ("bench", model, "--data", "npz", "--root", "data.npz", *normalised)
    assert refused(*words) == (
        f'Cannot give input "input" [batch, 1, 8, 8] of the model net.onnx the shape [20, {shape.replace(" x", ",")}]:'
        " they do not agree; give the shape that the model declares."
    )
    assert files_in(Path()) == before


def test_images_without_training_images_are_not_calibrated_on(refused: Refused, model: str) -> None:
    x = np.zeros((20, 8, 8, 1), np.uint8)
    np.savez("data.npz", x_test=x, y_test=np.arange(20) % 10)
    words = ("quantize", model, "--data", "npz", "--root", "data.npz")
    assert refused(*words) == (
        "Cannot calibrate on data: it has no training images, and test images must not be calibrated on; "
        "set holdout to put some of them apart."
    )
    assert refused(*words, "--holdout", 8, "--images", 0) == (
        "Cannot calibrate: there are no calibration images; give at least one, better 100 to 500 typical ones."
    )


# --- reports and budgets ------------------------------------------------------------------------------------


def test_reports_that_cannot_be_judged(refused: Refused, toy_run: Path) -> None:
    assert refused("gate", "none") == "Cannot read the report none: there is no such file; check the path."
    assert refused("report", ".") == "Cannot read the report report.json: there is no such file; check the path."
    Path("report.json").write_bytes((toy_run / "report.json").read_bytes()[:-100])
    for verb in ("gate", "report"):
        assert refused(verb, ".").startswith("Cannot read the report report.json: it is not valid JSON (")
    assert refused("gate", toy_run, "--candidate", "int9 pruned") == (
        'Unknown candidate "int9 pruned": did you mean "int8 pruned"?'
    )
    Path("budget.toml").write_text('sise = "<= 1 kB"')
    assert refused("gate", toy_run, "--budget", "budget.toml") == 'Unknown gate metric "sise": did you mean "size"?'
    Path("budget.toml").write_text("")
    assert refused("gate", toy_run, "--budget", "budget.toml") == (
        'Cannot judge by budget.toml: it sets no budget; add at least one, for example size = "<= 300 kB".'
    )


# --- full disks ---------------------------------------------------------------------------------------------

DO = "nothing was changed, free space or choose another place and run again."


def test_every_writer_of_artifacts_leaves_the_old_file_on_a_full_disk(
    full_disk: Callable[[int], Any], toy_run: Path, tmp_path: Path
) -> None:
    network = build("cifar_resnet8", num_classes=10, in_channels=1)
    data = load_data("digits", limit_train=64, limit_test=20)
    report = read_report(toy_run)
    images = np.zeros((64, 1, 32, 32), np.float32)
    disk = full_disk(60_000)
    writers: dict[str, Callable[[], object]] = {
        "net.onnx": lambda: export_onnx(network, torch.zeros(1, 1, 8, 8), disk.folder / "net.onnx"),
        "int8.onnx": lambda: edgelathe.quantize(
            toy_run / "4-export" / "float-dense.onnx", data, images=8, output=disk.folder / "int8.onnx"
        ),
        "net.vectors.npz": lambda: write_vectors(disk.folder / "net.vectors.npz", images, images),
        "model.safetensors": lambda: save_network(
            network, NetworkSpec("cifar_resnet8", {"num_classes": 10, "in_channels": 1}), disk.folder
        ),
        "checkpoint.safetensors": lambda: train(
            network, data, preprocess=data.preprocess, epochs=1, precision="float32", threads=1, state=disk.folder,
            progress=False,
        ),
        "report.html": lambda: write_report(report, disk.folder),
    }  # fmt: skip
    for name, write in writers.items():
        path = disk.folder / name
        if name != "checkpoint.safetensors":  # a training that finds an old one reads it first
            path.write_text("old")
        before = files_in(disk.folder)
        with pytest.raises(EdgeLatheError) as caught:
            write()
        sentence = str(caught.value)
        assert sentence.startswith("Cannot write the ")
        assert sentence.endswith(f" {path}: {disk.why}; {DO}")
        after = files_in(disk.folder)
        assert before.items() <= after.items()
        assert set(after) - set(before) <= {"choice.json", "report.json", "report.md"}, "whole files of the same writer"
        for entry in disk.folder.iterdir():
            entry.unlink()


def test_quantize_on_a_full_disk(refused: Refused, full_disk: Callable[[int], Any], model: str) -> None:
    disk = full_disk(60_000)
    output = disk.folder / "int8.onnx"
    assert refused("quantize", model, "--data", "digits", "--images", 32, "-o", output) == (
        f"Cannot write the int8 model {output}: {disk.why}; {DO}"
    )
    assert not list(disk.folder.iterdir())


def test_report_on_a_full_disk(refused: Refused, full_disk: Callable[[int], Any], toy_run: Path) -> None:
    size = (toy_run / "report.json").stat().st_size
    disk = full_disk(2 * size + 20_000)
    shutil.copy(toy_run / "report.json", disk.folder)
    assert refused("report", disk.folder) == f"Cannot write the report {disk.folder / 'report.html'}: {disk.why}; {DO}"
    assert {path.name for path in disk.folder.iterdir()} == {"report.json", "report.md"}
    assert (disk.folder / "report.json").read_bytes() == (toy_run / "report.json").read_bytes()


def test_a_run_on_a_full_disk_leaves_no_stage_finished(
    command: Callable[..., Any], full_disk: Callable[[int], Any]
) -> None:
    disk = full_disk(450_000)
    ended = command("run", "toy.toml", "--runs", disk.folder, "--quiet")
    partial = disk.folder / "toy" / "1-train.partial"
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        f"Cannot write the training checkpoint {partial / 'training' / 'checkpoint.safetensors'}: {disk.why}; {DO}\n"
    )
    assert sorted(str(path.relative_to(partial)) for path in partial.rglob("*") if path.is_file()) == [
        "key.json",
        "training/choice.json",
    ]
