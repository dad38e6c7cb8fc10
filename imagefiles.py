"""Image files as one uint8 array of which only what is looked at is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from . import errors


class ImageFiles:
    """Behaves like uint8 [N, H, W, 3]: a slice of it is an array, decoded anew each time.

    `size` and `resize` fit every image as `fit_arrays` does. Images must come out as large as the first of `files`.
    Looking at images raises EdgeLatheError for those that cannot be read (named) and for unequal sizes.
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, files: Sequence[Path], size: int | None, resize: int | None) -> None:
        self.files, self._size, self._resize = tuple(files), size, resize
        self._like = self

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, cut: slice) -> np.ndarray:
        return self._decoded(self.files[cut])

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self._decoded(self.files).astype(dtype or self.dtype, copy=False)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self), *self._like._image_shape)

    def chosen(self, index: slice | np.ndarray) -> ImageFiles:
        """These images, still not decoded."""
        some = ImageFiles([self.files[number] for number in np.arange(len(self))[index]], self._size, self._resize)
        some._like = self._like
        return some

    @cached_property
    def _image_shape(self) -> tuple[int, int, int]:
        height, width, channels = np.asarray(read_image(self.files[0], self._size, self._resize)).shape
        return height, width, channels

    def _decoded(self, files: Sequence[Path]) -> np.ndarray:
        x = np.empty((len(files), *self.shape[1:]), np.uint8)
        for target, path in zip(x, files, strict=True):
            image = np.asarray(read_image(path, self._size, self._resize))
            if image.shape != target.shape:
                raise errors.data.unequal_image_sizes(path, image.shape[:2], self._like.files[0], target.shape[:2])
            target[...] = image
        return x


def read_image(path: Path, size: int | None, resize: int | None) -> Image.Image:
    """One RGB image, fitted to `size` x `size` where that is given. Raises EdgeLatheError for unreadable files."""
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except FileNotFoundError:
        raise errors.inputs.missing_file("the image", path) from None
    # PIL reports broken files by many exceptions, the decoder's own among them.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as reason:
        raise errors.inputs.unreadable_file("the image", path, str(reason), "replace or remove the file") from reason
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
