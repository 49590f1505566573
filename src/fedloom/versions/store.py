"""Where objects and refs lie: a thin face over obstore (local disk, memory, S3, GCS, Azure by one URL).

Rules: nothing is ever overwritten; `create` is atomic and says whether it was first. Local disk offers no
conditional overwrite, so create-only is all that the version store builds on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from obstore import store as backends
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.exceptions import NotFoundError as MissingError

from fedloom.errors import NotFoundError, StorageError
from fedloom.values import Buffer

_CAUSES = {  # POSIX errno as obstore prints it → what a person can do
    27: "a file would exceed the allowed size: raise the file-size limit",
    28: "the disk is full: free some space",
    122: "the disk quota is used up: free some space",
    13: "permission denied: make the folder writable for this user",
    30: "the file system is read-only: choose another folder",
}


class Store:
    """Named byte strings, written once."""

    def __init__(self, backend: Any, place: str) -> None:
        self._backend = backend
        self._place = place

    @classmethod
    def on_disk(cls, folder: Path) -> Store:
        """Keep everything under a folder, which is created if need be."""
        try:
            return cls(backends.LocalStore(folder, mkdir=True), str(folder))
        except (BaseError, OSError) as error:
            raise _storage_error(error, str(folder)) from None

    @classmethod
    def in_memory(cls) -> Store:
        """Keep everything in this process: for tests and trials."""
        return cls(backends.MemoryStore(), "memory")

    @classmethod
    def at(cls, url: str) -> Store:
        """Keep everything at an object store, such as s3://bucket/prefix."""
        try:
            return cls(backends.from_url(url), url)
        except (BaseError, OSError, ValueError) as error:
            raise _storage_error(error, url) from None

    def create(self, path: str, parts: Iterable[Buffer]) -> bool:
        """Write `parts` as one value; False when `path` is there already (it is then left as it is)."""
        try:
            self._backend.put(path, b"".join(parts), mode="create")
        except AlreadyExistsError:
            return False
        except (BaseError, OSError) as error:
            raise _storage_error(error, self._place) from None
        return True

    def get(self, path: str) -> bytes:
        """Read a value; raises NotFoundError when there is none."""
        try:
            return bytes(self._backend.get(path).bytes())
        except (MissingError, FileNotFoundError):
            raise NotFoundError(f"nothing is stored under '{path}' in {self._place}") from None
        except (BaseError, OSError) as error:
            raise _storage_error(error, self._place) from None

    def exists(self, path: str) -> bool:
        """Whether there is a value."""
        try:
            self._backend.head(path)
        except (MissingError, FileNotFoundError):
            return False
        except (BaseError, OSError) as error:
            raise _storage_error(error, self._place) from None
        return True

    def names(self, folder: str) -> list[str]:
        """Last path parts of the values directly inside a folder, sorted."""
        try:
            listed = self._backend.list_with_delimiter(folder)
        except (BaseError, OSError) as error:
            raise _storage_error(error, self._place) from None
        return sorted(meta["path"].rsplit("/", 1)[-1] for meta in listed["objects"])

    def paths(self, folder: str) -> list[str]:
        """Full paths of all values below a folder, sorted."""
        try:
            return sorted(meta["path"] for page in self._backend.list(folder) for meta in page)
        except (BaseError, OSError) as error:
            raise _storage_error(error, self._place) from None


def _storage_error(error: Exception, place: str) -> StorageError:
    code = re.search(r"os error (\d+)", str(error))
    number = int(code.group(1)) if code else getattr(error, "errno", None)
    told = str(error).partition("\n")[0]  # obstore's debugging notes follow
    cause = _CAUSES.get(number or 0) or told
    return StorageError(f"cannot use the version store at {place}: {cause}. What was committed before is safe")
