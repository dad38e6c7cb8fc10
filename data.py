"""Data sets as arrays: uint8 images [N, H, W, C] and int64 labels [N]; how pixels become inputs.

Readers give plain arrays (`imagefolder`, `arrayfiles`, a user's function); `load_data` checks them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import arrayfiles, errors, imagefolder, userfunction
from .arraychecks import as_labels, as_pixels
from .imagefiles import ImageFiles, fit_arrays

SOURCES = ("digits", "cifar10", "cifar100", "folder", "npz")

_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_NORMALISATION = {
    "digits": ((0.3053,), (0.3760,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Preprocess:
    """Per-channel normalisation: a network sees (x / 255 - mean) / std.

    `mean` and `std` are shares of full scale; mean 0 with std 1/255 leaves inputs at 0..255.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, C] -> float32 [N, C, H, W], C-contiguous. Raises EdgeLatheError for others."""
        if x.ndim != 4 or x.shape[-1] != len(self.mean) or x.dtype != np.uint8:
            raise errors.data.wrong_images("images to preprocess", x.shape, x.dtype, f"[N, H, W, {len(self.mean)}]")
        out = np.empty((len(x), x.shape[3], x.shape[1], x.shape[2]), np.float32)
        for channel, table in enumerate(self._tables):
            out[:, channel] = table[x[..., channel]]
        return out

    @cached_property
    def _tables(self) -> np.ndarray:
        """What each of the 256 pixel values becomes: float32 [C, 256], rounded once from float64."""
        mean, std = np.array(self.mean)[:, None], np.array(self.std)[:, None]
        return ((np.arange(256) / 255 - mean) / std).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 [N, H, W, C] with labels int64 [N]."""

    x: np.ndarray
    """Of data that was loaded lazily, an `ImageFiles`, whose slices are arrays."""
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: slice | np.ndarray) -> Split:
        if isinstance(self.x, ImageFiles):
            return Split(self.x.chosen(index), self.y[index])
        return Split(np.ascontiguousarray(self.x[index]), self.y[index])

    def first(self, n: int) -> Split:
        """The first n images; all of them where there are fewer."""
        return self[:n]

    def take(self, n: int, seed: int) -> Split:
        """n images in which each class keeps its share, chosen by `seed`; all where there are fewer."""
        return self[stratified_order(self.y, seed)[:n]]


@dataclass(frozen=True, eq=False)
class Dataset:
    """What networks are trained, calibrated and judged on. `train` is None where only test images exist."""

    name: str
    train: Split | None
    test: Split
    classes: tuple[str, ...]
    preprocess: Preprocess

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one network input: (C, H, W)."""
        height, width, channels = self.test.x.shape[1:]
        return channels, height, width

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over images, labels and class names; normalisation belongs to the network."""
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        for split in (self.train, self.test):
            for array in () if split is None else (split.x, split.y):
                digest.update(f"{array.dtype.str}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def calibration(self, n: int, seed: int) -> Split:
        """n training images, so that ranges are never fitted to what accuracy is measured on.

        Raises EdgeLatheError where there are no training images.
        """
        if self.train is None:
            raise errors.data.only_test_images(self.name)
        return self.train.take(n, seed)


def stratified_order(y: np.ndarray, seed: int) -> np.ndarray:
    """A seeded order of int64 [N] labels of which every head holds each class in its share."""
    shuffled = np.random.default_rng(seed).permutation(len(y))
    place = np.empty(len(y))
    for label in np.unique(y):
        members = shuffled[y[shuffled] == label]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return shuffled[np.argsort(place[shuffled], kind="stable")]


class Raw(NamedTuple):
    """What a reader found, unchecked: arrays of any dtype and shape, class names where there are any."""

    train: tuple[np.ndarray, np.ndarray] | None
    test: tuple[np.ndarray, np.ndarray]
    classes: tuple[str, ...] | None = None


def load_data(
    source: str,
    root: Path | str | None = None,
    *,
    size: int | None = None,
    resize: int | None = None,
    holdout: int = 0,
    labels: Path | str | None = None,
    num_classes: int | None = None,
    limit_train: int | None = None,
    limit_test: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    lazy: bool = False,
) -> Dataset:
    """Read a data set into memory.

    source: one of
        "digits"               1,797 digits of 8x8 from scikit-learn, one channel, a fifth of each class
                               held out; needs no root
        "cifar10", "cifar100"  the official binary version, or train*.npz and test*.npz with `x` and `y`
        "folder"               train/<class>/ and test/<class>/ (or val/); or images/ with a labels.csv of
                               file name and class number
        "npz"                  train*.npz and test*.npz with `x` and `y`; or one file with x_train, y_train,
                               x_test, y_test
        "path/to/file.py:function"  returns a Dataset or (x_train, y_train, x_test, y_test), whose
                               first two may be None; called with `root` if given
    size         side of the square images, in pixels: the shorter side is brought to `resize` (default:
                 `size`) bilinearly, then the centre is cut out
    holdout      where there are no training images, this many test images become them (calibration)
    labels       the CSV file of an image folder; default labels.csv in root
    num_classes  where labels alone do not tell
    limit_train, limit_test   keep this many images, each class in its share
    mean, std    per channel, as shares of full scale; default: those of the data set, of ImageNet for other
                 colour images, 0.5 for any other number of channels
    seed         chooses what is held out and kept
    lazy         leave the images of a folder in their files until they are looked at, as `quantize` does with the
                 few that it takes; bad ones among the others are then not noticed

    Float pixels must lie in 0..1 and are rounded to uint8. Raises EdgeLatheError for whatever cannot be used.
    """
    if size is not None and size < 1:
        raise errors.inputs.impossible_setting("size", size, "1 or more pixels")
    if resize is not None and (size is None or resize < size):
        raise errors.data.resize_without_size(resize, size)
    if source == "digits":
        name, raw = source, _digits(seed)
    elif source in ("cifar10", "cifar100"):
        name, raw = source, Raw(*arrayfiles.read_cifar(source, _needed(root, source)))
    elif source == "npz":
        name, raw = Path(_needed(root, source)).stem, Raw(*arrayfiles.read_npz(_needed(root, source)))
    elif source == "folder":
        folder = _needed(root, source)
        name = folder.resolve().name
        read = imagefolder.list_image_folder if lazy else imagefolder.read_image_folder
        raw = Raw(*read(folder, None if labels is None else Path(labels), size=size, resize=resize))
    elif userfunction.is_user_function(source):
        made = _from_function(source, root)
        if isinstance(made, Dataset):
            mean, std = mean or made.preprocess.mean, std or made.preprocess.std
            name, raw = (
                made.name,
                Raw(None if made.train is None else _arrays(made.train), _arrays(made.test), made.classes),
            )
        else:
            name, raw = source.rpartition(":")[2], made
    else:
        raise errors.inputs.unknown_choice("data source", source, (*SOURCES, "path/to/file.py:function"))

    if source == "folder":  # its reader has fitted the images already; a second resize would zoom into them
        size = resize = None
    classes = raw.classes or (_CIFAR10 if source == "cifar10" else None)
    if classes and num_classes not in (None, len(classes)):
        raise errors.data.unequal_class_counts(name, len(classes), num_classes)
    highest = len(classes) if classes else num_classes
    test = _split(name, "test", raw.test, highest, size, resize)
    train = None if raw.train is None else _split(name, "training", raw.train, highest, size, resize)
    if classes is None:
        highest = highest or 1 + max(int(split.y.max()) for split in (test, train) if split is not None)
        classes = tuple(str(label) for label in range(highest))
    if train is not None:
        _every_class_has_images(name, train, classes)
        if train.x.shape[1:] != test.x.shape[1:]:
            raise errors.data.unequal_splits(name, train.x.shape[1:], test.x.shape[1:])
    if holdout:
        train, test = _held_out(name, train, test, holdout, seed)
    if train is not None:
        train = _limited(name, "limit_train", train, limit_train, seed)
    test = _limited(name, "limit_test", test, limit_test, seed)
    return Dataset(name, train, test, classes, _preprocess(source, test.x.shape[-1], mean, std))


def _needed(root: Path | str | None, source: str) -> Path:
    if root is None:
        raise errors.data.root_needed(source)
    path = Path(root).expanduser()
    if not path.exists():
        raise errors.inputs.missing_file("the data in", path)
    return path


def _digits(seed: int) -> Raw:
    from sklearn.datasets import load_digits  # slow to import, needed by this source alone

    digits = load_digits()
    x = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    y = digits.target.astype(np.int64)
    order = stratified_order(y, seed)
    test, train = np.split(order, [round(len(y) / 5)])
    return Raw((x[train], y[train]), (x[test], y[test]), tuple("0123456789"))


def _from_function(source: str, root: Path | str | None) -> Dataset | Raw:
    made = userfunction.call(source, userfunction.load_function(source), *(() if root is None else (Path(root),)))
    if isinstance(made, Dataset):
        return made
    if not isinstance(made, tuple) or len(made) != 4 or made[2] is None or made[3] is None:
        raise errors.networks.wrong_result(source, "a Dataset or (x_train, y_train, x_test, y_test)", made)
    x_train, y_train, x_test, y_test = made
    train = None if x_train is None else (np.asarray(x_train), np.asarray(y_train))
    return Raw(train, (np.asarray(x_test), np.asarray(y_test)))


def _arrays(split: Split) -> tuple[np.ndarray, np.ndarray]:
    return split.x, split.y


def _split(
    name: str,
    which: str,
    arrays: tuple[np.ndarray, np.ndarray],
    highest: int | None,
    size: int | None,
    resize: int | None,
) -> Split:
    what = f"the {which} images of {name}"
    x, y = as_pixels(what, arrays[0]), as_labels(what, arrays[1], len(arrays[0]), highest)
    return Split(x if size is None else fit_arrays(x, size, resize), y)


def _every_class_has_images(name: str, train: Split, classes: tuple[str, ...]) -> None:
    counts = np.bincount(train.y, minlength=len(classes))
    if not counts.all():
        raise errors.data.empty_class(f"the training images of {name}", classes[int(np.argmin(counts))])


def _held_out(name: str, train: Split | None, test: Split, n: int, seed: int) -> tuple[Split, Split]:
    if train is not None:
        raise errors.data.holdout_with_train(name, n)
    if not 0 < n < len(test):
        raise errors.data.wrong_count("holdout", name, n, f"less than its {len(test)} test images")
    order = stratified_order(test.y, seed)
    return test[np.sort(order[:n])], test[np.sort(order[n:])]


def _limited(name: str, key: str, split: Split, n: int | None, seed: int) -> Split:
    if n is not None and n < 1:
        raise errors.data.wrong_count(key, name, n, "1 or more")
    return split if n is None else split.take(n, seed)


def _preprocess(source: str, channels: int, mean: Sequence[float] | None, std: Sequence[float] | None) -> Preprocess:
    usual = _NORMALISATION.get(source, _IMAGENET if channels == 3 else ((0.5,), (0.5,)))
    return normalisation(channels, usual[0] if mean is None else mean, usual[1] if std is None else std)


def normalisation(channels: int, mean: Sequence[float], std: Sequence[float]) -> Preprocess:
    """By one number per channel, or one for all. Raises EdgeLatheError for other counts and a std of 0."""
    full = []
    for key, given in (("mean", mean), ("std", std)):
        values = tuple(float(value) for value in given)
        values = values * channels if len(values) == 1 else values
        if len(values) != channels or not np.isfinite(values).all() or (key == "std" and min(values) <= 0):
            raise errors.data.wrong_normalisation(key, values, channels)
        full.append(values)
    return Preprocess(*full)
