"""ONNX files made small for sending and storing, and given back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import errors

if TYPE_CHECKING:
    from ..compress.pack.pack import Packed, Unpacked
    from ..compress.pack.share_weights import SharedWeights


def pack(
    model: Path | str, *, output: Path | str | None = None, bits: int | None = None
) -> tuple[Packed, SharedWeights | None, Path]:
    """Write an ONNX file as a packed file, from which `unpack` makes the same bytes again.

    With `bits`, the float weights of each layer are first made to share 2 ** `bits` values, which changes them; it is
    that model which `unpack` gives back. The file goes to `output`, by default beside the model as <model>.elp or
    <model>.<bits>-bit.elp. Returns what was packed, what shares values (None without `bits`), and the path.
    Raises EdgeLatheError for bad input.
    """
    from ..compress.pack.pack import pack_model
    from ..compress.pack.share_weights import shared_model
    from ..files import write_atomic

    source = Path(model)
    path = Path(output) if output is not None else source.with_suffix(".elp" if bits is None else f".{bits}-bit.elp")
    if path.resolve() == source.resolve():
        raise errors.pack.over_the_model(source)
    file, shared = (None, None) if bits is None else shared_model(source, bits=bits)
    data, packed = pack_model(source, file)
    write_atomic(path, data, "the packed model")
    return packed, shared, path


def unpack(packed: Path | str, *, output: Path | str | None = None) -> tuple[Unpacked, Path]:
    """Write the ONNX file that a packed file was made from, byte by byte the same.

    It goes to `output`, by default beside the packed file with the ending .onnx, unless another file is there. Returns
    its size and SHA-256, and the path. Raises EdgeLatheError for bad input and for packed files that were changed.
    """
    from ..compress.pack.pack import unpack as unpack_file

    source = Path(packed)
    path = Path(output) if output is not None else source.with_suffix(".onnx")
    if path.resolve() == source.resolve():
        raise errors.pack.over_the_model(source)
    return unpack_file(source, path, replace=output is not None), path
