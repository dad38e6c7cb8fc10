"""Images as they come back from JPEG: harder than the clean originals, and the same for everybody.

On the images that a network was trained on every tool scores about 100 % and nothing can be told apart; what
a coarse JPEG leaves of them, the network has never seen.
"""

from __future__ import annotations

import io

import numpy as np
import PIL
from edgelathe.files import sha256_bytes
from PIL import Image

QUALITY = 75
CHROMA_420 = 2
"""PIL's number for 4:2:0: one chroma sample for 2 x 2 pixels."""


def recompress(images: np.ndarray, quality: int = QUALITY, subsampling: int = CHROMA_420) -> np.ndarray:
    """uint8 [N, H, W, 3] -> uint8 [N, H, W, 3], each image encoded as JPEG and decoded again."""
    out = np.empty_like(images)
    for image, target in zip(images, out, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
        with Image.open(buffer) as decoded:
            target[...] = np.asarray(decoded)
    return out


def how_made(images: np.ndarray, quality: int = QUALITY, subsampling: int = CHROMA_420) -> str:
    """One sentence for the record: the encoder's settings, and a hash of the pixels, which vary with libjpeg."""
    digest = sha256_bytes(np.ascontiguousarray(images).tobytes())[:12]
    return (
        f"encoded and decoded once by Pillow {PIL.__version__} with quality={quality}, subsampling={subsampling}"
        f"{' (4:2:0 chroma)' if subsampling == CHROMA_420 else ''}; pixels sha256 {digest}"
    )
