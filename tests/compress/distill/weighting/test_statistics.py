from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from edgelathe.compress.distill.weighting import statistics as module
from edgelathe.compress.distill.weighting.statistics import TeacherStatistics, measure_teacher
from edgelathe.data import Split
from torch import Tensor


def sure(images: Tensor) -> Tensor:
    """Class 1 with odds of three to one where the first pixel is bright, else class 0 with the same odds."""
    bright = (images[:, 0, 0, 0] > 100).float()
    return torch.log(torch.tensor(3.0)) * torch.stack([1 - bright, bright], dim=1)


@pytest.fixture
def images() -> Split:
    """Eight images, bright and of class 1 in the second half; one bright image is labelled 0."""
    x = np.zeros((8, 2, 2, 1), np.uint8)
    x[4:] = 200
    return Split(x, np.array([0, 0, 0, 0, 0, 1, 1, 1]))


def test_by_hand(images: Split) -> None:
    found = measure_teacher(sure, images, temperature=1.0)
    doubt = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / np.log(2)
    assert found.images == 8
    assert found.agreement == 7 / 8
    assert found.confidence == pytest.approx((7 * 0.75 + 0.25) / 8, abs=1e-4)
    assert found.entropy == pytest.approx(1 - doubt, abs=1e-4)


def test_a_slice_in_the_shares_of_the_classes(images: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE", 5)
    many = Split(np.repeat(images.x, 50, axis=0), np.repeat(images.y, 50))
    seen: list[Tensor] = []

    def answers(shown: Tensor) -> Tensor:
        seen.append(shown)
        return sure(shown)

    found = measure_teacher(answers, many, temperature=1.0)
    assert found.images == 5 == sum(len(shown) for shown in seen)


def test_the_same_seed_gives_the_same_figures_and_batches_do_not_matter(
    images: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    noisy = Split(rng.integers(0, 255, (60, 4, 4, 1)).astype(np.uint8), np.arange(60) % 2)
    asked = {"temperature": 2.0, "augmented": "crop-flip", "seed": 3}
    found = measure_teacher(sure, noisy, **asked)
    monkeypatch.setattr(module, "_BATCH", 7)
    assert measure_teacher(sure, noisy, **asked) == found
    assert measure_teacher(sure, noisy, **{**asked, "augmented": "none"}) != found


def test_mixed_images_lower_the_mean_confidence(images: Split) -> None:
    mixed = measure_teacher(sure, images, temperature=0.1, mix="cutmix", mix_strength=1.0)
    assert mixed.confidence < measure_teacher(sure, images, temperature=0.1).confidence


def test_a_mean_of_zero_divides_nothing() -> None:
    hopeless = TeacherStatistics(10, agreement=0.0, confidence=0.4, entropy=0.2)
    assert hopeless.mean_score("agreement") == 1e-3
    assert replace(hopeless, agreement=0.5).mean_score("agreement") == 0.5
