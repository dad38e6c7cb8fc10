"""What the int8 kernels of a deployment target want."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """Activations are uint8 with a zero point, weights int8 and symmetric, on every target listed."""

    name: str
    weight_max: int
    """Largest weight code. 64 keeps two products of a uint8 and an int8 code within int16, which processors
    without VNNI add with saturation: 2 * 255 * 64 = 32,640 < 32,768."""


TARGETS: dict[str, Target] = {
    "x86-vnni": Target("x86-vnni", weight_max=127),
    "x86-avx2": Target("x86-avx2", weight_max=64),
}
