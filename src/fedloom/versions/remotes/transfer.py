"""What sending and receiving share: how to transfer, what it did, and what of a commit goes where.

Rules: commits go parents first, each after everything it names; whoever is cut off has whole commits and some loose
objects, and the next try skips both. A tensor goes as a difference to the same-named one of the parent. No ref moves
here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from fedloom.errors import CorruptObjectError
from fedloom.values import Digest
from fedloom.versions import objects, tombstones
from fedloom.versions.content import Content
from fedloom.versions.history import Read
from fedloom.versions.objects import Commit, Kind
from fedloom.versions.remotes.closure import Named, Reader, Trees, below, named

ERASABLE = ("tensor", "blob")
"""Kinds of which a tombstone can take the place below a commit; without its trees, nothing of it can be checked."""

_KINDS = 300_000


class Watch(Protocol):
    """Somebody who watches a transfer."""

    def __call__(self, done: int, total: int, bytes_moved: int) -> None:
        """Hear that so many objects of so many have been moved."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """How to transfer.

    only: which tensors (globs; empty for all). materialized: whether to compute those a recipe stands for. again:
    whether commits that are here are gone through for what is not. name: whose word the tombstones are that arrive.
    """

    only: tuple[str, ...] = ()
    materialized: bool = False
    again: bool = False
    name: str = "a remote"


@dataclass(frozen=True, slots=True)
class Moved:
    """What a transfer did.

    objects, bytes: what went over the wire. raw: the size of everything in the commits that moved, as if it had all
    been sent uncompressed. commits: those the receiving side now has. held_back: commits that it does not have,
    since `only` left out tensors that are not there.
    """

    objects: int = 0
    bytes: int = 0
    raw: int = 0
    commits: tuple[Digest, ...] = ()
    held_back: tuple[Digest, ...] = ()


@dataclass(slots=True)
class Step:
    """One commit to transfer: what of it the receiving side lacks, each with an earlier version that it has.

    left_out: how many tensors it lacks as well, which were not asked for. new: whether it lacks the commit itself.
    """

    id: Digest
    items: list[tuple[Named, Digest | None]] = field(default_factory=list)
    left_out: int = 0
    new: bool = True


class Sizes:
    """Canonical sizes of objects: those seen on their way are known, others are read here when they are asked for."""

    def __init__(self, local: Content) -> None:
        self._local = local
        self._known: dict[Digest, int] = {}

    def note(self, id_: Digest, size: int) -> None:
        """Remember a size."""
        self._known[id_] = size

    def total(self, names: Iterable[Named]) -> int:
        """Sum the sizes of what a commit names, each object once; what is not here counts nothing."""
        return sum(self._size(id_) for id_ in {found.id for found in names})

    def _size(self, id_: Digest) -> int:
        if id_ not in self._known:
            self._known[id_] = len(self._local.database.get(id_)) if self._local.has(id_) else 0
        return self._known[id_]


class Kinds:
    """What kinds objects here are: those seen on their way are known, others are read once."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._known: dict[Digest, Kind] = {}

    def note(self, id_: Digest, kind: Kind) -> None:
        """Remember a kind, of some hundred thousand objects at most."""
        if len(self._known) >= _KINDS:
            self._known.clear()
        self._known[id_] = kind

    def require(
        self, id_: Digest, commit: Commit, names: Iterable[Named], before: Collection[tuple[Digest, Kind]]
    ) -> None:
        """Raise CorruptObjectError where a commit takes something here for what it is not; `before` is known well."""
        for parent in commit.parents:
            self._require(id_, Named("a parent", "commit", parent, "needed"))
        for found in names:
            if (found.id, found.kind) not in before and self._content.has(found.id):
                self._require(id_, found)

    def _require(self, id_: Digest, found: Named) -> None:
        kind = self._known.get(found.id) or objects.kind_of(self._content.database.get(found.id))
        self.note(found.id, kind)
        if kind != found.kind:
            told = f"commit {id_[:12]} names {found.id[:12]} as {found.path or 'its tree'}, and it is a {kind}"
            raise CorruptObjectError(f"{told}: the commit was forged, or badly made")


def named_by_parents(commit: Commit, read: Read, reader: Reader) -> set[tuple[Digest, Kind]]:
    """List what the parents of a commit name, with its kinds: it was held to them when they arrived."""
    return {(found.id, found.kind) for parent in commit.parents for found in named(read(parent), reader)}


def reader_of(content: Content) -> Trees:
    """Read trees and conflicts of a repository, where it has them."""
    return Trees(content.tree, content.conflict, content.has)


def tensors_before(id_: Digest, read: Read, reader: Reader) -> Mapping[str, Digest]:
    """Find the tensors of a commit's first parent by their paths: what this commit's are differences to."""
    parents = read(id_).parents
    return (
        {found.path: found.id for found in named(read(parents[0]), reader) if found.kind == "tensor"} if parents else {}
    )


def is_kept(content: Content, found: Named) -> bool:
    """Whether an object is here, or may be absent since it was erased, as tensors and blobs can be."""
    return content.has(found.id) or (found.kind in ERASABLE and content.store.exists(tombstones.path(found.id)))


def apart_from_parents(content: Content, commits: Iterable[Digest], read: Read) -> Iterator[Digest]:
    """List what the recipes of commits read that neither their trees nor their parents lead to: commits, if at all."""
    reader = reader_of(content)
    for id_ in commits:
        commit = read(id_)
        if commit.recipe is not None:
            known = {found.id for found in below(commit, reader)} | set(commit.parents)
            yield from (part.id for part in commit.recipe.inputs if part.id not in known)
