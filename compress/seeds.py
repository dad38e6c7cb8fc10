"""Seeds for the draws of a training run, so that an epoch's can be made again without those before it."""

from __future__ import annotations

import hashlib


def derived_seed(seed: int, number: int, purpose: str) -> int:
    """The seed of one purpose in one epoch (or view) of the run that was given `seed`."""
    digest = hashlib.sha256(f"{seed} {number} {purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1  # generators take a signed 64-bit seed
