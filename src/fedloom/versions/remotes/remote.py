"""What the other side of a transfer must offer, and what travels.

Rules: a commit is put only after everything it names is there, so whatever commit a remote has, it has whole; refs
move last. What arrived is kept, so a transfer that was cut off goes on where it stopped.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from threading import Lock
from typing import NamedTuple, Protocol, TypeAlias

from fedloom.errors import CorruptObjectError
from fedloom.values import Buffer, Digest, sha256
from fedloom.versions import encoding, objects
from fedloom.versions.objects import Encoded
from fedloom.versions.refs import is_ref_name

ReadObject: TypeAlias = Callable[[Digest], memoryview]
"""How canonical bytes of an object at this side are read."""

_PLAIN = struct.Struct("<3sBQQ")


@dataclass(frozen=True, slots=True)
class Parcel:
    """One object on its way.

    data: its canonical bytes, or its tombstone where it was `erased`. like: an earlier version of the same tensor
    that the receiving side has, so that a difference is enough.
    """

    id: Digest
    data: Buffer
    like: Digest | None = None
    erased: bool = False


class Want(NamedTuple):
    """One object to bring, and an earlier version of it that is here already."""

    id: Digest
    like: Digest | None = None


class Traffic:
    """Counts what really went over the wire; threads may add at the same time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.sent = 0
        self.received = 0
        self.requests = 0

    def add(self, *, sent: int = 0, received: int = 0, requests: int = 0) -> None:
        """Count some bytes."""
        with self._lock:
            self.sent += sent
            self.received += received
            self.requests += requests


class Remote(Protocol):
    """The other side."""

    @property
    def traffic(self) -> Traffic:
        """What went over the wire so far."""
        ...

    def refs(self, prefix: str) -> Mapping[str, Digest]:
        """Find where the refs that start with `prefix` point."""
        ...

    def walk(self, tips: Collection[Digest], without: Collection[Digest]) -> Sequence[Parcel]:
        """Bring commits that `tips` reach, near ones first, stopping at `without`; a remote may end after some.

        Raises NotFoundError where a tip is not there.
        """
        ...

    def missing(self, ids: Collection[Digest]) -> set[Digest]:
        """Find which of these objects the other side lacks; one erased there is not missing."""
        ...

    def get(self, wants: Iterable[Want]) -> Iterator[Parcel]:
        """Bring objects in the order they are asked for; those that the other side lacks are left out."""
        ...

    def put(self, parcels: Iterable[Parcel]) -> None:
        """Send objects: tensors and blobs in any order, then the others in theirs; safe there when it returns."""
        ...

    def move(self, name: str, old: Digest | None, new: Digest, why: str) -> None:
        """Move a ref there by compare-and-set; raises ConflictError, or GateError where it is protected."""
        ...


def refs_below(remote: Remote, prefix: str) -> dict[str, Digest]:
    """Ask a remote for refs, and take no others than asked for: a name it makes up could be any ref of this side."""
    found = remote.refs(prefix)
    return {name: target for name, target in found.items() if name.startswith(prefix) and is_ref_name(name)}


def opened(parcel: Parcel) -> Encoded:
    """Check what arrived: its bytes have this id and are a whole object of a known kind; raises CorruptObjectError."""
    data = memoryview(parcel.data)
    if sha256(data) != parcel.id:
        raise CorruptObjectError(f"object {parcel.id[:12]} arrived with bytes that are not its own: send it again")
    try:
        objects.decode(data)
    except RecursionError:
        raise CorruptObjectError(f"object {parcel.id[:12]} is nested too deeply: it was badly made") from None
    head = encoding.head_size(data)
    return Encoded(parcel.id, bytes(data[:head]), data[head:])


def plain_form(data: Buffer) -> bytes:
    """Write canonical bytes as a plain stored form: what decoding a difference wants of its base (`encoding.py`)."""
    start = _PLAIN.pack(b"fls", 0, len(data), len(data))
    return b"".join([start, zlib.crc32(start).to_bytes(4, "little"), data])


def leading(parcels: Iterable[Parcel]) -> tuple[Iterator[Parcel], Iterator[Parcel]]:
    """Split off the tensors and blobs at the start, without reading ahead more than one."""
    source = iter(parcels)
    rest: list[Parcel] = []

    def whole() -> Iterator[Parcel]:
        for parcel in source:
            if not parcel.erased and objects.kind_of(parcel.data) not in ("tensor", "blob"):
                rest.append(parcel)
                return
            yield parcel

    return whole(), chain((parcel for parcel in rest), source)
