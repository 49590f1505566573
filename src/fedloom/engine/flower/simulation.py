"""One running simulation of flwr: started, spoken to, and stopped without a trace.

Rules: flwr's simulation lives in a thread of its own and lends its Grid out of the ServerApp's main, so that
the caller's work stays in the caller's thread and its exceptions (Ctrl-C too) need no way around. All
messages that have no answer yet are known; the reply to one that nobody waits for any more is fetched and
dropped, so nothing piles up. One thread at a time talks to the Grid.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread, current_thread, main_thread
from time import monotonic, sleep
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation
from ray import cloudpickle

from fedloom.engine.flower.private import available_cpus, kill_workers, quiet
from fedloom.engine.flower.records import read_index
from fedloom.engine.flower.site_side import HELLO, WORK, site_app
from fedloom.engine.port import SiteHandler, T
from fedloom.errors import EngineError

POLL_SECONDS = 0.01
_START_SECONDS = 300.0
_NEVER = 365 * 24 * 3600.0
"""Time to live of a message: the engine's own deadlines decide, flwr must not forget one before."""


@contextmanager
def simulation(
    handler: SiteHandler, sites: Sequence[str], *, cpus_per_client: float, scratch: Path
) -> Iterator[Simulation]:
    """Start a simulation with one node a site, wait until every node has answered, and stop it at the end."""
    _check_picklable(handler)
    running = Simulation(handler, sites, _backend(len(sites), cpus_per_client, scratch))
    with quiet():
        running.start()
        try:
            running.meet_sites()
            _own_sigterm()
            yield running
        finally:
            running.stop()


class Simulation:
    """The hub's end of a running simulation: pushes messages to sites by name and collects the replies."""

    def __init__(self, handler: SiteHandler, sites: Sequence[str], backend: dict[str, dict[str, Any]]) -> None:
        self.last_reply = monotonic()
        self._sites = sites
        self._nodes: dict[str, int] = {}
        self._lent: SimpleQueue[Grid] = SimpleQueue()
        self._finished = Event()
        self._failure: Exception | None = None
        self._open: set[str] = set()
        self._abandoned: set[str] = set()
        self._inbox: dict[str, Message] = {}
        self._thread = Thread(target=self._simulate, args=(site_app(handler, sites), backend), name="flower-simulation")

    def start(self) -> None:
        """Start flwr and Ray in their thread; returns at once."""
        self._thread.start()

    def meet_sites(self) -> None:
        """Wait until every node runs and has said which site it is; raises EngineError when one cannot."""
        limit = monotonic() + _START_SECONDS
        self._grid = self._await(self._borrowed, limit)
        nodes = self._await(self._registered, limit)
        greetings = self._push(Message(RecordDict(), node, HELLO, ttl=_NEVER) for node in nodes)
        for node, message_id in zip(nodes, greetings, strict=True):
            reply = self._await(partial(self.take, message_id), limit)
            if reply.has_error():
                cause = (reply.error.reason or "unknown").rstrip("'>").splitlines()[-1]  # above it: a traceback
                raise EngineError(f"the site handler does not load in a worker process: {cause}")
            self._nodes[self._sites[read_index(reply.content)]] = node

    def send(self, record: RecordDict, sites: Sequence[str]) -> list[str]:
        """Send one record to all `sites`; the messages' ids come back in that order."""
        unknown = [site for site in sites if site not in self._nodes]
        if unknown:
            raise EngineError(f"no such site in this engine: {', '.join(unknown)}")
        return self._push(Message(record, self._nodes[site], WORK, ttl=_NEVER) for site in sites)

    def take(self, message_id: str) -> Message | None:
        """Return the reply to a message, once, or None while there is none."""
        self._fetch()
        return self._inbox.pop(message_id, None)

    def abandon(self, message_ids: Iterable[str]) -> None:
        """Wait no longer for these replies; when one comes it is dropped."""
        for message_id in message_ids:
            self._inbox.pop(message_id, None)
        self._abandoned |= self._open.intersection(message_ids)

    def stop(self) -> None:
        """End the simulation and all its processes; work that is still running is cut off."""
        self._finished.set()
        self._thread.join(0.2)  # flwr notices and begins no further task
        if self._open:
            kill_workers()
        self._thread.join()

    def _simulate(self, app: Any, backend: dict[str, dict[str, Any]]) -> None:
        server = ServerApp()

        @server.main()
        def lend(grid: Grid, _: Context) -> None:
            self._lent.put(grid)
            self._finished.wait()

        try:
            run_simulation(server, app, len(self._sites), backend_config=backend)
        except Exception as error:  # noqa: BLE001  raised again, as an EngineError, where the caller waits
            self._failure = error

    def _push(self, messages: Iterable[Message]) -> list[str]:
        wanted = list(messages)
        message_ids = list(self._grid.push_messages(wanted))
        self._open.update(message_ids)
        if len(message_ids) != len(wanted):
            raise EngineError("Flower refused a message; start the run again")
        return message_ids

    def _fetch(self) -> None:
        if not self._thread.is_alive():
            raise EngineError("Flower's simulation stopped; start the run again") from self._failure
        replies = list(self._grid.pull_messages(self._open)) if self._open else []
        for reply in replies:
            message_id = reply.metadata.reply_to_message_id
            self._open.discard(message_id)
            self.last_reply = monotonic()
            if message_id in self._abandoned:
                self._abandoned.discard(message_id)
            else:
                self._inbox[message_id] = reply

    def _await(self, look: Callable[[], T | None], limit: float) -> T:
        while (found := look()) is None:
            if not self._thread.is_alive():
                raise EngineError("Flower's simulation could not start; is Ray usable here?") from self._failure
            if monotonic() > limit:
                raise EngineError(f"Flower's simulation did not start within {_START_SECONDS:g} s")
            sleep(POLL_SECONDS)
        return found

    def _borrowed(self) -> Grid | None:
        try:
            return self._lent.get_nowait()
        except Empty:
            return None

    def _registered(self) -> list[int] | None:
        nodes = sorted(self._grid.get_node_ids())
        return nodes if len(nodes) == len(self._sites) else None


def _check_picklable(handler: SiteHandler) -> None:
    try:
        cloudpickle.dumps(handler)  # type: ignore[no-untyped-call]
    except Exception as error:
        raise EngineError(f"the site handler cannot be carried to a worker process: {error}") from error


def _own_sigterm() -> None:
    # Ray's C++ layer replaces the process's handler by one that prints a stack and ends it without clean-up.
    if current_thread() is main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


def _backend(sites: int, cpus_per_client: float, scratch: Path) -> dict[str, dict[str, Any]]:
    available = available_cpus()
    if cpus_per_client > available:
        raise EngineError(f"a site needs {cpus_per_client:g} CPUs, this machine has {available}: lower it")
    return {
        "init_args": {
            "address": "local",  # never join a cluster that happens to run here
            "num_cpus": min(available, math.ceil(sites * cpus_per_client)),
            "log_to_driver": False,
            "logging_level": "ERROR",
            "_temp_dir": str(scratch),
        },
        # Ray takes these as options of its actors. A worker that dies is started again and its task tried
        # once more; without the second try Ray would also fail the tasks that only wait for the new worker.
        "client_resources": {
            "num_cpus": cpus_per_client,
            "num_gpus": 0.0,
            "max_restarts": -1,
            "max_task_retries": 1,
        },
    }
