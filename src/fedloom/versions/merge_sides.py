"""A side of a merge: everything one commit consists of, laid flat as path → entry, and back into trees.

Rules: receipts and statistics speak about one model, so no merge has them. Trees whose bytes are elsewhere are
entries like any other. A folder without entries is kept as such.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fedloom.errors import VersionsError
from fedloom.values import Digest, Tensor
from fedloom.versions.objects import Commit, Entry

DROPPED = ("receipts", "statistics")

Names = tuple[str, ...]


class Reader(Protocol):
    """Where the sides of a merge are read."""

    def commit(self, id_: Digest) -> Commit:
        """Read a commit."""
        ...

    def tree(self, id_: Digest) -> Mapping[str, Entry]:
        """Read a tree's entries."""
        ...

    def tensor(self, id_: Digest) -> Tensor:
        """Read one tensor."""
        ...

    def blob(self, id_: Digest) -> bytes:
        """Read a blob."""
        ...


@dataclass(frozen=True, slots=True)
class Side:
    """One commit, flat.

    entries: path, such as `model/head.weight`, to entry. names: the same paths in their parts; a name may hold a `/`.
    statistics: what a strategy may need, as `fisher/NAME` to entry. facts: what the commit tells.
    """

    entries: Mapping[str, Entry] = field(default_factory=dict)
    names: Mapping[str, Names] = field(default_factory=dict)
    statistics: Mapping[str, Entry] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


EMPTY = Side()
"""What histories without a common commit have in common."""


def side_of(reader: Reader, commit: Digest) -> Side:
    """Lay a commit flat."""
    read = reader.commit(commit)
    parts = reader.tree(read.tree)
    kept = {name: entry for name, entry in parts.items() if name not in DROPPED}
    entries, names = flat(reader, kept)
    return Side(entries, names, _statistics(reader, parts.get("statistics")), read.facts)


def flat(reader: Reader, parts: Mapping[str, Entry]) -> tuple[dict[str, Entry], dict[str, Names]]:
    """Lay trees flat; raises VersionsError where two entries have one path."""
    entries: dict[str, Entry] = {}
    names: dict[str, Names] = {}
    for parted, entry in _leaves(reader, (), parts):
        path = "/".join(parted)
        if path in entries:
            raise VersionsError(f"a commit holds '{path}' twice, as a name and as a folder: rename one of them")
        entries[path], names[path] = entry, parted
    return entries, names


def stacked(
    entries: Mapping[str, Entry], names: Mapping[str, Names], add_tree: Callable[[Mapping[str, Entry]], Entry]
) -> Entry:
    """Put flat entries back into trees, the innermost first; raises VersionsError where a folder stands on an entry."""
    root: dict[str, Any] = {}
    for path, entry in entries.items():
        *folders, last = names[path]
        place = root
        for folder in folders:
            below = place.setdefault(folder, {})
            place = below if isinstance(below, dict) else _refuse(path)
        if last not in place:
            place[last] = entry
        elif not _is_folder(place[last]) or not _is_folder(entry):
            _refuse(path)
    return _stored(root, add_tree)


def _is_folder(found: Entry | dict[str, Any]) -> bool:
    return isinstance(found, dict) or found.kind == "tree"


def _refuse(path: str) -> dict[str, Any]:
    raise VersionsError(f"'{path}' is a folder in one branch and none in another: rename it before you merge")


def _stored(place: Mapping[str, Any], add_tree: Callable[[Mapping[str, Entry]], Entry]) -> Entry:
    found = {name: _stored(one, add_tree) if isinstance(one, dict) else one for name, one in place.items()}
    return add_tree(found)


def _leaves(reader: Reader, above: Names, entries: Mapping[str, Entry]) -> Iterator[tuple[Names, Entry]]:
    for name, entry in entries.items():
        below = reader.tree(entry.id) if entry.kind == "tree" and entry.keep == "stored" else {}
        if below:
            yield from _leaves(reader, (*above, name), below)
        else:
            yield (*above, name), entry


def _statistics(reader: Reader, entry: Entry | None) -> dict[str, Entry]:
    kinds = reader.tree(entry.id) if entry else {}
    return {f"{kind}/{name}": found for kind, tree in kinds.items() for name, found in reader.tree(tree.id).items()}


def all_names(sides: Iterable[Side]) -> dict[str, Names]:
    """Collect how paths are parted; raises VersionsError where two sides part one path differently."""
    known: dict[str, Names] = {}
    for side in sides:
        for path, parted in side.names.items():
            if known.setdefault(path, parted) != parted:
                raise VersionsError(f"'{path}' is a name in one branch and a folder in another: rename one of them")
    return known
