"""Several requests at a time, in order and within bounds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

MOST = 8
_BYTES = 256 << 20

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def abreast(
    deed: Callable[[_Item], _Result], items: Iterable[_Item], weigh: Callable[[_Item | _Result], int] = lambda _: 0
) -> Iterator[_Result]:
    """Do a deed with each item on a few threads, and give the results in order.

    weigh: says of an item or a result how many bytes it is (0: unknown): where they are large, fewer are held at once.
    """
    waiting: deque[Future[_Result]] = deque()
    largest = 1
    with ThreadPoolExecutor(MOST) as threads:
        for item in items:
            largest = max(largest, weigh(item))
            while len(waiting) >= max(1, min(MOST, _BYTES // largest)):
                largest = max(largest, weigh(result := waiting.popleft().result()))
                yield result
            waiting.append(threads.submit(deed, item))
        while waiting:
            yield waiting.popleft().result()
