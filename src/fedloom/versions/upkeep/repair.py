"""Repair: what is missing or corrupt here and whole at a remote is brought back; corrupt bytes nobody needs go.

Rules: bytes are removed only once the whole object is at hand, or where nothing needs them. Nothing else is touched,
and what arrives is held to its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fedloom.errors import ConflictError, FedloomError
from fedloom.values import Digest
from fedloom.versions import leases
from fedloom.versions.content import Content
from fedloom.versions.database import Database
from fedloom.versions.objects import Encoded
from fedloom.versions.remotes.addresses import connected
from fedloom.versions.remotes.remote import Want, opened
from fedloom.versions.store import Store
from fedloom.versions.upkeep.fsck import Report

_TOGETHER = 32


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did: how many objects came from which remote, how many were removed, and what could not be had.

    unreachable: remotes that did not answer, each with its reason.
    """

    brought: dict[str, int]
    removed: int
    left: int
    unreachable: tuple[str, ...] = ()


def repair(content: Content, report: Report) -> Repaired:
    """Mend what a report tells of; raises ConflictError while others write."""
    needed = [p.id for p in report.problems if p.id is not None and p.what in ("missing", "corrupt") and p.where]
    useless = [p.id for p in report.problems if p.id is not None and p.what == "corrupt" and not p.where]
    content.lease.hold()
    with leases.alone(content.store):
        if writers := leases.others(content.store, content.lease):
            raise ConflictError(f"{writers[0]} is writing: wait until it is done, then repair")
        content.database.discard(useless)
        brought: dict[str, int] = {}
        silent: list[str] = []
        for name in sorted(content.settings.read().remotes):
            absent = [id_ for id_ in needed if content.database.check(id_) is not None]
            try:
                brought[name] = sum(_put(content, encoded) for encoded in _from(content, name, absent))
            except FedloomError as error:
                silent.append(f"{name}: {error}")
        content.database.flush()
    left = sum(content.database.check(id_) is not None for id_ in needed)
    return Repaired({name: count for name, count in brought.items() if count}, len(useless), left, tuple(silent))


def _from(content: Content, name: str, ids: Iterable[Digest]) -> Iterator[Encoded]:
    """Bring objects from a remote, whole: nothing that is stored here is trusted to build them from."""
    ids = list(ids)
    if not ids:
        return
    apart = Content(content.store)
    apart.database = Database(Store.in_memory())
    with connected(apart, name) as remote:
        for start in range(0, len(ids), _TOGETHER):
            for parcel in remote.get([Want(id_) for id_ in ids[start : start + _TOGETHER]]):
                if not parcel.erased:
                    yield opened(parcel)


def _put(content: Content, encoded: Encoded) -> bool:
    """Store an object in the place of what is stored under its id; whether that was necessary by now."""
    if content.database.check(encoded.id) is None:
        return False  # its keyframe came back
    content.database.discard([encoded.id])
    content.database.put(encoded)
    return True
