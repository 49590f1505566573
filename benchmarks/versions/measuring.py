"""How everything here is timed and weighed, the same for each side."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

_Result = TypeVar("_Result")


def timed(action: Callable[[], _Result]) -> tuple[float, _Result]:
    """Run once with the garbage collector off; give milliseconds and result."""
    gc.disable()
    try:
        began = time.perf_counter()
        result = action()
        return (time.perf_counter() - began) * 1e3, result
    finally:
        gc.enable()


def median(values: Sequence[float]) -> float:
    """Give the median, to a tenth: finer differences are noise."""
    return round(statistics.median(values), 1)


def folder_bytes(*folders: Path) -> int:
    """Sum the sizes of all files below some folders (`du -sb`, without the folders themselves)."""
    files = (Path(at) / name for folder in folders for at, _, names in os.walk(folder) for name in names)
    return sum(file.lstat().st_size for file in files)


def forget_pages(folder: Path) -> None:
    """Ask the system to drop a folder's files from its cache, so that the next read comes from the disk."""
    os.sync()
    for at, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(Path(at) / name, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
