"""Work on many tensors or files on a few threads: hashing, compressing and NumPy leave the interpreter free."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

CORES = 2
"""Threads for work that keeps a processor busy."""

WAITS = 8
"""Threads for work that mostly waits for a disk or a network."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def spread(deed: Callable[[_Item], _Result], items: Iterable[_Item], threads: int = CORES) -> list[_Result]:
    """Do a deed with each item on some threads; gives the results in order, or raises the first error in order."""
    items = list(items)
    if len(items) < 2:
        return [deed(item) for item in items]
    with ThreadPoolExecutor(min(threads, len(items))) as pool:
        return list(pool.map(deed, items))
