from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from edgelathe.compress.checkpoint import Epoch
from edgelathe.compress.quantize.apply import apply_plan
from edgelathe.compress.quantize.builder import Builder, Planned, Scheme
from edgelathe.compress.quantize.learning.qat import Trained, qat, train_quantized
from edgelathe.compress.quantize.learning.value_ranges import RANGES, Ranges
from edgelathe.compress.quantize.passes.prepare import prepare
from edgelathe.compress.quantize.quantize import quantize
from edgelathe.compress.train import train
from edgelathe.data import Dataset
from edgelathe.errors import EdgeLatheError
from edgelathe.export.to_onnx import export_onnx
from onnx import numpy_helper
from torch import Tensor, nn

from ..conftest import run


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def float_file(blobs: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network of two convolutions and a classifier, exported."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
        )  # fmt: skip
        train(
            network, blobs, preprocess=blobs.preprocess, epochs=8, batch=16, lr=0.05, precision="float32",
            threads=1, progress=False,
        )  # fmt: skip
    path = tmp_path_factory.mktemp("float") / "float.onnx"
    export_onnx(network, torch.zeros(1, 3, 8, 8), path)
    return path


def inputs(data: Dataset) -> np.ndarray:
    return data.preprocess(data.calibration(48, 0).x)


def two_bits(path: Path, data: Dataset) -> Planned:
    """A plan that rounding alone does not survive."""
    builder = Builder(path, inputs(data), target="x86-vnni")
    bits = dict.fromkeys(builder.planned(Scheme()).plan.weights, 2)
    return builder.planned(Scheme(), weight_bits=bits)


def learn(planned: Planned, data: Dataset, **settings: Any) -> Trained:
    defaults: dict[str, Any] = {
        "preprocess": data.preprocess, "epochs": 4, "batch": 16, "lr": 0.02, "threads": 1, "progress": False,
    }  # fmt: skip
    return train_quantized(planned.prepared, planned.placement, planned.plan, data, **{**defaults, **settings})


def accuracy(model: ir.Model | Path, data: Dataset) -> float:
    return float((run(model, data.preprocess(data.test.x)).argmax(1) == data.test.y).mean())


def apart(model: ir.Model, reference: Path, data: Dataset) -> float:
    """Mean divergence of the probabilities of two models over the test images."""
    x = data.preprocess(data.test.x)
    mine, theirs = (torch.from_numpy(run(each, x)).log_softmax(1) for each in (model, reference))
    return float(nn.functional.kl_div(mine, theirs, log_target=True, reduction="batchmean"))


@pytest.mark.parametrize("settings", [*({"ranges": ranges} for ranges in RANGES), {"ema": 0.9, "mix": "cutmix"}])
def test_training_wins_back_what_rounding_lost(blobs: Dataset, float_file: Path, settings: dict[str, Any]) -> None:
    planned = two_bits(float_file, blobs)
    rounded = apart(apply_plan(planned.prepared, planned.plan), float_file, blobs)
    trained = learn(planned, blobs, alpha=1.0, epochs=6, **settings)
    written = apply_plan(trained.prepared, trained.plan)
    assert apart(written, float_file, blobs) < 0.5 * rounded
    assert trained.training.test_accuracy == accuracy(written, blobs) >= 0.95
    assert trained.training.precision == "float32"


@pytest.mark.parametrize("settings", [{"ranges": "lsq"}, {"ranges": "ema"}, {"gradients": "int8"}], ids=str)
def test_a_killed_training_ends_with_the_same_bytes(
    blobs: Dataset, float_file: Path, tmp_path: Path, settings: dict[str, str]
) -> None:
    planned = two_bits(float_file, blobs)

    def kill(epoch: Epoch) -> None:
        if epoch.epoch == 2:
            raise Killed

    undisturbed = learn(planned, blobs, augment="shift", **settings)
    with pytest.raises(Killed):
        learn(planned, blobs, augment="shift", state=tmp_path, on_epoch=kill, **settings)
    resumed = learn(planned, blobs, augment="shift", state=tmp_path, **settings)
    assert resumed.plan == undisturbed.plan
    files = [ir.to_proto(each.prepared).SerializeToString(deterministic=True) for each in (resumed, undisturbed)]
    assert files[0] == files[1]


def test_what_is_trained_is_left_as_it_was(blobs: Dataset, float_file: Path) -> None:
    planned, before = two_bits(float_file, blobs), float_file.read_bytes()
    untouched = ir.to_proto(planned.prepared).SerializeToString(deterministic=True)
    learn(planned, blobs, epochs=1)
    assert ir.to_proto(planned.prepared).SerializeToString(deterministic=True) == untouched
    assert float_file.read_bytes() == before


@pytest.mark.parametrize("ranges", RANGES)
def test_it_writes_the_file_that_quantize_writes_with_other_numbers(
    blobs: Dataset, float_file: Path, tmp_path: Path, ranges: Ranges
) -> None:
    pixels = (blobs.preprocess.mean, blobs.preprocess.std)
    quantize(float_file, tmp_path / "ptq.onnx", inputs(blobs), pixels=pixels)
    result = qat(
        float_file, tmp_path / "qat.onnx", inputs(blobs), blobs, preprocess=blobs.preprocess, pixels=pixels,
        ranges=ranges, epochs=2, batch=16, threads=1, progress=False,
    )  # fmt: skip
    ptq, trained = onnx.load(tmp_path / "ptq.onnx"), onnx.load(tmp_path / "qat.onnx")
    assert [node.op_type for node in trained.graph.node] == [node.op_type for node in ptq.graph.node]
    assert trained.SerializeToString() != ptq.SerializeToString()
    assert result.quantized.audit.broken_promises == ()
    facts = {entry.key: entry.value for entry in trained.metadata_props}
    assert facts["edgelathe.quantized"] == f"x86-vnni mse per-channel, trained with {ranges} ranges"
    assert result.summary().endswith(f"trained for 2 epochs to {result.training.test_accuracy:.2%}")
    assert result.as_dict()["test_accuracy"] == accuracy(tmp_path / "qat.onnx", blobs)


@pytest.mark.parametrize("ranges", RANGES)
def test_weights_that_are_zero_in_the_float_file_stay_zero_codes(
    blobs: Dataset, float_file: Path, tmp_path: Path, ranges: Ranges
) -> None:
    model = onnx.load(float_file)
    sparse = model.graph.initializer[[tensor.name for tensor in model.graph.initializer].index("3.weight")]
    weight = numpy_helper.to_array(sparse).copy()
    weight[:, ::2] = 0
    sparse.CopyFrom(numpy_helper.from_array(weight, sparse.name))
    onnx.save(model, tmp_path / "sparse.onnx")
    qat(
        tmp_path / "sparse.onnx", tmp_path / "qat.onnx", inputs(blobs), blobs, preprocess=blobs.preprocess,
        pixels=(blobs.preprocess.mean, blobs.preprocess.std), ranges=ranges, epochs=2, batch=16, lr=0.02, threads=1,
        progress=False,
    )  # fmt: skip
    tensors = {each.name: numpy_helper.to_array(each) for each in onnx.load(tmp_path / "qat.onnx").graph.initializer}
    (codes,) = (each for each in tensors.values() if each.dtype == np.int8 and each.shape == weight.shape)
    assert not codes[:, ::2].any()
    assert np.count_nonzero(codes[:, 1::2]) > 0.9 * codes[:, 1::2].size


class Lamp(nn.Module):
    """Answers one class, whatever it sees."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.answer = nn.Parameter(torch.tensor([0.0] * (classes - 1) + [9.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.answer.expand(len(x), -1)


def test_the_teacher_is_the_float_graph_unless_another_is_given(blobs: Dataset, float_file: Path) -> None:
    planned = two_bits(float_file, blobs)
    own = learn(planned, blobs, alpha=1.0)
    same = learn(planned, blobs, alpha=1.0, teacher=prepare(float_file))
    other = learn(planned, blobs, alpha=1.0, teacher=Lamp(3), epochs=8)
    assert own.plan == same.plan
    answers = run(apply_plan(other.prepared, other.plan), blobs.preprocess(blobs.test.x))
    assert (answers.argmax(1) == 2).mean() > 0.9
    assert own.training.test_accuracy > 0.8


def test_without_a_share_no_teacher_is_needed(blobs: Dataset, float_file: Path) -> None:
    assert learn(two_bits(float_file, blobs), blobs, alpha=0.0, teacher=Lamp(7)).training.test_accuracy > 0.8


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"ranges": "lsg"}, 'Unknown ranges "lsg": did you mean "lsq"?'),
        ({"gradients": "int4"}, 'Unknown gradients "int4": did you mean "int8"?'),
        ({"alpha": 1.5}, "Cannot use alpha = 1.5: it must be between 0 and 1."),
        ({"temperature": 0.0}, "Cannot use temperature = 0.0: it must be above 0."),
        ({"epochs": 0}, "Cannot use epochs = 0: it must be 1 or more."),
        ({"teacher": Lamp(7)}, "Cannot distil into a network with 3 outputs from a teacher with 7"),
    ],
)
def test_impossible_settings_are_refused(
    blobs: Dataset, float_file: Path, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(EdgeLatheError) as caught:
        learn(two_bits(float_file, blobs), blobs, **settings)
    assert str(caught.value).startswith(sentence)


def test_images_to_train_on_are_needed(blobs: Dataset, float_file: Path) -> None:
    planned = two_bits(float_file, blobs)
    with pytest.raises(EdgeLatheError, match="it has no training images"):
        learn(planned, replace(blobs, train=None))
