from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from edgelathe.compress.checkpoint import state_sha256
from edgelathe.compress.distill.teachers import ResizedInputs, as_teacher, at_size, check_teachers, onnx_teacher
from edgelathe.compress.objective import network_inputs
from edgelathe.data import Dataset, Preprocess
from edgelathe.errors import EdgeLatheError
from torch import Tensor, nn

MakeNet = Callable[[], nn.Module]
WriteOnnx = Callable[..., Path]
MakeBatch = Callable[..., Any]

OTHER = Preprocess((0.0, 0.1, 0.5), (1.0, 0.5, 0.25))


class Recorder(nn.Module):
    """Keeps what it is given; answers with the mean of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return x.mean(dim=(2, 3))


def test_a_teacher_is_a_frozen_copy(small_net: MakeNet, blobs: Dataset) -> None:
    network = small_net().train()
    teacher = as_teacher("net", network, blobs.preprocess)
    assert teacher.network is not network
    assert not teacher.network.training
    assert network.training
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert teacher.sha256 == state_sha256(network)
    with pytest.raises(FrozenInstanceError):
        teacher.name = "other"  # type: ignore[misc]


def test_logits_are_those_of_the_network_on_the_same_pixels_in_its_own_figures(
    small_net: MakeNet, blobs: Dataset, batch_of: MakeBatch
) -> None:
    network = small_net().eval()
    teacher = as_teacher("net", network, OTHER)
    batch = batch_of(blobs, small_net(), 5)
    with torch.no_grad():
        expected = network(network_inputs(batch.images, OTHER))
    assert torch.allclose(teacher.logits(batch), expected, rtol=0, atol=1e-5)
    assert not teacher.logits(batch).requires_grad


def test_settings_tell_networks_normalisations_and_sizes_apart(small_net: MakeNet, blobs: Dataset) -> None:
    network, changed = small_net(), small_net()
    nn.init.zeros_(changed[6].bias)  # type: ignore[index, arg-type]
    told = [
        as_teacher("a", network, blobs.preprocess),
        as_teacher("a", changed, blobs.preprocess),
        as_teacher("a", network, OTHER),
        as_teacher("a", ResizedInputs(network, (16, 16)), blobs.preprocess),
        as_teacher("a", ResizedInputs(network, (12, 16)), blobs.preprocess),
    ]
    assert len({repr(teacher.settings()) for teacher in told}) == len(told)
    assert as_teacher("renamed", network, OTHER).settings() == told[2].settings()


@pytest.mark.parametrize("size", [(16, 16), (5, 7), (4, 4)])
def test_a_teacher_of_another_size_sees_the_pixels_resized(size: tuple[int, int]) -> None:
    recorder = Recorder()
    network = at_size(recorder, (8, 8), size)
    pixels = torch.randint(0, 256, (3, 8, 8, 3), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    network(network_inputs(pixels, OTHER))
    # Resized first and normalised afterwards, as the teacher's own training did.
    shares = nn.functional.interpolate(
        pixels.permute(0, 3, 1, 2).float() / 255, size=size, mode="bilinear", antialias=True
    )
    mean, std = (torch.tensor(figures)[:, None, None] for figures in (OTHER.mean, OTHER.std))
    assert recorder.seen[0].shape == (3, 3, *size)
    assert torch.allclose(recorder.seen[0], (shares - mean) / std, rtol=0, atol=1e-5)


def test_a_flat_image_stays_flat_when_it_is_resized() -> None:
    recorder = Recorder()
    at_size(recorder, (8, 8), (13, 5))(torch.full((1, 3, 8, 8), 0.7))
    assert torch.allclose(recorder.seen[0], torch.full((1, 3, 13, 5), 0.7), rtol=0, atol=1e-6)


def test_a_teacher_of_the_same_size_is_left_alone(small_net: MakeNet) -> None:
    network = small_net()
    assert at_size(network, (8, 8), (8, 8)) is network
    assert at_size(network, (8, 8), None) is network


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_an_onnx_teacher_answers_as_its_source(
    small_net: MakeNet, write_onnx: WriteOnnx, blobs: Dataset, batch_of: MakeBatch, tmp_path: Path, layout: str
) -> None:
    network = small_net().eval()
    path = write_onnx(network, tmp_path / "net.onnx", layout=layout)
    batch = batch_of(blobs, small_net(), 7)
    from_file = as_teacher("file", onnx_teacher(path, blobs.shape), OTHER)
    from_torch = as_teacher("network", network, OTHER)
    assert torch.allclose(from_file.logits(batch), from_torch.logits(batch), rtol=0, atol=1e-5)
    assert from_torch.has_maps
    assert not from_file.has_maps


def test_an_onnx_teacher_of_another_size(
    small_net: MakeNet, write_onnx: WriteOnnx, blobs: Dataset, batch_of: MakeBatch, tmp_path: Path
) -> None:
    network = small_net().eval()
    declared = onnx_teacher(write_onnx(network, tmp_path / "fixed.onnx", size=12), blobs.shape)
    asked = onnx_teacher(write_onnx(network, tmp_path / "free.onnx", size="S"), blobs.shape, size=(12, 12))
    batch = batch_of(blobs, small_net(), 4)
    expected = as_teacher("t", ResizedInputs(network, (12, 12)), OTHER).logits(batch)
    for module in (declared, asked):
        assert torch.allclose(as_teacher("f", module, OTHER).logits(batch), expected, rtol=0, atol=1e-5)
    assert not torch.allclose(as_teacher("t", network, OTHER).logits(batch), expected, rtol=0, atol=1e-3)


def test_a_size_that_the_file_does_not_take(
    small_net: MakeNet, write_onnx: WriteOnnx, blobs: Dataset, tmp_path: Path
) -> None:
    path = write_onnx(small_net(), tmp_path / "net.onnx")
    with pytest.raises(EdgeLatheError) as caught:
        onnx_teacher(path, blobs.shape, size=(16, 16))
    assert str(caught.value) == (
        f"Cannot give the ONNX file {path} images of 16 x 16: its input is declared as 8 x 8; leave size out."
    )


def test_probabilities_are_refused(small_net: MakeNet, write_onnx: WriteOnnx, blobs: Dataset, tmp_path: Path) -> None:
    path = write_onnx(small_net(), tmp_path / "net.onnx", ending="Softmax")
    with pytest.raises(EdgeLatheError, match="it answers with probabilities; export it without the softmax"):
        onnx_teacher(path, blobs.shape)


def test_answers_that_are_no_numbers_are_refused(
    small_net: MakeNet, write_onnx: WriteOnnx, blobs: Dataset, tmp_path: Path
) -> None:
    broken = small_net()
    nn.init.constant_(broken[6].bias, float("nan"))  # type: ignore[index, arg-type]
    with pytest.raises(EdgeLatheError, match="its answers are not finite; mend or leave it out"):
        onnx_teacher(write_onnx(broken, tmp_path / "net.onnx"), blobs.shape)


def test_teachers_of_other_classes_or_images_are_named(small_net: MakeNet, blobs: Dataset) -> None:
    fitting = as_teacher("fitting", small_net(), blobs.preprocess)
    ten = as_teacher("ten", nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), blobs.preprocess)
    large = as_teacher("large", nn.Sequential(nn.Flatten(), nn.Linear(768, 3)), blobs.preprocess)
    check_teachers([fitting], blobs, 3)
    with pytest.raises(EdgeLatheError, match="the teacher ten, which knows 10 classes, in a network with 3 outputs"):
        check_teachers([fitting, ten], blobs, 3)
    with pytest.raises(EdgeLatheError, match=r"the teacher large with images of 3 x 8 x 8: .*; set size to that"):
        check_teachers([fitting, large], blobs, 3)
    check_teachers([replace(large, network=ResizedInputs(large.network, (16, 16)))], blobs, 3)
    with pytest.raises(EdgeLatheError, match="none is given; name at least one"):
        check_teachers([], blobs, 3)


@pytest.fixture
def batch_of() -> MakeBatch:
    from edgelathe.compress.objective import Batch

    def make(data: Dataset, network: nn.Module, count: int) -> Batch:
        assert data.train is not None
        images, labels = torch.from_numpy(data.train.x[:count]), torch.from_numpy(data.train.y[:count])
        inputs = network_inputs(images, data.preprocess)
        return Batch(network(inputs), labels, images, inputs, data.preprocess, nullcontext, torch.arange(count))

    return make
