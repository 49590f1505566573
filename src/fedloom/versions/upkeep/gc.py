"""Garbage collection: what nothing leads to any more is condemned, and removed once that was so for a while.

Rules: nothing is removed while somebody else writes, nor as long as it cannot be told what is still needed. What was
last seen in use waits the whole grace again. What names others goes before what it names, the last commit of a branch
first, so what is killed half-way leaves nothing that looks whole and is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from graphlib import TopologicalSorter
from typing import Any

from fedloom.errors import ConflictError, CorruptObjectError, FedloomError, VersionsError
from fedloom.values import Digest
from fedloom.versions import leases, objects, tombstones
from fedloom.versions.content import Content
from fedloom.versions.generations import Generations
from fedloom.versions.remotes.closure import Named
from fedloom.versions.upkeep import reading
from fedloom.versions.upkeep.reach import Reach, roots
from fedloom.versions.upkeep.reading import Reading

GRACE = timedelta(days=14)
REFLOG = timedelta(days=90)

_STRUCTURE = ("commit", "tree", "conflict")
_CONDEMNED = "condemned"
_FOLDERS = ("objects", "bundles", "refs", "settings")
_BUNDLES = 8
_LARGEST_NAMING = 1 << 20  # bytes; larger objects are tensors
_DRAFTS = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Collected:
    """What was done, or with `dry_run` would be: numbers of objects, and the bytes they take or took.

    condemned: those found unreachable for the first time. waiting: those left for a later run, of `waiting_bytes`.
    swept: bytes of files that killed processes left half written. writers: who kept everything from being removed.
    """

    dry_run: bool
    kept: int
    removed: int
    freed: int
    condemned: int
    waiting: int
    waiting_bytes: int
    swept: int = 0
    writers: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Turn into plain JSON."""
        return asdict(self)


def gc(content: Content, *, grace: timedelta = GRACE, reflog: timedelta = REFLOG, dry_run: bool = False) -> Collected:
    """Remove what nothing has led to for `grace`; what refs left longer than `reflog` ago holds nothing any more.

    Raises ConflictError where nothing is to wait (a grace of 0) and others write, VersionsError where something is
    missing or corrupt, so that it cannot be told what is needed.
    """
    now = datetime.now(UTC)
    since = max(now - reflog, reading.reflog_since(content))
    if dry_run:
        return _report(_sort(content, since, now, grace), _writers(content), dry_run=True)
    with leases.alone(content.store):
        writers = _writers(content)
        if writers and not grace:
            raise ConflictError(f"{', '.join(writers)} may need what no ref leads to yet: give a --grace, or wait")
        found = _sort(content, since, now, grace)
        if writers:
            _remember(content, found.condemned)
            return _report(found, writers)
        _remember(content, {id_: when for id_, when in found.condemned.items() if id_ not in found.due})
        reading.let_go(content, since)
        naming = _naming_first(content, found)
        freed = content.database.discard_in_order(naming) + content.database.discard(set(found.due).difference(naming))
        content.database.consolidate(_BUNDLES)
        swept = sum(content.store.sweep(folder, now - _DRAFTS) for folder in _FOLDERS)
    return _report(found, freed=freed, swept=swept)


def reached(content: Content, since: datetime) -> set[Digest]:
    """Find everything that refs lead to, here or not; raises VersionsError where that cannot be told."""
    logs, problems = reading.logs(content)
    source = Reading(content)
    found: set[Digest] = set()
    tips = roots(logs, since)
    found.update(root.id for root in tips)
    for commit, named in Reach(source).walk(root.id for root in tips if root.kind == "commit"):
        found.add(named.id)
        if named.needed and named.kind in _STRUCTURE and not _is_known(content, source, named):
            of = "" if named.id == commit else f" of commit {commit[:12]}"
            problems.append(f"{named.kind} {named.id[:12]}{of} is missing")
    problems += source.failed.values()
    if problems:
        raise VersionsError(f"it cannot be told what is still needed ({problems[0]}): see `fedloom fsck`")
    return found


@dataclass(frozen=True, slots=True)
class _Sorted:
    """What is stored: how much is needed, since when the rest is condemned, and what of that is due."""

    kept: int
    sizes: Mapping[Digest, int]
    condemned: Mapping[Digest, datetime]
    fresh: int
    due: Collection[Digest]


def _sort(content: Content, since: datetime, now: datetime, grace: timedelta) -> _Sorted:
    held = list(content.database.held())
    needed = reached(content, since)
    needed |= {one.base for one in held if one.base is not None and one.id in needed}
    sizes: Counter[Digest] = Counter()
    for one in held:
        sizes[one.id] += one.size
    before = _remembered(content)
    condemned = {id_: before.get(id_, now) for id_ in sizes if id_ not in needed}
    due = {id_ for id_, when in condemned.items() if now - when >= grace}
    return _Sorted(len(sizes.keys() & needed), sizes, condemned, len(condemned.keys() - before.keys()), due)


def _is_known(content: Content, source: Reading, named: Named) -> bool:
    """Whether an object is here, or known to be erased; one that is here and cannot be read is told of otherwise."""
    return named.id in source.failed or content.has(named.id) or content.store.exists(tombstones.path(named.id))


def _naming_first(content: Content, found: _Sorted) -> list[Digest]:
    """List what is due and names other objects, each before all that it names."""
    small = (id_ for id_ in found.due if found.sizes[id_] <= _LARGEST_NAMING)
    names = {id_: named for id_ in small if (named := _names(content, id_)) is not None}
    order = TopologicalSorter[Digest](dict.fromkeys(names, ()))
    for id_, named in names.items():
        for other in named & names.keys():
            order.add(other, id_)
    return list(order.static_order())


def _names(content: Content, id_: Digest) -> set[Digest] | None:
    """Find what an object names; None where its kind names nothing, or it cannot be read."""
    try:
        data = content.database.get(id_)
        match objects.kind_of(data):
            case "commit":
                commit = objects.decode_commit(data)
                inputs = commit.recipe.inputs if commit.recipe else ()
                return {commit.tree, *commit.parents, *(part.id for part in inputs)}
            case "tree":
                return {entry.id for entry in objects.decode_tree(data).entries.values()}
            case "conflict":
                conflict = objects.decode_conflict(data)
                return {side.id for side in (conflict.base, *conflict.heads) if side}
            case "attestation":
                return {objects.decode_attestation(data).subject}
    except FedloomError:
        pass
    return None


def _writers(content: Content) -> tuple[str, ...]:
    return tuple(map(str, leases.others(content.store, content.lease)))


def _remembered(content: Content) -> dict[Digest, datetime]:
    """Read since when what is condemned."""
    lists = _lists(content)
    number = lists.latest()
    try:
        value = lists.read(number)["since"] if number else {}
        return {Digest(id_): datetime.fromisoformat(when) for when, ids in value.items() for id_ in ids}
    except (CorruptObjectError, KeyError, TypeError, ValueError, AttributeError):
        return {}  # everything waits anew


def _remember(content: Content, condemned: Mapping[Digest, datetime]) -> None:
    """Write what is condemned since when, in the place of earlier lists."""
    if condemned == _remembered(content):
        return
    lists = _lists(content)
    numbers = lists.numbers()
    since: dict[str, list[Digest]] = {}
    for id_, when in sorted(condemned.items()):
        since.setdefault(when.isoformat(), []).append(id_)
    lists.create(max(numbers, default=0) + 1, {"since": since})
    for number in numbers:
        content.store.delete(f"{_CONDEMNED}/{number:08d}")


def _lists(content: Content) -> Generations:
    return Generations(content.store, _CONDEMNED, "what is condemned")


def _report(
    found: _Sorted, writers: tuple[str, ...] = (), *, dry_run: bool = False, freed: int | None = None, swept: int = 0
) -> Collected:
    gone = () if writers else found.due
    waiting = [id_ for id_ in found.condemned if id_ not in gone]
    size = sum(found.sizes[id_] for id_ in waiting)
    would_free = sum(found.sizes[id_] for id_ in gone)
    freed = would_free if freed is None else freed
    return Collected(dry_run, found.kept, len(gone), freed, found.fresh, len(waiting), size, swept, writers)
