"""Tombstones: what is left of an object that was erased on purpose, so that its absence is no loss.

Rules: a tombstone is written before the bytes are removed and is never taken away; it travels like the object would
have. It says who erased what, when and why, and holds nothing of what was erased.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from fedloom.errors import NotFoundError
from fedloom.values import Buffer, Digest
from fedloom.versions.store import Store

_FOLDER = "erased"


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Who erased an object, when (ISO 8601, UTC) and why."""

    who: str
    when: str
    why: str

    def __str__(self) -> str:
        """Say it as a sentence goes on: `erased by ada, 2026-11-24: asked to`."""
        return f"erased by {self.who}, {self.when[:10]}: {self.why}"


def path(id_: Digest) -> str:
    """Say where the tombstone of an erased object lies in a store."""
    return f"{_FOLDER}/{id_}"


def bury(store: Store, id_: Digest, who: str, why: str) -> Tombstone:
    """Write a tombstone, unless there is one already; gives the one that stands."""
    tombstone = Tombstone(who, datetime.now(UTC).isoformat(timespec="seconds"), why)
    store.create(path(id_), [json.dumps(asdict(tombstone)).encode()])
    return find(store, id_) or tombstone


def find(store: Store, id_: Digest) -> Tombstone | None:
    """Read the tombstone of an object; None when it was not erased."""
    try:
        return _read(store.get(path(id_)))
    except NotFoundError:
        return None


def all_of(store: Store) -> dict[Digest, Tombstone]:
    """Read all tombstones of a store."""
    found = {Digest(name): find(store, Digest(name)) for name in store.names(_FOLDER)}
    return {id_: tombstone for id_, tombstone in found.items() if tombstone is not None}


def _read(data: Buffer) -> Tombstone:
    """Read a tombstone from anywhere: what of it cannot be read is unknown, but the object counts as erased."""
    try:
        value = json.loads(bytes(data))
    except ValueError:
        value = {}
    known = value if isinstance(value, dict) else {}
    return Tombstone(*(" ".join(str(known.get(name, "unknown")).split()) for name in ("who", "when", "why")))
