"""Values in an object store (S3, GCS, Azure) or in memory, by obstore; written means durable there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.exceptions import NotFoundError as MissingError

from fedloom.values import Buffer


class Bucket:
    """One obstore store; what is missing is a FileNotFoundError, everything else obstore's own error."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def create(self, path: str, parts: Iterable[Buffer], *, durable: bool) -> bool:  # noqa: ARG002  always is
        """Write a new value; False when there is one."""
        try:
            self._backend.put(path, b"".join(parts), mode="create")
        except AlreadyExistsError:
            return False
        return True

    def replace(self, path: str, parts: Iterable[Buffer]) -> None:
        """Write a value, in the place of one of that name if need be."""
        self._backend.put(path, b"".join(parts))

    def get(self, path: str) -> bytes:
        """Read a value."""
        try:
            return bytes(self._backend.get(path).bytes())
        except MissingError as error:
            raise FileNotFoundError from error

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """Read a part of a value; shorter where it ends before."""
        try:
            return bytes(self._backend.get_range(path, start=start, length=length)) if length else b""
        except MissingError as error:
            raise FileNotFoundError from error

    def peek(self, path: str, length: int) -> tuple[bytes, int]:
        """Read the first bytes of a value, and how many it has."""
        try:
            found = self._backend.get(path, options={"range": (0, length)})
        except MissingError as error:
            raise FileNotFoundError from error
        except BaseError:  # an empty value has no range
            if self._backend.head(path)["size"]:
                raise
            return b"", 0
        return bytes(found.bytes()), found.meta["size"]

    def exists(self, path: str) -> bool:
        """Whether there is a value."""
        try:
            self._backend.head(path)
        except (MissingError, FileNotFoundError):
            return False
        return True

    def touch(self, path: str) -> bool:
        """Whether there is a value; its age cannot be renewed here without writing it anew."""
        return self.exists(path)

    def delete(self, path: str) -> bool:
        """Remove a value; False when there is none."""
        if not self.exists(path):
            return False
        try:
            self._backend.delete(path)
        except (MissingError, FileNotFoundError):
            return False
        return True

    def listing(self, folder: str, *, deep: bool) -> Iterator[tuple[str, int, datetime]]:
        """Give path, size and time of change of the values in a folder, and in those below it when `deep`."""
        if deep:
            found = [meta for page in self._backend.list(folder) for meta in page]
        else:
            found = self._backend.list_with_delimiter(folder)["objects"]
        return ((meta["path"], meta["size"], meta["last_modified"]) for meta in found)

    def names(self, folder: str) -> list[str]:
        """Give the last part of the paths of the values directly in a folder."""
        return [path.rsplit("/", 1)[-1] for path, _, _ in self.listing(folder, deep=False)]

    def sweep(self, folder: str, before: datetime) -> int:  # noqa: ARG002  nothing is left half written here
        """Do nothing: what is cut off never gets a name."""
        return 0

    def sync(self) -> None:
        """Do nothing: what is written is kept."""
