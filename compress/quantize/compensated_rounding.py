"""Round weights one input after the other, letting those still to come make up for each rounding.

A layer's outputs change least when the error E of its weights makes E H E^T small, H the second moments of its inputs.
Rounding input j leaves an error e; the weights of the inputs after it that undo most of it follow in closed form,

    w_k -= e * U_jk / U_jj,     U^T U = inverse of H,  U upper triangular         (GPTQ, Frantar et al. 2022)

so nothing is trained and PyTorch is not needed. Inputs of a convolution are the pixels under its kernel; behind a
ReLU they go up and down together, which is what nearest rounding leaves unused. Of a layer with more than MOST_INPUTS
of them, channels in different blocks do not make up for each other.
"""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]

CHUNK_BYTES = 8 * 2**20
POSITIONS = 64
"""Of each image, so many places of a map at most, evenly spread, tell the moments of a convolution's inputs."""
MOST_INPUTS = 2304
DAMPING = 0.01
"""Of the mean square of an input: what few images say about rare inputs is not taken at its word."""
COLUMNS = 128
"""Rounded before the rest hears of it, so that most of the work is matrix products."""
