"""Tombstones: what is left of an object that was erased on purpose, so that its absence is no loss.

Rules: a tombstone is written before the bytes are removed and is never taken away; it travels like the object would
have. It says who erased what, when and why, and holds nothing of what was erased. One that came from elsewhere is
hearsay: it excuses that the bytes are absent, and ends when somebody brings them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from fedloom.errors import CorruptObjectError, NotFoundError
from fedloom.values import Buffer, Digest
from fedloom.versions.store import Store

LARGEST = 4 << 10
"""Bytes of a tombstone from elsewhere, at most."""

ERASABLE = ("tensor", "blob", "attestation")
"""Kinds of which a tombstone can take the place; without commits, trees and conflicts, nothing could be checked."""

_FOLDER = "erased"
_WORDS = ("who", "when", "why")


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Who erased an object, when (ISO 8601, UTC) and why; `says` names who told us, empty where it happened here."""

    who: str
    when: str
    why: str
    says: str = ""

    def __str__(self) -> str:
        """Say it as a sentence goes on: `erased by ada, 2026-11-24: asked to`."""
        told = f", says {self.says}," if self.says else ""
        return f"erased{told} by {self.who}, {self.when[:10]}: {self.why}"


def path(id_: Digest) -> str:
    """Say where the tombstone of an erased object lies in a store."""
    return f"{_FOLDER}/{id_}"


def bury(store: Store, id_: Digest, who: str, why: str) -> Tombstone:
    """Write a tombstone, unless there is one of our own already; gives the one that stands."""
    tombstone = Tombstone(who, datetime.now(UTC).isoformat(timespec="seconds"), why)
    data = [_written(tombstone)]
    if not store.create(path(id_), data) and is_hearsay(store, id_):
        store.replace(path(id_), data)
    return find(store, id_) or tombstone


def hear(store: Store, id_: Digest, data: Buffer, says: str) -> None:
    """Keep a tombstone from elsewhere, unless there is one; raises CorruptObjectError where it is none."""
    told = f"the tombstone of object {id_[:12]} from {says} is none: erase it there again"
    try:
        value = json.loads(bytes(data)) if len(data) <= LARGEST else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not all(isinstance(value.get(word), str) for word in _WORDS):
        raise CorruptObjectError(told)
    store.create(path(id_), [_written(replace(_of(value), says=says))])


def to_send(store: Store, id_: Digest) -> bytes:
    """Write a tombstone as it travels: what others say about it is theirs to say."""
    found = find(store, id_)
    if found is None:
        raise NotFoundError(f"object {id_[:12]} is missing from the repository")
    return _written(replace(found, says=""))


def lift(store: Store, id_: Digest) -> None:
    """Forget hearsay about an object, for its bytes are here; our own tombstone stays."""
    if is_hearsay(store, id_):
        store.delete(path(id_))


def find(store: Store, id_: Digest) -> Tombstone | None:
    """Read the tombstone of an object; None when it was not erased."""
    try:
        return _read(store.get(path(id_)))
    except NotFoundError:
        return None


def is_hearsay(store: Store, id_: Digest) -> bool:
    """Whether only somebody else says that an object was erased."""
    found = find(store, id_)
    return found is not None and bool(found.says)


def is_ours(store: Store, id_: Digest) -> bool:
    """Whether an object was erased here, so that nobody is to bring it again."""
    found = find(store, id_)
    return found is not None and not found.says


def all_of(store: Store) -> dict[Digest, Tombstone]:
    """Read all tombstones of a store."""
    found = {Digest(name): find(store, Digest(name)) for name in store.names(_FOLDER)}
    return {id_: tombstone for id_, tombstone in found.items() if tombstone is not None}


def _read(data: Buffer) -> Tombstone:
    """Read a tombstone from anywhere: what of it cannot be read is unknown, but the object counts as erased."""
    try:
        value = json.loads(bytes(data))
    except (ValueError, RecursionError):
        value = {}
    return _of(value if isinstance(value, dict) else {})


def _of(value: dict[str, Any]) -> Tombstone:
    who, when, why = (_line(value.get(word, "unknown")) for word in _WORDS)
    return Tombstone(who, when, why, _line(value.get("says", "")))


def _line(value: Any) -> str:
    return " ".join(str(value).split())


def _written(tombstone: Tombstone) -> bytes:
    value = {word: part for word, part in asdict(tombstone).items() if word != "says" or part}
    return json.dumps(value).encode()
