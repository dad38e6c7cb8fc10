"""Folders of image files as uint8 RGB arrays: a folder per class, or one folder with a CSV of labels."""

from __future__ import annotations

import csv
from pathlib import Path, PurePath

import numpy as np
import psutil
from PIL import Image

from . import errors

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

Arrays = tuple[np.ndarray, np.ndarray]


def read_image_folder(
    root: Path, labels: Path | None = None, *, size: int | None = None, resize: int | None = None
) -> tuple[Arrays | None, Arrays, tuple[str, ...] | None]:
    """(train, test, class names): arrays uint8 [N, H, W, 3] and int64 [N], in order of class and file name.

    train/<class>/ with test/<class>/ or val/<class>/ (test/ wins); or images/ with labels.csv, all test.
    Raises EdgeLatheError for an empty folder or class, an unreadable image (named), unequal sizes, and more
    pixels than memory.
    """
    test = next((folder for folder in (root / "test", root / "val") if folder.is_dir()), None)
    if labels is not None or (test is None and (root / "labels.csv").is_file()):
        files, numbers = _read_labels(root / "images", labels or root / "labels.csv")
        return None, (_read_images(files, size, resize), np.array(numbers)), None
    train = root / "train" if (root / "train").is_dir() else None
    if test is None:
        raise errors.no_image_folder(root)
    classes = _class_names(train or test)
    for folder, other in ((train, test), (test, train)) if train else ():
        if lacking := set(_class_names(other)) - set(_class_names(folder)):
            raise errors.empty_class(f"the image folder {folder}", min(lacking))
    learned = None if train is None else _read_classes(train, classes, size, resize)
    return learned, _read_classes(test, classes, size, resize), classes


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."))
    if not names:
        raise errors.no_image_folder(folder.parent)
    return names


def _read_classes(folder: Path, classes: tuple[str, ...], size: int | None, resize: int | None) -> Arrays:
    files: list[Path] = []
    numbers: list[int] = []
    for number, name in enumerate(classes):
        found = sorted(path for path in (folder / name).rglob("*") if _is_image(path))
        if not found:
            raise errors.empty_class(f"the image folder {folder}", name)
        files += found
        numbers += [number] * len(found)
    return _read_images(files, size, resize), np.array(numbers)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and path.name[0] != "." and path.is_file()


def _read_labels(images: Path, table: Path) -> tuple[list[Path], list[int]]:
    """Files and class numbers of a CSV whose first two columns they are; a heading is allowed."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = [(line, row) for line, row in enumerate(csv.reader(file), start=1) if row]
    except FileNotFoundError:
        raise errors.missing_file("the labels", table) from None
    except (OSError, UnicodeDecodeError, csv.Error) as reason:
        raise errors.unreadable_file("the labels", table, str(reason), "write it as a UTF-8 CSV file") from reason
    if rows and not (len(rows[0][1]) > 1 and rows[0][1][1].strip().isdecimal()):
        del rows[0]
    if not rows:
        raise errors.no_image_folder(images.parent)
    files, numbers = [], []
    for line, row in rows:
        name = PurePath(row[0])
        if len(row) < 2 or not row[1].strip().isdecimal() or name.is_absolute() or ".." in name.parts:
            raise errors.wrong_label_row(table, line)
        files.append(images / name)
        numbers.append(int(row[1]))
    return files, numbers


def _read_images(files: list[Path], size: int | None, resize: int | None) -> np.ndarray:
    first = np.asarray(_read_image(files[0], size, resize))
    needed, available = first.size * len(files), psutil.virtual_memory().available
    if needed > 0.8 * available:
        raise errors.too_large_for_memory(files[0].parents[1], len(files), needed, available)
    x = np.empty((len(files), *first.shape), np.uint8)
    for index, path in enumerate(files):
        image = np.asarray(_read_image(path, size, resize))
        if image.shape != first.shape:
            raise errors.unequal_image_sizes(path, image.shape[:2], files[0], first.shape[:2])
        x[index] = image
    return x


def _read_image(path: Path, size: int | None, resize: int | None) -> Image.Image:
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except FileNotFoundError:
        raise errors.missing_file("the image", path) from None
    # PIL reports broken files by many exceptions, the decoder's own among them.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as reason:
        raise errors.unreadable_file("the image", path, str(reason), "replace or remove the file") from reason
    return image if size is None else _fit(image, size, resize)


def _fit(image: Image.Image, size: int, resize: int | None) -> Image.Image:
    """Bring the shorter side to `resize` (default: `size`) bilinearly, then cut out the centre."""
    shorter, target = min(image.size), resize or size
    if shorter != target:
        width, height = (target * side // shorter for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))


def fit_arrays(x: np.ndarray, size: int, resize: int | None) -> np.ndarray:
    """uint8 [N, H, W, C] -> uint8 [N, size, size, C], as image files are fitted; any number of channels."""
    if x.shape[1:3] == (size, size) and resize in (None, size):
        return x
    fitted = np.empty((len(x), size, size, x.shape[3]), np.uint8)
    for image, target in zip(x, fitted, strict=True):
        for channel in range(x.shape[3]):
            target[..., channel] = np.asarray(_fit(Image.fromarray(image[..., channel]), size, resize))
    return fitted
