"""What a runtime does with the zeros of a pattern: said before training, from what is known, not hoped.

"Measured" rows are what this tool's benchmark measures of its own files; the others quote the runtime's documentation
or sources, and no adapter here has measured them.
"""

from __future__ import annotations

from ... import errors
from .names import read_pattern

_DENSE = "computes zeros like any other weight, so {pattern} makes inference no faster and takes no less memory"
_FILE = "the file shrinks only where it is compressed, or where sparse initializers pay (under a third of weights left)"
_UNMEASURED = "not measured here"

SUPPORT: dict[str, dict[str, str]] = {
    "onnxruntime": {
        "any": f"onnxruntime {_DENSE}; {_FILE}, and it makes those dense when it loads them",
    },
    "openvino": {
        "any": "openvino documents no kernels that skip zeros of convolutions, and packed weights for sparse matrix "
        f"products of int8 (CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE), whatever the pattern; {_UNMEASURED}",
    },
    "litert": {
        "any": f"litert {_DENSE}; {_UNMEASURED}",
        "unstructured": "litert's XNNPACK has sparse kernels for 1x1 convolutions of float32 whose neighbours allow "
        f"channels-first maps, and none for others or for int8; {_UNMEASURED}",
        "RxC": "litert's XNNPACK has sparse kernels for 1x1 convolutions of float32 that take two or four output "
        f"channels at once (2x1, 4x1), and none for other blocks or for int8; {_UNMEASURED}",
    },
    "executorch": {
        "any": f"executorch {_DENSE}; {_UNMEASURED}",
        "unstructured": "executorch's XNNPACK has sparse kernels for 1x1 convolutions of float32, if it is asked to "
        f"use them; {_UNMEASURED}",
        "RxC": "executorch's XNNPACK has sparse kernels for 1x1 convolutions of float32 that take two or four output "
        f"channels at once (2x1, 4x1), if it is asked to use them; {_UNMEASURED}",
    },
    "ncnn": {
        "any": f"ncnn {_DENSE}; {_UNMEASURED}",
    },
}
"""By runtime, then by kind of pattern; "any" for kinds without a line of their own."""


def sparse_support(pattern: str, runtime: str) -> str:
    """One sentence: whether zeros in this pattern can make inference faster or smaller under this runtime.

    Raises EdgeLatheError for an unknown pattern or runtime.
    """
    kind = read_pattern(pattern).kind
    if runtime not in SUPPORT:
        raise errors.inputs.unknown_choice("runtime", runtime, SUPPORT)
    known = SUPPORT[runtime]
    return known.get(kind, known["any"]).format(pattern=pattern)
