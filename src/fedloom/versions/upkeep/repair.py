"""Repair: what is missing or corrupt here and whole at a remote is brought back; corrupt bytes nobody needs go.

Rules: bytes are removed only once the whole object is at hand, or where nothing needs them. Nothing else is touched,
and what arrives is held to its id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fedloom.errors import ConflictError, FedloomError
from fedloom.values import Digest
from fedloom.versions import leases, objects
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
            try:
                brought[name] = _bring(content, name, needed)
            except FedloomError as error:
                silent.append(f"{name}: {error}")
        content.database.flush()
    left = sum(content.database.check(id_) is not None for id_ in needed)
    return Repaired({name: count for name, count in brought.items() if count}, len(useless), left, tuple(silent))


def _bring(content: Content, name: str, needed: Sequence[Digest]) -> int:
    """Bring objects from a remote, and what those name that is not here either; gives how many were stored.

    Keyframes come first: with them, what is stored as a difference to them may be whole again.
    """
    bases = {held.base for held in content.database.held()}
    count, asked = 0, set[Digest]()
    waiting = [[id_ for id_ in needed if id_ in bases], [id_ for id_ in needed if id_ not in bases]]
    while waiting:
        ids = [id_ for id_ in dict.fromkeys(waiting.pop(0)) if id_ not in asked and content.database.check(id_)]
        asked.update(ids)
        more: list[Digest] = []
        for encoded in _from(content, name, ids):
            if content.database.check(encoded.id) is not None:
                if content.has(encoded.id):  # corrupt, or it would not have been asked for
                    content.database.discard([encoded.id])
                content.database.put(encoded)
                count += 1
            more += (id_ for id_ in _names(encoded) if not content.has(id_))
        waiting += [more] if more else []
    return count


def _from(content: Content, name: str, ids: Sequence[Digest]) -> Iterator[Encoded]:
    """Read objects from a remote, whole: nothing that is stored here is trusted to build them from."""
    if not ids:
        return
    apart = Content(content.store)
    apart.database = Database(Store.in_memory())
    with connected(apart, name) as remote:
        for start in range(0, len(ids), _TOGETHER):
            for parcel in remote.get([Want(id_) for id_ in ids[start : start + _TOGETHER]]):
                if not parcel.erased:
                    yield opened(parcel)


def _names(encoded: Encoded) -> Iterator[Digest]:
    """List what an object names and wants to be stored."""
    kind = objects.kind_of(encoded.header)
    if kind == "commit":
        commit = objects.decode_commit(encoded.header)
        yield from (*commit.parents, commit.tree)
    elif kind == "tree":
        yield from (
            entry.id for entry in objects.decode_tree(encoded.header).entries.values() if entry.keep == "stored"
        )
