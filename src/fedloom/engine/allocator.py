"""Freed tensors go back to the operating system at once, where the C library is glibc.

Left alone, glibc keeps freed blocks of up to 32 MiB in each thread's own pool (its mmap threshold grows with what is
freed, see mallopt(3)). Threads that take turns with a large model then hold several models' worth of nothing.
"""

from __future__ import annotations

import ctypes
import sys

_M_MMAP_THRESHOLD = -3
_THRESHOLD = 2 * 2**20  # small enough for the layers of a large model, large enough to keep everyday arrays pooled


def return_freed_blocks() -> None:
    """Fix the size from which a block is mapped on its own and unmapped when freed; does nothing elsewhere."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _THRESHOLD)
