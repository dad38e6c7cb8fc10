"""Data sets, images and labels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .base import EdgeLatheError

Shape = Iterable[int]


def unequal_lengths(what: str, other: str, length: int, other_length: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot compare {length} {what} with {other_length} {other}: there must be one of each for every image."
    )


def root_needed(source: str) -> EdgeLatheError:
    return EdgeLatheError(f'Cannot read the data source "{source}" without a folder: name it as root.')


def resize_without_size(resize: int, size: int | None) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot resize images to {resize} and cut out {size or 'nothing'}: give a size that is not larger."
    )


def no_image_folder(root: Path) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot find images in {root}: it holds neither test/<class>/ nor val/<class>/ folders nor a "
        "labels.csv; arrange it as one of these."
    )


def no_array_files(root: Path) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot find data in {root}: it holds no test*.npz; check the folder or choose another source."
    )


def pickled_cifar(root: Path, name: str, binary: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot read {name} from {root}: it is the pickled Python version, and reading pickle runs code; "
        f"download the binary version ({binary}) instead."
    )


def empty_class(what: str, name: str) -> EdgeLatheError:
    return EdgeLatheError(f'Cannot use {what}: the class "{name}" has no images; add some or remove the class.')


def wrong_label_row(table: Path, line: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use line {line} of {table}: it must hold a file name inside images/ and a class number."
    )


def unequal_image_sizes(path: Path, shape: Shape, first: Path, first_shape: Shape) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use the image {path} of {_by(shape)} pixels beside {first.name} of {_by(first_shape)}: set size."
    )


def too_large_for_memory(root: Path, count: int, needed: int, available: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot hold the {count} images of {root} in memory: they need {needed / 1e9:.1f} GB of "
        f"{available / 1e9:.1f} GB available; use a smaller size or fewer images."
    )


def wrong_images(what: str, shape: Shape, dtype: object, wanted: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use {what} of type {dtype} and shape [{', '.join(map(str, shape))}]: "
        f"give uint8 (or floats in 0..1) of shape {wanted}."
    )


def wrong_range(what: str, low: float, high: float) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use {what}: float pixels must lie in 0..1 and these reach from {low:g} to {high:g}; "
        "scale them or give uint8."
    )


def not_finite(what: str, index: int) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot use {what}: image {index} has NaN or infinite pixels; mend or remove it.")


def wrong_labels(what: str, shape: Shape, dtype: object, count: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use the labels of {what}, of type {dtype} and shape [{', '.join(map(str, shape))}]: "
        f"give one integer for each of the {count} images."
    )


def label_out_of_range(what: str, index: int, label: int, classes: int | None) -> EdgeLatheError:
    valid = "0 or more" if classes is None else f"0..{classes - 1}"
    return EdgeLatheError(
        f"Cannot use {what}: image {index} has the label {label}, which must be {valid}; mend the labels."
    )


def unequal_class_counts(name: str, found: int, asked: int) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use {name} with num_classes = {asked}: it names {found} classes; leave num_classes out."
    )


def unequal_splits(name: str, train: Shape, test: Shape) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot use {name}: training images have the shape [{_by(train)}] and test images [{_by(test)}]; set size."
    )


def only_test_images(name: str) -> EdgeLatheError:
    return EdgeLatheError(
        f"Cannot calibrate on {name}: it has no training images, and test images must not be calibrated on; "
        "set holdout to put some of them apart."
    )


def holdout_with_train(name: str, n: int) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot hold {n} test images of {name} out: it has training images; leave holdout out.")


def wrong_count(what: str, name: str, n: int, valid: str) -> EdgeLatheError:
    return EdgeLatheError(f"Cannot use {what} = {n} on {name}: it must be {valid}.")


def wrong_normalisation(key: str, values: Iterable[float], channels: int) -> EdgeLatheError:
    given = ", ".join(f"{value:g}" for value in values)
    return EdgeLatheError(
        f"Cannot normalise by {key} = [{given}]: give {channels} finite values, one per channel, and a std above 0."
    )


def _by(shape: Shape) -> str:
    return " x ".join(map(str, shape))
