"""Memory that one training step frees, kept for the next one.

Every step asks for blocks of the same sizes. Left to itself, glibc gives free memory back to the kernel as soon as
there is enough of it, and the next step waits while the kernel hands out pages again and fills them with zeros. Blocks
of more than 32 MiB go back all the same: kept, they would be split, and the process would grow.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# Of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1
# Where glibc's own rule arrives at once it has seen such blocks; setting either ends that rule for the process.
_HIGHEST_MMAP, _HIGHEST_TRIM = 32 << 20, 64 << 20


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """What is freed inside is given back to the system at the end. Does nothing where the C library is not glibc."""
    try:
        glibc = ctypes.CDLL(None)
        mallopt, malloc_trim = glibc.mallopt, glibc.malloc_trim
    except (OSError, AttributeError):
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, _HIGHEST_MMAP)
    mallopt(_M_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        mallopt(_M_TRIM_THRESHOLD, _HIGHEST_TRIM)
        malloc_trim(0)
