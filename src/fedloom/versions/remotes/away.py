"""A store's backend that is away: what goes over the wire is counted, and what can be spared is spared."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime

from fedloom.values import Buffer, Digest
from fedloom.versions import small
from fedloom.versions.database import Database
from fedloom.versions.remotes.remote import Traffic, plain_form
from fedloom.versions.store import Backend

_OBJECT = re.compile(r"objects/[0-9a-f]{2}/([0-9a-f]{64})")
_READ_WHOLE = 4 << 20  # bytes; a bundle up to here is read at once when a second object of it is asked for
_KEPT = 64 << 20  # bytes of bundles held at most


class Away:
    """A backend seen from a repository that has some of its objects."""

    def __init__(self, backend: Backend, traffic: Traffic, near: Database | None) -> None:
        self._backend, self._traffic, self._near = backend, traffic, near

    def create(self, path: str, parts: Iterable[Buffer], *, durable: bool) -> bool:
        """Write a new value."""
        return self._backend.create(path, self._sent(parts), durable=durable)

    def replace(self, path: str, parts: Iterable[Buffer]) -> None:
        """Write a value anew."""
        self._backend.replace(path, self._sent(parts))

    def get(self, path: str) -> bytes:
        """Read a value; an object that is near as well, such as a keyframe, is not brought a second time."""
        found = _OBJECT.fullmatch(path)
        if found and self._near is not None and self._near.has(id_ := Digest(found[1])):
            return plain_form(self._near.get(id_))
        return self._received(self._backend.get(path))

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """Read a part of a value."""
        return self._received(self._backend.get_range(path, start, length))

    def peek(self, path: str, length: int) -> tuple[bytes, int]:
        """Read the first bytes of a value, and how many it has."""
        start, size = self._backend.peek(path, length)
        return self._received(start), size

    def exists(self, path: str) -> bool:
        """Whether there is a value."""
        self._traffic.add(requests=1)
        return self._backend.exists(path)

    def touch(self, path: str) -> bool:
        """Whether there is a value, which then counts as used now."""
        self._traffic.add(requests=1)
        return self._backend.touch(path)

    def delete(self, path: str) -> bool:
        """Remove a value."""
        self._traffic.add(requests=1)
        return self._backend.delete(path)

    def listing(self, folder: str, *, deep: bool) -> Iterator[tuple[str, int, datetime]]:
        """List values."""
        self._traffic.add(requests=1)
        return self._backend.listing(folder, deep=deep)

    def names(self, folder: str) -> list[str]:
        """List names of values."""
        self._traffic.add(requests=1)
        return self._backend.names(folder)

    def sync(self) -> None:
        """Make durable what was written."""
        self._backend.sync()

    def sweep(self, folder: str, before: datetime) -> int:
        """Remove what writers that were killed left behind."""
        return self._backend.sweep(folder, before)

    def _sent(self, parts: Iterable[Buffer]) -> list[Buffer]:
        kept = list(parts)
        self._traffic.add(sent=sum(len(part) for part in kept), requests=1)
        return kept

    def _received(self, data: bytes) -> bytes:
        self._traffic.add(received=len(data), requests=1)
        return data


class BucketAway(Away):
    """A bucket: a request takes longer than some thousand bytes, so a small bundle is read once, and not in parts."""

    def __init__(self, backend: Backend, traffic: Traffic, near: Database | None) -> None:
        super().__init__(backend, traffic, near)
        self._sizes: dict[str, int] = {}
        self._reads: Counter[str] = Counter()
        self._bundles: dict[str, bytes] = {}

    def listing(self, folder: str, *, deep: bool) -> Iterator[tuple[str, int, datetime]]:
        """List values, and remember how large bundles are."""
        for path, size, modified in super().listing(folder, deep=deep):
            if path.startswith(f"{small.FOLDER}/"):
                self._sizes[path] = size
            yield path, size, modified

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """Read a part of a value; a bundle never changes, so what was read of it stays true."""
        whole = self._bundles.get(path) or self._whole(path, start)
        return whole[start : start + length] if whole else super().get_range(path, start, length)

    def _whole(self, path: str, start: int) -> bytes | None:
        """Read a bundle as a whole, once a second object of it is asked for; the front is its index."""
        self._reads[path] += start > 0
        if self._reads[path] < 2 or self._sizes.get(path, _READ_WHOLE + 1) > _READ_WHOLE:
            return None
        if sum(map(len, self._bundles.values())) > _KEPT:
            self._bundles = {}
        whole = self._received(self._backend.get(path))
        self._bundles[path] = whole
        return whole
