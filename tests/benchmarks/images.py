"""The images of a benchmark: what ranges are calibrated on, what accuracy and agreement are measured on.

No image is in two of these sets, but for networks with random weights, which are shown other cuts of the same images.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from edgelathe.data import Dataset, Split, load_data
from PIL import Image

from .jpeg import how_made, recompress
from .networks import Network

TRAINING = 40_000
"""CIFAR-10 images before train-4.npz: calibration takes from these, agreement is measured on the rest."""
RESIZED = 256
OTHER_CUTS = 64


@dataclass(frozen=True)
class TestSet:
    name: str
    images: Split
    made: str
    """One sentence on where the images come from."""


@dataclass(frozen=True)
class Images:
    calibration: Split
    calibration_made: str
    top1: TestSet | None
    agreement: TestSet | None
    """For networks with random weights `top1` is None, and the labels of `agreement` mean nothing."""


def load_images(network: Network, data: Path, count: int, seed: int) -> Images:
    """`count` calibration images and the test sets of `network`, from the folder of test data.

    Raises EdgeLatheError when they are not there or too few.
    """
    if network.images == "cifar10":
        return _cifar10(data, count, seed)
    if network.trained:
        return _imagenet_sample(data, count, seed)
    made = f"random 224 x 224 cuts of the ImageNet sample (shorter side {RESIZED}), seed"
    sample = whole_sample(data).test
    others = TestSet("other cuts", random_cuts(sample, OTHER_CUTS, 224, seed + 1), f"{OTHER_CUTS} {made} {seed + 1}")
    return Images(random_cuts(sample, count, 224, seed), f"{count} {made} {seed}", None, others)


def _cifar10(data: Path, count: int, seed: int) -> Images:
    whole = _read_cifar10(data)
    assert whole.train is not None
    return Images(
        whole.train[:TRAINING].take(count, seed),
        f"{count} images of CIFAR-10 train-0..3, each class in its share, seed {seed}",
        TestSet("test-1000", whole.test, "the first 1,000 CIFAR-10 test images"),
        _jpeg_of_train4(data),
    )


@functools.cache
def _read_cifar10(data: Path) -> Dataset:
    return load_data("cifar10", data / "cifar10")


@functools.cache
def _jpeg_of_train4(data: Path) -> TestSet:
    whole = _read_cifar10(data)
    assert whole.train is not None
    clean = whole.train[TRAINING:]
    coarse = recompress(clean.x)
    made = f"the {len(clean):,} images of CIFAR-10 train-4, {how_made(coarse)}"
    return TestSet("train-4 as JPEG", Split(coarse, clean.y), made)


def _imagenet_sample(data: Path, count: int, seed: int) -> Images:
    sample = load_data("folder", data / "imagenet-sample", size=224, resize=RESIZED, holdout=count, seed=seed)
    assert sample.train is not None
    made = f"the {len(sample.test)} of {len(sample.train) + len(sample.test)} images not calibrated on"
    rest = TestSet("ImageNet sample", sample.test, f"ImageNet sample, 224 x 224 from the centre: {made}")
    return Images(sample.train, f"{count} images of the ImageNet sample, seed {seed}", rest, rest)


@functools.cache
def whole_sample(data: Path) -> Dataset:
    return load_data("folder", data / "imagenet-sample", size=RESIZED, resize=RESIZED)


def random_cuts(images: Split, count: int, side: int, seed: int) -> Split:
    """`count` cuts of side x side pixels at seeded places of seeded images, every image as often as the others."""
    random = np.random.default_rng(seed)
    rounds = -(-count // len(images))
    order = np.concatenate([random.permutation(len(images)) for _ in range(rounds)])[:count]
    _, height, width, channels = images.x.shape
    tops, lefts = random.integers(0, height - side + 1, count), random.integers(0, width - side + 1, count)
    cuts = np.empty((count, side, side, channels), np.uint8)
    for cut, index, top, left in zip(cuts, order, tops, lefts, strict=True):
        cut[...] = images.x[index, top : top + side, left : left + side]
    return Split(cuts, images.y[order])


def write_folder(images: np.ndarray, folder: Path) -> None:
    """Write uint8 [N, H, W, 3] as an image folder of one class, lossless, for every tool to read alike.

    Tools calibrate on train/; val/ repeats one image, because `edgelathe quantize` wants a data set with test images.
    """
    for which, part in (("train", images), ("val", images[:1])):
        target = folder / which / "all"
        target.mkdir(parents=True, exist_ok=True)
        for old in target.glob("*.png"):
            old.unlink()
        for number, image in enumerate(part):
            Image.fromarray(image).save(target / f"{number:05}.png", compress_level=1)
