from __future__ import annotations

import numpy as np
from edgelathe.data import Preprocess
from edgelathe.imagesequence import ImageSequence


def test_slices_are_normalised_when_they_are_taken() -> None:
    x = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), dtype=np.uint8)
    preprocess = Preprocess((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    images = ImageSequence(x, preprocess)
    assert len(images) == 7
    part = images[2:5]
    assert (part.shape, part.dtype) == ((3, 3, 4, 5), np.float32)
    assert np.array_equal(part, preprocess(x)[2:5])
    assert images[7:].shape == (0, 3, 4, 5)
