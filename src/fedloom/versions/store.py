"""Where objects and refs lie: named byte strings on a local disk, in memory, or at S3, GCS or Azure, by one URL.

Rules: `create` overwrites nothing, is atomic and says whether it was first; local disk offers no conditional
overwrite, so all that names something is built on it. What is created `durable` outlives a power cut; the rest does
after `flush`. `replace` and `delete` are for the database's repairs and clearing out, never for refs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from obstore import store as backends
from obstore.exceptions import BaseError

from fedloom.errors import NotFoundError, StorageError
from fedloom.values import Buffer
from fedloom.versions.bucket import Bucket
from fedloom.versions.disk import Disk

_CAUSES = {  # POSIX errno, also as obstore prints it → what a person can do
    5: "the disk has a fault: copy what can still be read to another one",
    27: "a file would exceed the allowed size: raise the file-size limit",
    28: "the disk is full: free some space",
    122: "the disk quota is used up: free some space",
    13: "permission denied: make the folder writable for this user",
    30: "the file system is read-only: choose another folder",
}


@dataclass(frozen=True, slots=True)
class Stat:
    """A stored value: its path, its size in bytes, and when it was written or last touched."""

    path: str
    size: int
    modified: datetime


class Backend(Protocol):
    """What a kind of place must offer; what is missing is a FileNotFoundError. See `Store` for the meaning."""

    def create(self, path: str, parts: Iterable[Buffer], *, durable: bool) -> bool: ...  # noqa: D102
    def replace(self, path: str, parts: Iterable[Buffer]) -> None: ...  # noqa: D102
    def get(self, path: str) -> bytes: ...  # noqa: D102
    def get_range(self, path: str, start: int, length: int) -> bytes: ...  # noqa: D102
    def peek(self, path: str, length: int) -> tuple[bytes, int]: ...  # noqa: D102
    def exists(self, path: str) -> bool: ...  # noqa: D102
    def touch(self, path: str) -> bool: ...  # noqa: D102
    def delete(self, path: str) -> bool: ...  # noqa: D102
    def listing(self, folder: str, *, deep: bool) -> Iterator[tuple[str, int, datetime]]: ...  # noqa: D102
    def names(self, folder: str) -> list[str]: ...  # noqa: D102
    def sync(self) -> None: ...  # noqa: D102
    def sweep(self, folder: str, before: datetime) -> int: ...  # noqa: D102


class Store:
    """Named byte strings."""

    def __init__(self, backend: Backend, place: str) -> None:
        self._backend = backend
        self._place = place

    @classmethod
    def on_disk(cls, folder: Path) -> Store:
        """Keep everything under a folder, which is created if need be."""
        with _told(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
        return cls(Disk(folder), str(folder))

    @classmethod
    def in_memory(cls) -> Store:
        """Keep everything in this process: for tests and trials."""
        return cls(Bucket(backends.MemoryStore()), "memory")

    @classmethod
    def at(cls, url: str) -> Store:
        """Keep everything at an object store, such as s3://bucket/prefix, or in a folder there is, by file://."""
        with _told(url):
            parts = urlsplit(url)
            if parts.scheme == "file":
                folder = Path(url2pathname(parts.path))
                folder.stat()
                return cls(Disk(folder), url)
            return cls(Bucket(backends.from_url(url)), url)

    def create(self, path: str, parts: Iterable[Buffer], *, durable: bool = True) -> bool:
        """Write `parts` as one value; False when `path` is there already (it is then left as it is)."""
        with _told(self._place):
            return self._backend.create(path, parts, durable=durable)

    def replace(self, path: str, parts: Iterable[Buffer]) -> None:
        """Write `parts` as one durable value, at once in the place of what `path` holds, if anything."""
        with _told(self._place):
            self._backend.replace(path, parts)

    def flush(self) -> None:
        """Bring what was created without `durable`, and what was deleted, to where no power cut changes it any more."""
        with _told(self._place):
            self._backend.sync()

    def get(self, path: str) -> bytes:
        """Read a value; raises NotFoundError when there is none, as every reading does."""
        with _told(self._place, path):
            return self._backend.get(path)

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """Read a part of a value; shorter where the value ends before."""
        with _told(self._place, path):
            return self._backend.get_range(path, start, length)

    def peek(self, path: str, length: int) -> tuple[bytes, int]:
        """Read the first bytes of a value, and how many it has."""
        with _told(self._place, path):
            return self._backend.peek(path, length)

    def exists(self, path: str) -> bool:
        """Whether there is a value."""
        with _told(self._place):
            return self._backend.exists(path)

    def touch(self, path: str) -> bool:
        """Whether there is a value; if so it counts as used now (on a disk), and the next `flush` sees to it."""
        with _told(self._place):
            return self._backend.touch(path)

    def delete(self, path: str) -> bool:
        """Remove a value; False when there is none."""
        with _told(self._place):
            return self._backend.delete(path)

    def sweep(self, folder: str, before: datetime) -> int:
        """Remove what killed processes left half written in a folder before a moment; gives the bytes freed."""
        with _told(self._place):
            return self._backend.sweep(folder, before)

    def names(self, folder: str) -> list[str]:
        """Last path parts of the values directly inside a folder, sorted."""
        with _told(self._place):
            return sorted(self._backend.names(folder))

    def paths(self, folder: str) -> list[str]:
        """Full paths of all values below a folder, sorted."""
        return [found.path for found in self.listing(folder)]

    def listing(self, folder: str) -> list[Stat]:
        """All values below a folder with their sizes, sorted by path."""
        with _told(self._place):
            found = [Stat(*each) for each in self._backend.listing(folder, deep=True)]
        return sorted(found, key=lambda stat: stat.path)


@contextmanager
def _told(place: str, path: str | None = None) -> Iterator[None]:
    """Turn a backend's error into a sentence about the place; one about a missing `path` into NotFoundError."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError) as error:
        if path is None:
            raise _storage_error(error, place) from None
        raise NotFoundError(f"nothing is stored under '{path}' in {place}") from None
    except (BaseError, OSError, ValueError) as error:
        raise _storage_error(error, place) from None


def _storage_error(error: Exception, place: str) -> StorageError:
    code = re.search(r"os error (\d+)", str(error))
    number = int(code.group(1)) if code else getattr(error, "errno", None)
    told = getattr(error, "strerror", None) or str(error).partition("\n")[0]  # obstore's debugging notes follow
    cause = _CAUSES.get(number or 0) or told
    return StorageError(f"cannot use the version store at {place}: {cause}. What was committed before is safe")
