"""Worker threads that never hold up the end of the process.

`concurrent.futures` joins its threads at exit; a site in the middle of a long fit cannot be stopped, and Ctrl-C would
have to wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

_Work = tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]


class DaemonThreads(Executor):
    """A fixed number of daemon threads that take work in the order it was submitted."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._waiting: SimpleQueue[_Work | None] = SimpleQueue()
        for number in range(workers):
            Thread(target=_serve, args=(self._waiting,), name=f"site-{number}", daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:  # type: ignore[override]
        """Queue one call."""
        future: Future[Any] = Future()
        self._waiting.put((future, fn, args))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        """Let the threads end after what is queued, or after what they are at; nobody waits for them."""
        while cancel_futures:
            try:
                work = self._waiting.get_nowait()
            except Empty:
                break
            if work is not None:
                work[0].cancel()
        for _ in range(self._workers):
            self._waiting.put(None)


def _serve(waiting: SimpleQueue[_Work | None]) -> None:
    while (work := waiting.get()) is not None:
        _do(*work)
        del work  # or the reply would live on while this thread waits for the next task


def _do(future: Future[Any], fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = fn(*args)
    except BaseException as error:  # noqa: BLE001  the future carries whatever it was to the hub
        future.set_exception(error)
    else:
        future.set_result(result)
