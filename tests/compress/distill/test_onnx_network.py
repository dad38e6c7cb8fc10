from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from edgelathe.compress.checkpoint import state_sha256
from edgelathe.compress.distill.onnx_network import OnnxNetwork
from edgelathe.errors import EdgeLatheError
from torch import nn

MakeNet = Callable[[], nn.Module]
WriteOnnx = Callable[..., Path]


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn((5, 3, 8, 8), generator=torch.Generator().manual_seed(1))


def test_it_answers_as_the_network_that_it_was_exported_from(
    small_net: MakeNet, write_onnx: WriteOnnx, images: torch.Tensor, tmp_path: Path
) -> None:
    network = small_net().eval()
    file = OnnxNetwork(write_onnx(network, tmp_path / "net.onnx"), channels=3)
    with torch.no_grad():
        expected = network(images)
    assert torch.allclose(file(images), expected, rtol=0, atol=1e-5)
    assert file(images).dtype == torch.float32
    assert not list(file.parameters())


def test_channels_last_memory_and_gradients_do_not_matter(
    small_net: MakeNet, write_onnx: WriteOnnx, images: torch.Tensor, tmp_path: Path
) -> None:
    file = OnnxNetwork(write_onnx(small_net(), tmp_path / "net.onnx"), channels=3)
    with_graph = images.clone().to(memory_format=torch.channels_last).requires_grad_()
    assert torch.equal(file(with_graph), file(images))
    assert not file(with_graph).requires_grad


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_a_file_of_a_fixed_batch_answers_to_any_number(
    small_net: MakeNet, write_onnx: WriteOnnx, images: torch.Tensor, tmp_path: Path, batch: int
) -> None:
    anyhow = OnnxNetwork(write_onnx(small_net(), tmp_path / "any.onnx"), channels=3)
    fixed = OnnxNetwork(write_onnx(small_net(), tmp_path / "fixed.onnx", batch=batch), channels=3)
    assert torch.allclose(fixed(images), anyhow(images), rtol=0, atol=1e-5)


def test_a_file_with_channels_last(
    small_net: MakeNet, write_onnx: WriteOnnx, images: torch.Tensor, tmp_path: Path
) -> None:
    usual = OnnxNetwork(write_onnx(small_net(), tmp_path / "nchw.onnx"), channels=3)
    last = OnnxNetwork(write_onnx(small_net(), tmp_path / "nhwc.onnx", layout="NHWC"), channels=3)
    assert last.size == usual.size == (8, 8)
    assert torch.allclose(last(images), usual(images), rtol=0, atol=1e-5)


def test_a_file_of_half_precision(
    small_net: MakeNet, write_onnx: WriteOnnx, images: torch.Tensor, tmp_path: Path
) -> None:
    usual = OnnxNetwork(write_onnx(small_net(), tmp_path / "float.onnx"), channels=3)
    half = OnnxNetwork(write_onnx(small_net(), tmp_path / "half.onnx", dtype="float16"), channels=3)
    assert torch.allclose(half(images), usual(images), rtol=0, atol=2e-2)
    assert half(images).dtype == torch.float32


def test_a_file_of_double_precision(images: torch.Tensor, tmp_path: Path) -> None:
    path = means(tmp_path / "double.onnx", "double")
    assert torch.allclose(OnnxNetwork(path, channels=3)(images), images.mean(dim=(2, 3)), rtol=0, atol=1e-6)


def test_the_hash_of_its_tensors_is_that_of_the_file(small_net: MakeNet, write_onnx: WriteOnnx, tmp_path: Path) -> None:
    path = write_onnx(small_net(), tmp_path / "net.onnx")
    changed = small_net()
    nn.init.zeros_(changed[6].bias)  # type: ignore[index, arg-type]
    other = write_onnx(changed, tmp_path / "other.onnx")
    one, again, another = (OnnxNetwork(each, channels=3) for each in (path, path, other))
    assert state_sha256(one) == state_sha256(again) != state_sha256(another)


def test_a_copy_is_the_same_network(small_net: MakeNet, write_onnx: WriteOnnx, tmp_path: Path) -> None:
    file = OnnxNetwork(write_onnx(small_net(), tmp_path / "net.onnx"), channels=3)
    assert copy.deepcopy(nn.Sequential(file))[0] is file


def test_the_file_may_vanish_once_it_is_read(
    small_net: MakeNet, write_onnx: WriteOnnx, images: torch.Tensor, tmp_path: Path
) -> None:
    path = write_onnx(small_net(), tmp_path / "net.onnx")
    file = OnnxNetwork(path, channels=3)
    before = file(images)
    path.unlink()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert torch.allclose(file(images), before, rtol=0, atol=1e-6)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("channels", "layout", "message"),
    [
        (1, None, "its input ? x 3 x 8 x 8 does not take images of 1 channel; give one trained on this data"),
        (3, "NHWC", "its input ? x 3 x 8 x 8 is not NHWC; leave layout out"),
    ],
)
def test_inputs_that_do_not_fit(
    small_net: MakeNet, write_onnx: WriteOnnx, tmp_path: Path, channels: int, layout: str | None, message: str
) -> None:
    path = write_onnx(small_net(), tmp_path / "net.onnx")
    with pytest.raises(EdgeLatheError) as caught:
        OnnxNetwork(path, channels=channels, layout=layout)  # type: ignore[arg-type]
    assert str(caught.value) == f"Cannot learn from the ONNX file {path}: {message}."


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(EdgeLatheError, match=r"Cannot read the model .*none\.onnx"):
        OnnxNetwork(tmp_path / "none.onnx", channels=3)


def test_a_file_of_integer_pixels_is_refused(tmp_path: Path) -> None:
    path = means(tmp_path / "bytes.onnx", "uint8")
    with pytest.raises(EdgeLatheError, match=r"its input is tensor\(uint8\); export it with float inputs"):
        OnnxNetwork(path, channels=3)


def means(path: Path, dtype: str) -> Path:
    """A file that answers with the mean of each channel."""
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> g ({dtype}[N, 3, 8, 8] x) => (float[N, 3] y)'
        " { a = Cast<to = 1>(x)\n axes = Constant<value_ints = [2, 3]>()\n y = ReduceMean<keepdims = 0>(a, axes) }"
    )
    onnx.save(model, str(path))
    return path
