"""Folders of image files as uint8 RGB images: a folder per class, or one folder with a CSV of labels."""

from __future__ import annotations

import csv
from pathlib import Path, PurePath

import numpy as np

from . import errors
from .imagefiles import ImageFiles

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

Arrays = tuple[np.ndarray, np.ndarray]
Files = tuple[ImageFiles, np.ndarray]


def read_image_folder(
    root: Path, labels: Path | None = None, *, size: int | None = None, resize: int | None = None
) -> tuple[Arrays | None, Arrays, tuple[str, ...] | None]:
    """(train, test, class names): arrays uint8 [N, H, W, 3] and int64 [N], in order of class and file name.

    Raises EdgeLatheError as `list_image_folder` does, and for an unreadable image (named), unequal sizes, and more
    pixels than memory.
    """
    train, test, classes = list_image_folder(root, labels, size=size, resize=resize)
    learned = None if train is None else (_in_memory(train[0]), train[1])
    return learned, (_in_memory(test[0]), test[1]), classes


def list_image_folder(
    root: Path, labels: Path | None = None, *, size: int | None = None, resize: int | None = None
) -> tuple[Files | None, Files, tuple[str, ...] | None]:
    """(train, test, class names): images that are decoded when they are looked at, and int64 [N].

    train/<class>/ with test/<class>/ or val/<class>/ (test/ wins); or images/ with labels.csv, all test.
    Raises EdgeLatheError for an empty folder or class, and for labels that cannot be used.
    """
    test = next((folder for folder in (root / "test", root / "val") if folder.is_dir()), None)
    if labels is not None or (test is None and (root / "labels.csv").is_file()):
        files, numbers = _read_labels(root / "images", labels or root / "labels.csv")
        return None, (ImageFiles(files, size, resize), np.array(numbers)), None
    train = root / "train" if (root / "train").is_dir() else None
    if test is None:
        raise errors.data.no_image_folder(root)
    classes = _class_names(train or test)
    for folder, other in ((train, test), (test, train)) if train else ():
        if lacking := set(_class_names(other)) - set(_class_names(folder)):
            raise errors.data.empty_class(f"the image folder {folder}", min(lacking))
    learned = None if train is None else _read_classes(train, classes, size, resize)
    return learned, _read_classes(test, classes, size, resize), classes


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."))
    if not names:
        raise errors.data.no_image_folder(folder.parent)
    return names


def _read_classes(folder: Path, classes: tuple[str, ...], size: int | None, resize: int | None) -> Files:
    files: list[Path] = []
    numbers: list[int] = []
    for number, name in enumerate(classes):
        found = sorted(path for path in (folder / name).rglob("*") if _is_image(path))
        if not found:
            raise errors.data.empty_class(f"the image folder {folder}", name)
        files += found
        numbers += [number] * len(found)
    return ImageFiles(files, size, resize), np.array(numbers)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and path.name[0] != "." and path.is_file()


def _read_labels(images: Path, table: Path) -> tuple[list[Path], list[int]]:
    """Files and class numbers of a CSV whose first two columns they are; a heading is allowed."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = [(line, row) for line, row in enumerate(csv.reader(file), start=1) if row]
    except FileNotFoundError:
        raise errors.inputs.missing_file("the labels", table) from None
    except (OSError, UnicodeDecodeError, csv.Error) as reason:
        raise errors.inputs.unreadable_file(
            "the labels", table, str(reason), "write it as a UTF-8 CSV file"
        ) from reason
    if rows and not (len(rows[0][1]) > 1 and rows[0][1][1].strip().isdecimal()):
        del rows[0]
    if not rows:
        raise errors.data.no_image_folder(images.parent)
    files, numbers = [], []
    for line, row in rows:
        name = PurePath(row[0])
        if len(row) < 2 or not row[1].strip().isdecimal() or name.is_absolute() or ".." in name.parts:
            raise errors.data.wrong_label_row(table, line)
        files.append(images / name)
        numbers.append(int(row[1]))
    return files, numbers


def _in_memory(images: ImageFiles) -> np.ndarray:
    import psutil

    needed, available = int(np.prod(images.shape)), psutil.virtual_memory().available
    if needed > 0.8 * available:
        raise errors.data.too_large_for_memory(images.files[0].parents[1], len(images), needed, available)
    return images[:]
