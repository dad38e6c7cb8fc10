from __future__ import annotations

import platform
import resource
import subprocess
import sys

import pytest
from edgelathe.compress.allocator import keeping_freed_memory

SCRIPT = """
import resource, torch
from edgelathe.compress.allocator import keeping_freed_memory

with keeping_freed_memory():
    for turn in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(15):
            blocks = [torch.empty(24 << 20, dtype=torch.uint8).fill_(1) for _ in range(4)]
            del blocks
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    inside = open("/proc/self/statm").read().split()[1]
print(faults, inside, open("/proc/self/statm").read().split()[1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told anything")
def test_freed_memory_is_used_again_and_given_back_at_the_end() -> None:
    """In a process of its own: how a heap grows depends on all that was in it before."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    faults, inside, after = map(int, done.stdout.split())
    pages = 4 * (24 << 20) // resource.getpagesize()
    assert faults < pages  # of 15 times as many
    assert inside - after > pages


def test_what_is_raised_inside_gets_out() -> None:
    with pytest.raises(ZeroDivisionError), keeping_freed_memory():
        _ = 1 / 0
