"""Leases: who is writing to a store, so that nothing is cleared away which is about to be needed.

A writer holds a lease (a file under `leases/`) from its first write until it ends. Somebody who clears away works
alone: it shows a file under `clearing/`, and then removes nothing if there is a lease or another such file. Each side
shows its file before it looks for the other's, so at least one of them sees the other: a writer that begins too late
to be seen waits until the clearing is over.

Rules: a lease is stale once its process is gone from this machine; one of another machine, after a day without a write.
Each file has a name of its own, so that whoever removes a stale one cannot hit another that was written meanwhile.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from fedloom.errors import ConflictError, NotFoundError, VersionsError
from fedloom.versions.store import Store

FOLDER = "leases"
CLEARING = "clearing"
STALE = timedelta(days=1)

_RENEWED_EVERY = 3600.0
_PATIENCE = 600.0
_TIE = 0.2  # seconds in which of two that begin to clear away at once the later one has withdrawn
_POLL = 0.02


@dataclass(frozen=True, slots=True)
class Holder:
    """A process: on which machine, its number there, since when it works, and when it last said so."""

    host: str
    pid: int
    since: str
    seen: str

    @classmethod
    def here(cls) -> Holder:
        """Describe this process, from now on."""
        now = datetime.now(UTC).isoformat()
        return cls(_host(), os.getpid(), now, now)

    @property
    def is_stale(self) -> bool:
        """Whether it is gone."""
        if self.host == _host():
            return not _is_running(self.pid)
        return datetime.now(UTC) - datetime.fromisoformat(self.seen) > STALE

    def __str__(self) -> str:
        """Say who it is."""
        where = "" if self.host == _host() else f" on {self.host.partition('/')[0]}"
        return f"process {self.pid}{where}"


class Lease:
    """The lease of one writer; taken at its first write, given back when it is no longer used."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._holder: Holder | None = None
        self._path = ""
        self._renew_at = 0.0
        self._end: Callable[[], object] = lambda: None

    def hold(self) -> None:
        """Take the lease, or renew it once an hour; whoever comes while somebody clears away waits.

        What was not found before, or was, must be looked for again after the lease was first held.
        """
        if time.monotonic() < self._renew_at and self._is_own():
            return
        with self._lock:
            if not self._is_own():
                self._take()
            elif time.monotonic() >= self._renew_at:
                self._renew()

    def release(self) -> None:
        """Give the lease back."""
        with self._lock:
            if self._holder is not None:
                self._holder = None
                self._end()

    def is_at(self, path: str) -> bool:
        """Whether this is the lease that lies there."""
        return self._holder is not None and self._path == path

    def _is_own(self) -> bool:
        """Whether this process holds it; one that was forked from a holder does not."""
        return self._holder is not None and self._holder.pid == os.getpid()

    def _take(self) -> None:
        holder = Holder.here()
        path = f"{FOLDER}/{holder.pid}-{secrets.token_hex(8)}"
        self._store.create(path, [_bytes(holder)], durable=False)
        self._end = weakref.finalize(self, _give_back, self._store, path, holder.pid)
        _wait_for_clearing(self._store)
        self._renew_at = time.monotonic() + _RENEWED_EVERY
        self._path, self._holder = path, holder

    def _renew(self) -> None:
        assert self._holder is not None, "only what is held is renewed"
        self._holder = Holder(**{**asdict(self._holder), "seen": datetime.now(UTC).isoformat()})
        self._store.replace(self._path, [_bytes(self._holder)])
        self._renew_at = time.monotonic() + _RENEWED_EVERY


def others(store: Store, own: Lease) -> list[Holder]:
    """List who else is writing; leases of those that are gone are taken away."""
    found = dict(_there(store, FOLDER))
    for path in [path for path, holder in found.items() if holder.is_stale and not own.is_at(path)]:
        store.delete(path)
    return [holder for path, holder in found.items() if not holder.is_stale and not own.is_at(path)]


def clearing(store: Store) -> Holder | None:
    """Find who is clearing away; None when nobody is, or whoever was is gone."""
    return next((holder for _, holder in _there(store, CLEARING) if not holder.is_stale), None)


@contextmanager
def alone(store: Store) -> Iterator[None]:
    """Clear away alone: writers that begin meanwhile wait. Raises ConflictError while somebody else does."""
    own = Holder.here()
    path = f"{CLEARING}/{own.pid}-{secrets.token_hex(8)}"
    store.create(path, [_bytes(own)])
    try:
        _require_alone(store, path)
        yield
    finally:
        store.delete(path)


def _require_alone(store: Store, own: str) -> None:
    """Raise ConflictError while somebody else clears away; of two that begin at once, the first by name goes on."""
    patience = time.monotonic() + _TIE
    while rivals := {path: holder for path, holder in _there(store, CLEARING) if path != own}:
        for path in [path for path, holder in rivals.items() if holder.is_stale]:
            store.delete(path)
            del rivals[path]
        if rivals and (min(rivals) < own or time.monotonic() > patience):
            holder = rivals[min(rivals)]
            raise ConflictError(f"{holder} is clearing this repository already: wait until it is done")
        if rivals:
            time.sleep(_POLL)


def _wait_for_clearing(store: Store) -> None:
    patience = time.monotonic() + _PATIENCE
    while holder := clearing(store):
        if time.monotonic() > patience:
            raise ConflictError(f"{holder} has been clearing away for long: try again when it is done")
        time.sleep(_POLL)


def _there(store: Store, folder: str) -> Iterator[tuple[str, Holder]]:
    """List the files of a folder that are there, with who holds them."""
    for name in store.names(folder):
        holder = _read(store, f"{folder}/{name}")
        if holder is not None:
            yield f"{folder}/{name}", holder


def _read(store: Store, path: str) -> Holder | None:
    """Read who holds something; one that a power cut left unreadable is held by nobody that is still there."""
    try:
        value = json.loads(store.get(path))
        seen = datetime.fromisoformat(value["seen"]).astimezone(UTC).isoformat()
        return Holder(str(value["host"]), int(value["pid"]), str(value["since"]), seen)
    except NotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        long_ago = datetime.min.replace(tzinfo=UTC).isoformat()
        return Holder("", 0, long_ago, long_ago)


def _bytes(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()


def _give_back(store: Store, path: str, pid: int) -> None:
    """Take a lease's file away; not in a child that was forked from its process. A store that is gone has none."""
    if os.getpid() == pid:
        with suppress(VersionsError):
            store.delete(path)


@cache
def _host() -> str:
    """Name where process numbers are unique: the machine, or the container on it."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return "/".join([socket.gethostname(), namespace, boot.read_text().strip() if boot.exists() else ""])


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
