"""Checkpoints of others: what is accepted, every refusal, and the published CIFAR-10 networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from edgelathe.data import Preprocess, load_data
from edgelathe.errors import EdgeLatheError
from edgelathe.models import zoo
from edgelathe.models.weights import load_weights
from safetensors.torch import save_file
from torch import nn


def _toy(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def _refusal(path: Path) -> str:
    model = _toy(seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(EdgeLatheError) as refusal:
        load_weights(model, path)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    return str(refusal.value)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod."])
def test_wrappers_and_prefixes(wrapper: str | None, prefix: str, tmp_path: Path) -> None:
    source, target = _toy(seed=0), _toy(seed=1)
    state = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "w.pt")
    report = load_weights(target, tmp_path / "w.pt")
    assert (report.loaded, report.prefix, report.missing, report.unexpected) == (9, prefix, (), ())
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in target.state_dict().items())


def test_a_prefix_that_is_the_models_own_is_kept(tmp_path: Path) -> None:
    source = nn.ModuleDict({"model": _toy(seed=0)})
    torch.save(source.state_dict(), tmp_path / "w.pt")
    assert load_weights(nn.ModuleDict({"model": _toy(seed=1)}), tmp_path / "w.pt").prefix == ""


def test_safetensors_and_checkpoints_without_batch_counts(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in _toy(seed=0).state_dict().items() if "num_batches" not in name}
    save_file(state, tmp_path / "w.safetensors")
    assert load_weights(_toy(seed=1), tmp_path / "w.safetensors").loaded == 8


def test_another_architecture_is_described(tmp_path: Path) -> None:
    state = _toy(seed=0).state_dict()
    del state["0.bias"]
    state |= {"3.weight": torch.zeros(3, 9), "9.weight": torch.zeros(1), "9.bias": torch.zeros(1)}
    torch.save(state, tmp_path / "w.pt")
    message = _refusal(tmp_path / "w.pt")
    assert message == (
        f"Cannot load the weights {tmp_path / 'w.pt'} into this network: 1 tensors are missing (0.bias); "
        "2 tensors are unexpected (9.bias, 9.weight); "
        "1 tensors are of another shape (3.weight [3, 9] instead of [3, 8]); check source and arguments."
    )


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    state = _toy(seed=0).state_dict()
    state["3.bias"][1] = torch.nan
    torch.save(state, tmp_path / "w.pt")
    assert "w.pt: 3.bias has NaN or infinite values" in _refusal(tmp_path / "w.pt")


def test_pickles_that_need_code_are_not_read(tmp_path: Path) -> None:
    torch.save(_toy(seed=0), tmp_path / "model.pt")
    assert _refusal(tmp_path / "model.pt") == (
        f"Cannot read the weights {tmp_path / 'model.pt'}: it holds more than tensors "
        "(torch.nn.modules.container.Sequential) and reading it would run code; "
        "where you trust it, load it yourself and save model.state_dict() alone."
    )


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_truncated_files(name: str, keep: float, tmp_path: Path) -> None:
    path = tmp_path / name
    (save_file if name.endswith("safetensors") else torch.save)(_toy(seed=0).state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    assert _refusal(path) == (
        f"Cannot read the weights {path}: the file is truncated or no checkpoint of PyTorch or safetensors; "
        "get it again."
    )


@pytest.mark.parametrize("content", [{}, [1, 2], {"epoch": 3}, {"state_dict": {"a": "b"}}])
def test_files_without_a_state_dict(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    assert _refusal(tmp_path / "w.pt").startswith(f"Cannot find weights in {tmp_path / 'w.pt'}: ")


def test_missing_file(tmp_path: Path) -> None:
    assert _refusal(tmp_path / "w.pt") == (
        f"Cannot read the weights {tmp_path / 'w.pt'}: there is no such file; check the path."
    )


_IMAGENET = Preprocess((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CIFAR = Preprocess((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_BYTES = Preprocess((0.0,) * 3, (1 / 255,) * 3)


@pytest.mark.parametrize(
    ("source", "file", "preprocess", "images", "correct"),
    [
        # On all 1,000 images of test-1000: 915, 928, 933, 926, 926 and 881.
        ("cifar_resnet20", "resnet20-12fca82f.th", _IMAGENET, 1000, 915),
        ("cifar_resnet32", "resnet32-d509ac18.th", _IMAGENET, 200, 185),
        ("cifar_resnet44", "resnet44-014dd654.th", _IMAGENET, 200, 182),
        ("cifar_resnet56", "resnet56-4bfd9763.th", _IMAGENET, 200, 188),
        ("cifar_densenet", "densenet-16-16-16-g12.pth", _CIFAR, 100, 92),
        ("mlperf_resnet8", "mlperf-tiny-resnet8.pth", _BYTES, 1000, 881),
    ],
)
@pytest.mark.slow
def test_published_checkpoints(
    source: str, file: str, preprocess: Preprocess, images: int, correct: int, test_data: Path
) -> None:
    model = zoo.build(source, num_classes=10)
    report = load_weights(model, test_data / "weights" / "cifar10" / file)
    assert report.prefix == ("module." if file.endswith(".th") else "")
    test = load_data("npz", test_data / "cifar10").test.first(images)
    model.eval()
    with torch.no_grad():
        found = [
            model(torch.from_numpy(preprocess(part.x))).argmax(1).numpy() == part.y
            for part in (test[start : start + 100] for start in range(0, images, 100))
        ]
    # Rounding differs between processors; it may tip one image.
    assert abs(sum(int(part.sum()) for part in found) - correct) <= 1
