from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edgelathe import imagefiles
from edgelathe.data import Preprocess, load_data
from edgelathe.errors import EdgeLatheError
from edgelathe.imagefiles import ImageFiles
from edgelathe.imagesequence import ImageSequence
from PIL import Image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """train/ of 7 and 5 images and val/ of 1 and 1, each image of its own grey."""
    for which, counts in (("train", (7, 5)), ("val", (1, 1))):
        for label, count in zip(("ant", "bee"), counts, strict=True):
            (tmp_path / which / label).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (6, 4), (number, 100 * len(label), 7)).save(tmp_path / which / label / f"{number}.png")
    return tmp_path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read, in order."""
    names: list[str] = []
    read = imagefiles.read_image

    def noted(path: Path, *rest: int | None) -> Image.Image:
        names.append(f"{path.parent.name}/{path.name}")
        return read(path, *rest)

    monkeypatch.setattr(imagefiles, "read_image", noted)
    return names


@pytest.mark.parametrize("keys", [{}, {"size": 3}, {"size": 2, "resize": 3}])
def test_lazy_images_are_the_eager_ones(folder: Path, keys: dict[str, int]) -> None:
    eager, lazy = load_data("folder", folder, **keys), load_data("folder", folder, lazy=True, **keys)
    assert (lazy.shape, lazy.classes) == (eager.shape, eager.classes)
    assert lazy.train is not None
    assert eager.train is not None
    assert isinstance(lazy.train.x, ImageFiles)
    assert lazy.train.x.shape == eager.train.x.shape
    np.testing.assert_array_equal(lazy.train.x[2:9], eager.train.x[2:9])
    np.testing.assert_array_equal(np.asarray(lazy.test.x), eager.test.x)
    assert lazy.fingerprint == eager.fingerprint


@pytest.mark.parametrize("holdout", [0, 1])
def test_the_same_images_are_chosen(folder: Path, holdout: int) -> None:
    if holdout:
        for path in sorted((folder / "train").rglob("*.png")):
            path.unlink()
        for label in ("ant", "bee"):
            (folder / "train" / label).rmdir()
        (folder / "train").rmdir()
    eager = load_data("folder", folder, holdout=holdout).calibration(5, seed=3)
    lazy = load_data("folder", folder, holdout=holdout, lazy=True).calibration(5, seed=3)
    np.testing.assert_array_equal(np.asarray(lazy.x), eager.x)
    np.testing.assert_array_equal(lazy.y, eager.y)


def test_only_chosen_images_are_read_and_only_when_they_are_looked_at(folder: Path, decoded: list[str]) -> None:
    data = load_data("folder", folder, lazy=True)
    assert data.train is not None
    chosen = data.calibration(4, seed=0)
    sequence = ImageSequence(chosen.x, Preprocess((0.0,) * 3, (1 / 255,) * 3))
    seen = set(decoded)
    assert seen <= {"ant/0.png"}  # for the size
    assert len(sequence) == 4
    assert sequence[1:3].shape == (2, 3, 4, 6)
    assert len(decoded) <= len(seen) + 2 + 1


def test_sizes_are_compared_with_the_first_of_the_folder(folder: Path) -> None:
    Image.new("RGB", (5, 5)).save(folder / "train" / "bee" / "1.png")
    data = load_data("folder", folder, lazy=True)
    assert data.train is not None
    with pytest.raises(EdgeLatheError, match=r"bee/1\.png of 5 x 5 pixels beside 0\.png of 4 x 6: set size\."):
        np.asarray(data.calibration(12, seed=0).x)


def test_a_truncated_image_is_named(folder: Path) -> None:
    broken = folder / "train" / "ant" / "3.png"
    broken.write_bytes(broken.read_bytes()[:50])
    data = load_data("folder", folder, lazy=True)
    with pytest.raises(EdgeLatheError, match=r"^Cannot read the image .*ant/3\.png: .*; replace or remove the file\.$"):
        np.asarray(data.calibration(12, seed=0).x)
