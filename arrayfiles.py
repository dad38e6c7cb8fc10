"""Data sets that arrive as arrays in files: npz and the CIFAR binary format. Nothing pickled is opened."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from . import errors

Arrays = tuple[np.ndarray, np.ndarray]
Found = tuple[Arrays | None, Arrays, tuple[str, ...] | None]

_CIFAR_FOLDERS = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}
_PICKLED = {"cifar10": "data_batch_1", "cifar100": "meta"}


def read_npz(root: Path) -> Found:
    """(train, test, None) from one file with x_train, y_train, x_test, y_test, or from train*.npz, test*.npz.

    Training arrays may be absent. Arrays come as they are stored, unchecked. Raises EdgeLatheError for files
    that are missing, truncated, or lack an array.
    """
    if root.is_file():
        arrays = _load(root)
        train = _pair(root, arrays, "x_train", "y_train") if "x_train" in arrays else None
        return train, _pair(root, arrays, "x_test", "y_test"), None
    train_files, test_files = (sorted(root.glob(f"{which}*.npz"), key=_natural) for which in ("train", "test"))
    if not test_files:
        raise errors.data.no_array_files(root)
    return (_join(train_files) if train_files else None), _join(test_files), None


def read_cifar(name: str, root: Path) -> Found:
    """(train, test, class names): uint8 [N, 32, 32, 3] RGB and labels, from the binary version or from npz.

    Krizhevsky 2009. `name` is "cifar10" or "cifar100" (fine labels). The pickled Python version is refused.
    """
    binary = next((root for root in (root / _CIFAR_FOLDERS[name], root) if any(root.glob("*.bin"))), None)
    if binary is not None:
        return _read_cifar_binary(name, binary)
    pickled = (root / folder / _PICKLED[name] for folder in (".", "cifar-10-batches-py", "cifar-100-python"))
    if any(path.is_file() for path in pickled):
        raise errors.data.pickled_cifar(root, name, _CIFAR_FOLDERS[name])
    return read_npz(root)


def _read_cifar_binary(name: str, root: Path) -> Found:
    """Each record is its labels (CIFAR-100: coarse, then fine) and 3072 bytes: red, green and blue planes."""
    if name == "cifar10":
        train, test, names = (
            sorted(root.glob("data_batch_*.bin")),
            root / "test_batch.bin",
            "batches.meta.txt",
        )
    else:
        train, test, names = sorted(root.glob("train.bin")), root / "test.bin", "fine_label_names.txt"
    labels = 1 if name == "cifar10" else 2

    def read(path: Path) -> Arrays:
        try:
            data = np.fromfile(path, np.uint8)
        except FileNotFoundError:
            raise errors.inputs.missing_file("the data", path) from None
        if data.size == 0 or data.size % (labels + 3072):
            why = f"its {data.size} bytes are no multiple of {labels + 3072}"
            raise errors.inputs.unreadable_file("the data", path, why, "download it again")
        records = data.reshape(-1, labels + 3072)
        x = records[:, labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(x), records[:, labels - 1]

    classes = tuple((root / names).read_text().split()) if (root / names).is_file() else None
    joined = _concatenate([read(path) for path in train]) if train else None
    return joined, read(test), classes


def _join(paths: list[Path]) -> Arrays:
    pairs = [_pair(path, _load(path), "x", "y") for path in paths]
    for path, (x, _) in zip(paths, pairs, strict=True):
        if x.shape[1:] != pairs[0][0].shape[1:] or x.dtype != pairs[0][0].dtype:
            raise errors.data.wrong_images(
                f"the data {path}", x.shape, x.dtype, f"{pairs[0][0].dtype} like {paths[0].name}"
            )
    return _concatenate(pairs)


def _concatenate(pairs: list[Arrays]) -> Arrays:
    return np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs])


def _pair(path: Path, arrays: dict[str, np.ndarray], x: str, y: str) -> Arrays:
    for key in (x, y):
        if key not in arrays:
            held = ", ".join(sorted(arrays)) or "nothing"
            raise errors.inputs.unreadable_file(
                "the data", path, f'it has no array "{key}" but {held}', "rename the arrays"
            )
    return arrays[x], arrays[y]


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as reason:
        why = "it is truncated, no npz file, or holds pickled objects"
        raise errors.inputs.unreadable_file("the data", path, why, "write it again with numpy.savez") from reason


def _natural(path: Path) -> list[tuple[int, str]]:
    """train-2 before train-10."""
    return [(int(digits or 0), other) for digits, other in re.findall(r"(\d+)|(\D+)", path.name)]
