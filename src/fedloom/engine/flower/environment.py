"""What stands around a simulation: the variables flwr and Ray obey, their loggers, a scratch folder.

Rules: fedloom decides nothing by the environment. flwr and Ray, however, offer no other switch for telemetry,
update checks and their home folder than variables that they read when imported or started. So this module,
alone in the library, sets those (Ray's processes inherit them) and puts back what was there before; it reads
them only for that.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

_SWITCHES = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the way of future Ray; unset, every start warns about it
}
_LEFT_CHANGED = ("PYTHONPATH", "PYTHONBREAKPOINT")
"""What flwr and Ray set when they start, and what Python would obey after the run."""


@contextmanager
def prepared(home: Path) -> Iterator[Path]:
    """Set the stage for flwr and Ray, yield a scratch folder for Ray's session, then put everything back.

    home: where flwr may write. The scratch folder lies in the system's temporary directory instead: Ray puts
    sockets there, and a socket's path may have at most 107 bytes.
    """
    home.mkdir(parents=True, exist_ok=True)
    variables = {**_SWITCHES, "FLWR_HOME": str(home.resolve())}
    with _variables(variables), _muted("flwr"), TemporaryDirectory(prefix="fedloom-ray-") as scratch:
        yield Path(scratch)


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    names = (*values, *_LEFT_CHANGED)
    before = {name: os.environ[name] for name in names if name in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)


@contextmanager
def _muted(name: str) -> Iterator[None]:
    # A filter, not a level: flwr sets its logger's level when it is imported, which is after this.
    logger = logging.getLogger(name)
    logger.addFilter(_is_critical)
    try:
        yield
    finally:
        logger.removeFilter(_is_critical)


def _is_critical(record: logging.LogRecord) -> bool:
    # flwr logs an error together with the text of the site's exception, which may hold values of its data;
    # the error itself reaches the caller as a failed reply or an EngineError.
    return record.levelno >= logging.CRITICAL
