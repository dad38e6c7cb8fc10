"""What the int8 kernels of a deployment target want; docs/targets.md gives the reasons and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

PAIR_MAX = 128
"""vpmaddubsw adds two products of a uint8 and an int8 code in int16 with saturation; 255 * 128 = 32,640 fits."""


@dataclass(frozen=True)
class Target:
    """Weights are int8 and symmetric on every target, activations have a zero point."""

    name: str
    runtime: str = "onnxruntime"
    """That the file is for; only ONNX Runtime is asked what it made of it, and only it is given pixels."""
    activations: Literal["uint8", "int8"] = "uint8"
    weight_max: int = 127
    """Largest weight code; -128 is never used, so that a weight and its negative are both representable."""
    pair_max: int | None = None
    """Largest sum of two weight codes of one sign within an output channel; None where sums cannot saturate."""
    on_codes: bool = True
    """Whether slices, pads and clamps are written on the codes themselves, without Q/DQ around them."""
    float_results: tuple[str, ...] = ("Gemm", "MatMul")
    """Operators with weights whose int8 kernel can hand on float; others write codes whatever reads them."""
    same_codes: tuple[str, ...] = ()
    """Operators, besides data movement, that need one scale and zero point for what they read and write."""
    fixed_codes: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """(scale, zero point) that the result of an operator must have."""
    stays_float: Mapping[str, str] = field(default_factory=dict)
    """Operators that run in int8 elsewhere and not here, with the reason."""
    stem_channels: int = 1
    """The input channels of a convolution of a few channels are filled up to a multiple of this with zeros."""

    @property
    def code_type(self) -> np.dtype:
        return np.dtype(self.activations)

    @property
    def lowest_code(self) -> int:
        return int(np.iinfo(self.code_type).min)

    @property
    def highest_code(self) -> int:
        return int(np.iinfo(self.code_type).max)


_JOINED_BY_OPENVINO = "OpenVINO computes it in float registers behind the operator before it, which costs no conversion"
_NO_LITERT_KERNEL = "the LiteRT specification has no int8 form of it"

TARGETS: dict[str, Target] = {
    "x86-vnni": Target("x86-vnni", stem_channels=4),
    "x86-avx2": Target("x86-avx2", pair_max=PAIR_MAX, stem_channels=4),
    "arm64": Target("arm64", activations="int8"),
    "openvino": Target(
        "openvino",
        runtime="openvino",
        on_codes=False,
        float_results=("Conv", "Gemm", "MatMul"),
        stays_float=dict.fromkeys(("Sigmoid", "HardSigmoid", "LeakyRelu", "Relu", "Clip", "Mul"), _JOINED_BY_OPENVINO),
    ),
    "litert": Target(
        "litert",
        runtime="litert",
        activations="int8",
        on_codes=False,
        float_results=(),
        same_codes=("AveragePool", "GlobalAveragePool"),
        fixed_codes={"Sigmoid": (1 / 256, -128), "Softmax": (1 / 256, -128)},
        stays_float=dict.fromkeys(("HardSigmoid",), _NO_LITERT_KERNEL),
    ),
}
