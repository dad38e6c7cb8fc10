from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edgelathe.data import Split, load_data

from .images import random_cuts, write_folder
from .jpeg import how_made, recompress
from .run_peer import Folder


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 16, 12, 3)).astype(np.uint8)


def test_jpeg_loses_little_of_smooth_luminance_and_all_fine_chroma() -> None:
    ramp = np.broadcast_to(np.arange(64, 192, 8).astype(np.uint8)[None, None, :, None], (1, 16, 16, 3)).copy()
    assert np.abs(recompress(ramp).astype(int) - ramp).max() <= 4
    # Red and blue columns in turn: 4:2:0 keeps one chroma sample of two columns.
    stripes = np.zeros((1, 16, 16, 3), np.uint8)
    stripes[:, :, 0::2, 0] = stripes[:, :, 1::2, 2] = 200
    full, halved = recompress(stripes, subsampling=0), recompress(stripes)
    contrast = [int(made[0, 8, 6, 0]) - int(made[0, 8, 7, 0]) for made in (full, halved)]
    assert contrast[0] > 150
    assert contrast[1] < 60


def test_the_record_says_how_the_jpegs_were_made(images: np.ndarray) -> None:
    said = how_made(images)
    assert "quality=75, subsampling=2 (4:2:0 chroma)" in said
    assert how_made(images + 1) != said


def test_cuts_use_every_image_alike_and_follow_the_seed(images: np.ndarray) -> None:
    split = Split(images, np.arange(3))
    cuts = random_cuts(split, 7, 8, seed=1)
    assert cuts.x.shape == (7, 8, 8, 3)
    assert sorted(np.bincount(cuts.y).tolist()) == [2, 2, 3]
    assert np.array_equal(cuts.x, random_cuts(split, 7, 8, seed=1).x)
    assert not np.array_equal(cuts.x, random_cuts(split, 7, 8, seed=2).x)


def test_all_tools_see_the_same_pixels(images: np.ndarray, tmp_path: Path) -> None:
    write_folder(np.concatenate([images, images]), tmp_path)
    write_folder(images, tmp_path)  # what was there before is gone
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    ours = load_data("folder", tmp_path, mean=mean, std=std)
    assert ours.train is not None
    assert np.array_equal(ours.train.x, images)
    peers = Folder(tmp_path / "train" / "all", mean, std)
    assert len(peers) == 3
    assert np.array_equal(np.concatenate(list(peers)), ours.preprocess(images))
