from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from edgelathe.compress.augment import augment, view_draws
from edgelathe.compress.distill import answering
from edgelathe.compress.distill.stored_answers import HEADER, StoredAnswers, stored_answers
from edgelathe.compress.distill.teachers import Teacher, as_teacher
from edgelathe.compress.objective import Batch, as_tensor, network_inputs
from edgelathe.compress.precision import autocast
from edgelathe.data import Dataset, Preprocess
from edgelathe.errors import EdgeLatheError
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from .conftest import Counted

MakeNet = Callable[[], nn.Module]


class Killed(BaseException):
    pass


@pytest.fixture
def teacher(small_net: MakeNet) -> Teacher:
    return as_teacher("big", small_net().eval(), Preprocess((0.4,) * 3, (0.3,) * 3))


def _store(teacher: Teacher, data: Dataset, folder: Path | None, **settings: Any) -> StoredAnswers:
    usual: dict[str, Any] = {
        "augment": "crop-flip", "views": 2, "seed": 5, "precision": "float32", "threads": 1, "progress": False,
    }  # fmt: skip
    return stored_answers(teacher, data, folder=folder, **{**usual, **settings})


def _batch(data: Dataset, numbers: Tensor, view: int, *, seed: int = 5, kind: Any = "crop-flip") -> Batch:
    """As the trainer makes it of the images `numbers` in `view`."""
    assert data.train is not None
    pixels = as_tensor(data.train.x)
    draws = view_draws(kind, *pixels.shape[:3], seed=seed, view=view)
    images = augment(pixels[numbers], draws.of(numbers) if draws else None)
    return Batch(
        torch.zeros(len(numbers), 3), as_tensor(data.train.y)[numbers], images,
        network_inputs(images, data.preprocess), data.preprocess, lambda: autocast("float32"),
        numbers=numbers, view=view,
    )  # fmt: skip


def _home(folder: Path) -> Path:
    (home,) = (path for path in folder.iterdir() if path.is_dir())
    return home


@pytest.mark.parametrize("kind", ["none", "shift", "crop-flip"])
def test_answers_are_the_teachers_to_the_same_pixels(
    blobs: Dataset, teacher: Teacher, tmp_path: Path, kind: Any
) -> None:
    stored = _store(teacher, blobs, tmp_path, augment=kind)
    assert len(stored.views) == (1 if kind == "none" else 2)
    for view in (0, 1):
        batch = _batch(blobs, torch.tensor([95, 3, 40, 3, 0]), view, kind=kind)
        wanted = teacher.logits(batch)
        wanted = wanted - wanted.amax(dim=1, keepdim=True)
        found = stored(batch)
        assert found.dtype == torch.float32
        assert torch.allclose(found, wanted, rtol=2**-11, atol=1e-5)


def test_views_and_seeds_differ(blobs: Dataset, teacher: Teacher, tmp_path: Path) -> None:
    first, second = _store(teacher, blobs, tmp_path).views
    other = _store(teacher, blobs, tmp_path, seed=6).views[0]
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)


@given(
    scale=st.floats(0.1, 30.0), offset=st.floats(-1e4, 1e4), temperature=st.sampled_from([1.0, 4.0]),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_rounding_does_not_matter(scale: float, offset: float, temperature: float, seed: int) -> None:
    """Loss and gradient of distillation, against those of exact answers; `offset` would be lost in float16."""
    generator = torch.Generator().manual_seed(seed)
    exact = torch.randn(16, 10, generator=generator, dtype=torch.float64) * scale + offset
    student = (torch.randn(16, 10, generator=generator, dtype=torch.float64) * 3).requires_grad_()
    stored = (exact - exact.amax(dim=1, keepdim=True)).half().double()

    def loss(answers: Tensor) -> Tensor:
        taught = F.log_softmax(answers / temperature, dim=1)
        mine = F.log_softmax(student / temperature, dim=1)
        return F.kl_div(mine, taught, log_target=True, reduction="batchmean") * temperature**2

    (wanted,) = torch.autograd.grad(loss(exact), student)
    (found,) = torch.autograd.grad(loss(stored), student)
    assert float((found - wanted).norm()) <= 1e-3 * float(wanted.norm())
    assert loss(stored).item() == pytest.approx(loss(exact).item(), rel=1e-3)


def test_what_is_stored_is_not_computed_again(blobs: Dataset, small_net: MakeNet, tmp_path: Path) -> None:
    network = Counted(small_net().eval())
    teacher = as_teacher("big", network, blobs.preprocess)

    def run(**settings: Any) -> int:
        """Images that the teacher answers, without the one that tells the number of classes."""
        before = network.seen[0]
        _store(teacher, blobs, tmp_path, **settings)
        return network.seen[0] - before - 1

    tried_out = run() - 2 * 96  # what folding looks at
    assert 0 <= tried_out < 16
    assert run() == tried_out
    assert run(views=3) == tried_out + 96
    assert run(views=1) == tried_out
    assert run(seed=1, views=1) == tried_out + 96
    assert len(list(tmp_path.iterdir())) == 2


def test_a_killed_process_continues_at_its_view(
    blobs: Dataset, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = _store(teacher, blobs, tmp_path / "whole", views=3)
    write, written = answering.Answering.write, []

    def dying(self: Any, path: Path, view: int, *rest: Any) -> None:
        if view == 2 and not written.count(2):
            written.append(2)
            raise Killed
        written.append(view)
        write(self, path, view, *rest)

    monkeypatch.setattr(answering.Answering, "write", dying)
    with pytest.raises(Killed):
        _store(teacher, blobs, tmp_path / "killed", views=3)
    continued = _store(teacher, blobs, tmp_path / "killed", views=3)
    assert written == [0, 1, 2, 2]
    for mine, theirs in zip(continued.views, undisturbed.views, strict=True):
        assert np.array_equal(mine, theirs)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)


def _pickle(path: Path) -> None:
    np.save(path, np.array([{"not": "numbers"}], object), allow_pickle=True)


@pytest.mark.parametrize("damage", [_truncate, _flip, _pickle, Path.unlink, lambda path: path.write_bytes(b"")])
def test_damaged_files_are_made_again(
    blobs: Dataset, teacher: Teacher, tmp_path: Path, damage: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    before = [np.array(view) for view in _store(teacher, blobs, tmp_path).views]
    path = _home(tmp_path) / "view-001.npy"
    damage(path)
    capfd.readouterr()
    again = _store(teacher, blobs, tmp_path, progress=True).views
    said = capfd.readouterr().err
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(again, before, strict=True))
    assert "1 views x 96 images x 3 classes x 2 bytes = 0.0 MB" in said
    damaged = f"{path} is damaged: its view of the training images is answered again."
    assert (damaged in said) is (damage is not Path.unlink)


def test_a_damaged_header_means_everything_again(
    blobs: Dataset, teacher: Teacher, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = [np.array(view) for view in _store(teacher, blobs, tmp_path).views]
    header = _home(tmp_path) / HEADER
    header.write_text('{"format": 1')
    again = _store(teacher, blobs, tmp_path, progress=True).views
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(again, before, strict=True))
    assert f"{header} is damaged: the teacher's answers are computed again." in capfd.readouterr().err


def test_answers_of_another_teacher_are_refused(blobs: Dataset, teacher: Teacher, tmp_path: Path) -> None:
    _store(teacher, blobs, tmp_path)
    header = _home(tmp_path) / HEADER
    header.write_text(json.dumps(json.loads(header.read_text()) | {"seed": 7, "augment": "shift"}))
    with pytest.raises(EdgeLatheError) as caught:
        _store(teacher, blobs, tmp_path)
    assert str(caught.value) == (
        f"Cannot use the stored answers {header}: they are of another augment, seed; delete their folder to have them "
        "computed."
    )


class Failing(nn.Module):
    """Not a number for images with a bright first pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x[:, 0, :1, 0] > 2.0, torch.nan, x.mean(dim=(2, 3)))


def test_answers_that_are_not_finite_are_refused(blobs: Dataset, tmp_path: Path) -> None:
    assert blobs.train is not None
    plain = Preprocess((0.0,) * 3, (1.0,) * 3)
    x = np.array(blobs.train.x)
    x[:, 0, 0, 0] = 0
    teacher = as_teacher("big", Failing(), Preprocess((0.0,) * 3, (1 / 255,) * 3))
    x[17, 0, 0, 0] = 255
    data = Dataset("spoilt", type(blobs.train)(x, blobs.train.y), blobs.test, blobs.classes, plain)
    with pytest.raises(EdgeLatheError) as caught:
        _store(teacher, data, tmp_path, augment="none")
    assert str(caught.value) == (
        "Cannot store the answers of big: to training image 17 in view 0 it answers with numbers that are not finite; "
        "check its weights, mean and std."
    )
    assert [path.name for path in _home(tmp_path).iterdir()] == [".lock"]


def test_too_little_space_is_said_before(
    blobs: Dataset, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(answering.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 4 * 96 * 3 * 2 - 1))
    _store(teacher, blobs, tmp_path, views=3)
    with pytest.raises(EdgeLatheError, match=r"they take 0\.0 MB and 0\.0 MB are free; free space, lower views, or"):
        _store(teacher, blobs, tmp_path, views=8)


def test_a_full_disk_is_an_error_and_leaves_whole_views(
    blobs: Dataset, teacher: Teacher, full_disk: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = full_disk(64 * 1024)
    monkeypatch.setattr("edgelathe.compress.distill.stored_answers.check_space", lambda *_: None)
    assert blobs.train is not None
    many = Dataset("many", type(blobs.train)(np.tile(blobs.train.x, (160, 1, 1, 1)), np.tile(blobs.train.y, 160)),
                   blobs.test, blobs.classes, blobs.preprocess)  # fmt: skip
    with pytest.raises(EdgeLatheError, match=disk.why):
        _store(teacher, many, disk.folder, views=1)
    assert not list(_home(disk.folder).glob("*.npy"))


def test_the_number_format_is_measured_once(
    blobs: Dataset, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgelathe.compress.distill.stored_answers.faster_precision", lambda _: "bf16")
    assert _store(teacher, blobs, tmp_path, precision="auto").precision == "bf16"
    monkeypatch.setattr("edgelathe.compress.distill.stored_answers.faster_precision", lambda _: "float32")
    assert _store(teacher, blobs, tmp_path, precision="auto", views=3).precision == "bf16"
    exact, rounded = (_store(teacher, blobs, tmp_path, precision=kind) for kind in ("float32", "bf16"))
    assert (exact.precision, rounded.precision) == ("float32", "bf16")
    assert not np.array_equal(exact.views[0], rounded.views[0])
    assert exact.settings() != rounded.settings()


def test_without_a_folder_they_live_as_long_as_they_are_held(blobs: Dataset, teacher: Teacher) -> None:
    stored = _store(teacher, blobs, None)
    folder = Path(str(stored.views[0].filename)).parent  # type: ignore[attr-defined]
    assert folder.is_dir()
    del stored
    assert not folder.exists()


def test_nothing_is_said_unless_asked(
    blobs: Dataset, teacher: Teacher, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _store(teacher, blobs, tmp_path, progress=False)
    assert capfd.readouterr() == ("", "")
    _store(teacher, blobs, tmp_path, progress=True, views=4)
    assert "Teacher's answers: 2 views x 96 images x 3 classes x 2 bytes" in capfd.readouterr().err
