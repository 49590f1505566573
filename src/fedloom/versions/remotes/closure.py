"""What a commit is made of: everything it names, and what of it must be there for the commit to be whole.

Rules: stored entries must be there; those a recipe computes may be. Promised ones (a site keeps them) and opaque ones
(commitments) are never asked for and never given. A tensor or blob that was erased counts as there by its tombstone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple, Protocol, TypeAlias

from fedloom.values import Digest
from fedloom.versions.objects import PARTS, Commit, Conflict, Entry, Kind

Demand: TypeAlias = Literal["needed", "promised", "opaque", "computed", "side"]
"""Whether what a commit names must be there, or why not: kept by a site, a mere commitment, computed by a recipe, or
named by a conflict, whose sides the commits they came from name as well."""


PRIVATE = ("promised", "opaque")
"""Demands on what never travels, even where its bytes happen to be at hand."""


class Named(NamedTuple):
    """Something a commit names: where (`model/head.weight`), what, and whether it must be there."""

    path: str
    kind: Kind
    id: Digest
    demand: Demand

    @property
    def needed(self) -> bool:
        """Whether the commit is not whole without it."""
        return self.demand == "needed"


class Reader(Protocol):
    """Where trees and conflicts are read; gives None for one that is not at hand."""

    def tree(self, id_: Digest) -> Mapping[str, Entry] | None:
        """Read a tree's entries."""
        ...

    def conflict(self, id_: Digest) -> Conflict | None:
        """Read a conflict."""
        ...


def named(commit: Commit, reader: Reader) -> Iterator[Named]:
    """List everything below a commit that travels, its tree first: not what sites keep, nor mere commitments."""
    return (found for found in below(commit, reader) if found.demand not in PRIVATE)


def below(commit: Commit, reader: Reader) -> Iterator[Named]:
    """List everything below a commit, its tree first; what a tree that is not at hand holds is left out."""
    return under(Entry("tree", commit.tree), reader, made=PARTS if commit.recipe is not None else ())


def under(root: Entry, reader: Reader, *, made: Collection[str] = ()) -> Iterator[Named]:
    """List an entry and everything below it; `made` are the parts whose tensors a recipe computes."""
    stack: list[tuple[str, Entry, Demand]] = [("", root, "needed")]
    while stack:
        path, entry, demand = stack.pop()
        demand = _demand(entry, demand)
        computed = entry.kind == "tensor" and path.split("/", 1)[0] in made
        yield Named(path, entry.kind, entry.id, "computed" if computed and demand == "needed" else demand)
        if entry.kind == "tree":
            held = reader.tree(entry.id) or {}
            stack += [(f"{path}/{name}" if path else name, found, demand) for name, found in held.items()]
        elif entry.kind == "conflict":
            conflict = reader.conflict(entry.id)
            sides = (conflict.base, *conflict.heads) if conflict else ()
            lent: Demand = "side" if demand == "needed" else demand
            stack += [(path, side, lent) for side in sides if side is not None]


def _demand(entry: Entry, above: Demand) -> Demand:
    """Say what holds for an entry, which is never demanded more than what holds it."""
    if "opaque" in (entry.keep, above):
        return "opaque"
    return entry.keep if above == "needed" and entry.keep == "promised" else above


def selected(path: str, only: Collection[str]) -> bool:
    """Whether the tensor at a path is one of those that the globs mean; parts without the model's names always are.

    >>> [selected(p, ["encoder.*"]) for p in ("model/encoder.w", "model/head.w", "optimizer/m/head.w", "inputs/code")]
    [True, False, False, True]
    """
    part, _, name = path.partition("/")
    if not only or part not in (*PARTS, "receipts"):
        return True
    if part != "model":  # `optimizer/m/NAME` holds a moment of NAME, `receipts/SITE/NAME` a site's update of it
        _, below, name = name.partition("/")
        if not below:
            return True
    return any(fnmatchcase(name, glob) for glob in only)


class Trees:
    """Reads trees and conflicts where they are at hand, each once."""

    def __init__(
        self,
        tree: Callable[[Digest], Mapping[str, Entry]],
        conflict: Callable[[Digest], Conflict],
        has: Callable[[Digest], bool],
    ) -> None:
        self._tree, self._conflict, self._has = tree, conflict, has
        self._trees: dict[Digest, Mapping[str, Entry]] = {}

    def tree(self, id_: Digest) -> Mapping[str, Entry] | None:
        """Read a tree's entries."""
        if id_ not in self._trees and self._has(id_):
            self._trees[id_] = self._tree(id_)
        return self._trees.get(id_)

    def conflict(self, id_: Digest) -> Conflict | None:
        """Read a conflict."""
        return self._conflict(id_) if self._has(id_) else None
