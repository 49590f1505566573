"""The embedded engine: sites run in worker threads or processes of this machine; no ports, no Ray.

Rules: every task and reply crosses as bytes, so no serialisation fault can hide. Replies come in the order the
sites were invited. At most `window` sites are in flight (running, or finished and not yet taken), so memory is
bounded by the message size and never by the number of sites: a large model narrows the window down to one.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from threading import Thread
from time import monotonic
from typing import Literal

from fedloom.engine.allocator import return_freed_blocks
from fedloom.engine.port import Reply, SiteHandler, T, Task
from fedloom.engine.scenario import Faults, Scenario
from fedloom.engine.threads import DaemonThreads
from fedloom.errors import EngineError
from fedloom.values import Buffer

QUICK_SECONDS = 0.003
"""Python hands over between threads every 5 ms: work shorter than this is done in the hub's own thread."""

WorkerKind = Literal["threads", "processes"]


class _Flight:
    """One invited site: where its reply will appear (None: the connection is lost), and how long it took."""

    def __init__(self, site: str, submit: Callable[[], Future[Buffer]] | None) -> None:
        self.site = site
        self._invited = monotonic()
        finished: list[float] = []
        self._finished = finished
        self.future = submit() if submit is not None else None
        if self.future is not None:
            # Not a method of this flight: a future that knew it would make a cycle, and keep its reply in memory.
            self.future.add_done_callback(lambda _: finished.append(monotonic()))

    @property
    def seconds(self) -> float:
        """From the invitation to the reply, however late the hub looks; to now while it is out."""
        return (self._finished[0] if self._finished else monotonic()) - self._invited


@dataclass(slots=True)
class InProcessEngine:
    """Runs sites on this machine.

    workers: how many sites work at the same time. kind: threads share the process; processes use every core
    even for learners written in Python loops, and cost a start-up each. in_flight_bytes: bound on the memory
    of messages in flight. scenario: faults to inject.
    """

    handler: SiteHandler
    workers: int = 2
    kind: WorkerKind = "threads"
    in_flight_bytes: int = 128 * 2**20
    scenario: Scenario = field(default_factory=Scenario)
    name: str = "inprocess"
    _pools: list[Executor] = field(default_factory=list, init=False)
    _quick: set[str] = field(default_factory=set, init=False)
    _seats: dict[str, int] = field(default_factory=dict, init=False)

    def run(self, job: Callable[[], T]) -> T:
        """Start the workers, do the job, end the workers."""
        return_freed_blocks()
        # One pool of threads; or a pool for each process, so that a site stays where its rows have been read.
        self._pools = [self._start() for _ in range(1 if self.kind == "threads" else self.workers)]
        others = set(multiprocessing.active_children())
        try:
            return job()
        finally:
            for pool in self._pools:
                pool.shutdown(wait=False, cancel_futures=True)
            self._pools = []
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()  # whatever it is still at, nobody waits for the answer

    def exchange(self, task: Task, sites: Sequence[str], deadline: float | None = None) -> Iterator[Reply]:
        """Send `task` to `sites`; yield one reply per site in the order of `sites`."""
        faults = self.scenario.faults(task.verb, task.round)
        window = self._window(task, deadline)
        waiting = deque(sites)
        flights: deque[_Flight] = deque()
        answered: set[str] = set()

        def invite(room: int) -> None:
            while waiting and len(flights) < room:
                flights.append(self._invite(task, waiting.popleft(), faults, deadline))

        invite(window)
        while flights:
            flight = flights.popleft()
            for reply in self._deliveries(flight, faults, deadline):
                if reply.site in answered:  # a message delivered twice counts once
                    continue
                answered.add(reply.site)
                invite(window - 1)  # the reply handed out still occupies one place
                yield reply
                del reply
            self._learn(task.verb, flight)
            del flight
            invite(window)

    def _start(self) -> Executor:
        if self.kind == "threads":
            return DaemonThreads(self.workers)
        context = multiprocessing.get_context("spawn")  # fork would copy the hub's memory and its locks
        return ProcessPoolExecutor(1, context, initializer=_install, initargs=(self.handler,))

    def _seat(self, site: str) -> int:
        """Choose a site's pool: in turn, when it is first invited, and the same ever after."""
        return self._seats.setdefault(site, len(self._seats) % len(self._pools))

    def _window(self, task: Task, deadline: float | None) -> int:
        # A reply is about as large as its task, and while it is made both exist: two messages a site.
        fitting = self.in_flight_bytes // (2 * max(1, len(task.payload)))
        # With a deadline nobody may queue behind another site: the wait would count against it.
        wanted = self.workers if deadline is not None else 2 * self.workers
        return max(1, min(wanted, fitting))

    def _invite(self, task: Task, site: str, faults: Faults, deadline: float | None) -> _Flight:
        if not self._pools:
            raise EngineError("the engine is not running: call exchange inside Engine.run")
        self._seat(site)  # before anything else: who sits where must not depend on who was dropped
        if site in faults.drop:
            return _Flight(site, None)
        if self.kind == "processes":
            return _Flight(site, lambda: self._submit(site, bytes(task.payload)))
        if deadline is None and task.verb in self._quick:
            return _Flight(site, lambda: _at_once(self.handler, site, task.payload))
        return _Flight(site, lambda: self._pools[0].submit(self.handler.handle, site, task.payload))

    def _submit(self, site: str, task: bytes) -> Future[Buffer]:
        try:
            return self._pools[self._seat(site)].submit(_work, site, task)
        except BrokenExecutor:  # its worker died while it had nothing to do
            self._renew(site)
            return self._pools[self._seat(site)].submit(_work, site, task)

    def _deliveries(self, flight: _Flight, faults: Faults, deadline: float | None) -> Iterator[Reply]:
        reply = self._wait(flight, faults, deadline)
        yield reply
        if flight.site in faults.duplicate:
            yield reply

    def _wait(self, flight: _Flight, faults: Faults, deadline: float | None) -> Reply:
        site, future = flight.site, flight.future
        if future is None:
            return Reply(site, "failed", reason="connection lost")
        try:
            payload = future.result(None if deadline is None else max(0.0, deadline - flight.seconds))
        except Exception as error:  # noqa: BLE001  a handler must answer; one that raises has lost its site
            return self._lost(flight, error, deadline)
        seconds = flight.seconds + faults.delay.get(site, 0.0)
        if deadline is not None and seconds > deadline:
            return Reply(site, "late", reason=f"no answer within {deadline:g} s", seconds=seconds)
        return Reply(site, "answered", _spoil(payload) if site in faults.corrupt else payload, "", seconds)

    def _lost(self, flight: _Flight, error: Exception, deadline: float | None) -> Reply:
        """Say why a site did not answer; a worker that is stuck or dead gives its place to a new one."""
        if isinstance(error, TimeoutError) and deadline is not None and flight.future and not flight.future.done():
            self._renew(flight.site)
            return Reply(flight.site, "late", reason=f"no answer within {deadline:g} s", seconds=flight.seconds)
        reason = f"the site's handler raised {type(error).__name__}"
        if isinstance(error, BrokenExecutor):
            self._renew(flight.site)
            reason = "its worker process died"
        return Reply(flight.site, "failed", reason=reason, seconds=flight.seconds)

    def _learn(self, verb: str, flight: _Flight) -> None:
        """Remember whether a verb's work is so short that handing it to a thread costs more than doing it here."""
        if flight.future is not None and flight.seconds < QUICK_SECONDS:
            self._quick.add(verb)
        else:
            self._quick.discard(verb)

    def _renew(self, site: str) -> None:
        seat = self._seat(site)
        self._pools[seat].shutdown(wait=False, cancel_futures=False)
        self._pools[seat] = self._start()


def _at_once(handler: SiteHandler, site: str, payload: Buffer) -> Future[Buffer]:
    future: Future[Buffer] = Future()
    try:
        future.set_result(handler.handle(site, payload))
    except Exception as error:  # noqa: BLE001  what a thread would have kept in its future
        future.set_exception(error)
    return future


def _spoil(payload: Buffer) -> bytes:
    middle = len(payload) // 2
    return bytes(payload[:middle]) + bytes([payload[middle] ^ 0xFF]) + bytes(payload[middle + 1 :])


_installed: list[SiteHandler] = []  # one per worker process, set once when it starts


def _install(handler: SiteHandler) -> None:
    _installed[:] = [handler]
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when the process that started it is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(site: str, task: bytes) -> bytes:
    return bytes(_installed[0].handle(site, task))  # what crosses processes must be picklable
