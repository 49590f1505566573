"""The hub's half: an Engine whose sites are the nodes of a Flower simulation.

Rules: nothing of flwr or Ray is imported before `run`, for their variables must be set first; one run at a
time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fedloom.engine.flower.environment import prepared
from fedloom.engine.port import Reply, SiteHandler, T, Task
from fedloom.errors import EngineError

if TYPE_CHECKING:
    from fedloom.engine.flower.simulation import Simulation


class FlowerEngine:
    """Runs sites as nodes of a Flower simulation, in worker processes of Ray.

    handler: the sites' end, picklable. sites: the federation's sites. home: folder flwr may write to.
    cpus_per_client: CPUs a site occupies while it works; it decides how many work at the same time.
    Raises EngineError where flwr or Ray is not installed.
    """

    name = "flower-sim"

    def __init__(self, handler: SiteHandler, sites: Sequence[str], *, home: Path, cpus_per_client: float = 1.0) -> None:
        if find_spec("flwr") is None or find_spec("ray") is None:
            raise EngineError("the Flower engine needs the extra: pip install 'fedloom[flower]'")
        self._handler = handler
        self._sites = tuple(sites)
        self._home = home
        self._cpus_per_client = cpus_per_client
        self._running: Simulation | None = None

    def run(self, job: Callable[[], T]) -> T:
        """Start Flower and Ray, do the job in this thread, stop both; what the job raises comes out."""
        if self._running is not None:
            raise EngineError("the engine is running already: end the other run first")
        with prepared(self._home) as scratch:
            from fedloom.engine.flower.simulation import simulation

            sites, cpus = self._sites, self._cpus_per_client
            with simulation(self._handler, sites, cpus_per_client=cpus, scratch=scratch) as running:
                self._running = running
                try:
                    return job()
                finally:
                    self._running = None

    def exchange(self, task: Task, sites: Sequence[str], deadline: float | None = None) -> Iterator[Reply]:
        """Send `task` to `sites` now; yield one reply per site in the order of `sites`."""
        if self._running is None:
            raise EngineError("the engine is not running: call exchange inside Engine.run")
        from fedloom.engine.flower.exchange import exchange

        return exchange(self._running, task, sites, deadline)
