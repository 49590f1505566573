"""Every name of flwr and Ray that is not their public API, and nothing else (flwr 1.42, Ray 2.55)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import flwr.supercore.telemetry
import ray
import ray._private.worker as driver
from ray._private.state import actors
from ray._private.utils import get_num_cpus


@contextmanager
def quiet() -> Iterator[None]:
    """Keep flwr from reporting home, and Ray from printing on standard output that a worker died."""
    # Also where somebody imported flwr before `environment.py` could set its variable.
    flwr.supercore.telemetry.FLWR_TELEMETRY_ENABLED = "0"
    printing = driver.print_to_stdstream
    driver.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        driver.print_to_stdstream = printing


def available_cpus() -> int:
    """Count the CPUs Ray may use, a container's limit respected."""
    return int(get_num_cpus(override_docker_cpu_warning=True))


def kill_workers() -> None:
    """End the workers of our Ray for good, so that nothing waits for a task that is still running."""
    if ray.is_initialized():
        core: Any = driver.global_worker
        for actor_id in actors():
            core.core_worker.kill_actor(ray.ActorID.from_hex(actor_id), no_restart=True)
