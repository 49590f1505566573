"""What differs between two commits: every entry of their trees, settings by key, facts, and tensors if asked.

Rules: an entry has changed when its id has. A rename is told only where it is the one explanation (as in a merge).
Receipts are left out, for those of two rounds are never alike; who took part is among the facts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from difflib import unified_diff
from typing import Any, Literal, get_args

from fedloom.values import Digest, Tensor
from fedloom.versions.content import Content
from fedloom.versions.merging.renames import renamed
from fedloom.versions.objects import PARTS, Commit, Entry
from fedloom.versions.tensor_change import TensorChange, measure

Change = Literal["same", "changed", "added", "removed", "renamed", "conflict"]

_WITHOUT = ("receipts",)
_NAMES = ("site", "name")
"""Keys by which the dictionaries of a list are told apart, where all have it."""


@dataclass(frozen=True, slots=True)
class ValueChange:
    """One setting or figure that differs: its dotted key; the side that lacks it holds None."""

    key: str
    change: Change
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class EntryChange:
    """One entry of the tree, under its path in the newer commit (or the older one, if it was removed).

    was: its old path, where it was renamed. problem: why a merge left it open, where it is a conflict.
    values: differences by key, where both sides are JSON. lines: those of a text, each after a minus or a plus.
    """

    path: str
    change: Change
    old: Entry | None
    new: Entry | None
    was: str = ""
    problem: str = ""
    values: tuple[ValueChange, ...] = ()
    lines: tuple[str, ...] = ()
    tensor: TensorChange | None = None


@dataclass(frozen=True, slots=True)
class Diff:
    """All that differs from commit `old` to commit `new`: entries sorted by path (equal ones too), and facts by key."""

    old: Digest
    new: Digest
    entries: tuple[EntryChange, ...]
    facts: tuple[ValueChange, ...]

    @property
    def differs(self) -> bool:
        """Whether anything is not the same."""
        return bool(self.facts) or any(entry.change != "same" for entry in self.entries)

    def counts(self) -> dict[str, dict[Change, int]]:
        """Count the entries of each part (`model`, `inputs`) by what became of them."""
        parts: dict[str, Counter[Change]] = {}
        for entry in self.entries:
            parts.setdefault(entry.path.partition("/")[0], Counter())[entry.change] += 1
        return {
            part: {change: found[change] for change in get_args(Change) if found[change]}
            for part, found in parts.items()
        }

    def as_json(self) -> dict[str, Any]:
        """Turn into plain JSON."""
        return {**asdict(self), "differs": self.differs, "counts": self.counts()}


def diff(content: Content, old: Digest, new: Digest, *, tensors: bool = False) -> Diff:
    """Compare two commits; with `tensors`, the numbers of those that changed too, computed by recipe where need be."""
    reader = _Tensors(content, old, new)
    sides = [_leaves(content, commit) for commit in (old, new)]
    entries = [_with_details(content, entry) for entry in _entries(*sides)]
    if tensors:
        entries = [reader.with_numbers(entry) for entry in entries]
    facts = tuple(values_changed(*(_facts(content.commit(commit)) for commit in (old, new))))
    return Diff(old, new, tuple(entries), facts)


def values_changed(old: Any, new: Any) -> Iterator[ValueChange]:
    """Compare two JSON values key by key; lists of named things by name, other lists as a whole."""
    before, after = dict(_flat("", old)), dict(_flat("", new))
    for key in sorted({*before, *after}):
        if key not in before:
            yield ValueChange(key, "added", None, after[key])
        elif key not in after:
            yield ValueChange(key, "removed", before[key], None)
        elif not _alike(before[key], after[key]):
            yield ValueChange(key, "changed", before[key], after[key])


def _entries(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> list[EntryChange]:
    moves = _moves(old, new)
    sources = {target: source for source, target in moves.items()}
    found = [_entry(path, old.get(sources.get(path, path)), new[path], sources.get(path, "")) for path in new]
    gone = [EntryChange(path, "removed", old[path], None) for path in old if path not in new and path not in moves]
    return sorted([*found, *gone], key=lambda entry: entry.path)


def _entry(path: str, old: Entry | None, new: Entry, was: str) -> EntryChange:
    change: Change = "renamed" if was else "added" if old is None else "same" if old.id == new.id else "changed"
    return EntryChange(path, "conflict" if new.kind == "conflict" else change, old, new, was)


def _moves(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> dict[str, str]:
    """Find the renames within each part of the tree."""
    moves: dict[str, str] = {}
    for part in {path.partition("/")[0] for path in (*old, *new)}:
        before, after = ({p: e for p, e in side.items() if p.partition("/")[0] == part} for side in (old, new))
        moves |= renamed(before, after)
    return moves


def _leaves(content: Content, commit: Digest) -> dict[str, Entry]:
    parts = content.tree(content.commit(commit).tree)
    return dict(_below(content, "", {name: entry for name, entry in parts.items() if name not in _WITHOUT}))


def _below(content: Content, prefix: str, entries: Mapping[str, Entry]) -> Iterator[tuple[str, Entry]]:
    for name, entry in entries.items():
        if entry.kind == "tree" and entry.keep == "stored":
            yield from _below(content, f"{prefix}{name}/", content.tree(entry.id))
        else:
            yield prefix + name, entry


def _with_details(content: Content, entry: EntryChange) -> EntryChange:
    """Look into blobs and conflicts."""
    old, new = entry.old, entry.new
    if new is not None and new.kind == "conflict":
        return replace(entry, problem=content.conflict(new.id).problem)
    if entry.change != "changed" or old is None or new is None or (old.kind, new.kind) != ("blob", "blob"):
        return entry
    if not (content.has(old.id) and content.has(new.id)):
        return entry
    before, after = content.blob(old.id), content.blob(new.id)
    try:
        return replace(entry, values=tuple(values_changed(json.loads(before), json.loads(after))))
    except ValueError:
        return replace(entry, lines=tuple(_lines(before, after)))


def _lines(old: bytes, new: bytes) -> Iterator[str]:
    """Compare two texts line by line; bytes that are no text have none."""
    try:
        before, after = old.decode().splitlines(), new.decode().splitlines()
    except UnicodeDecodeError:
        return
    changes = unified_diff(before, after, n=0, lineterm="")
    yield from (line for line in list(changes)[2:] if not line.startswith("@@"))


def _facts(commit: Commit) -> dict[str, Any]:
    recipe = {"recipe": commit.recipe.algorithm} if commit.recipe else {}
    return {"kind": commit.kind, **commit.facts, **recipe}


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    parts = _named(value)
    if not parts and (key or value not in ({}, [])):  # nothing at all has no keys
        yield key, value
    for name, part in parts.items():
        yield from _flat(f"{key}.{name}" if key else name, part)


def _named(value: Any) -> Mapping[str, Any]:
    """Give the parts of a dictionary, or of a list of things with a name of their own; {} for anything else."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, list) or not value or not all(isinstance(part, dict) for part in value):
        return {}
    for label in _NAMES:
        names = [part.get(label) for part in value]
        if all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
            return {part[label]: {k: v for k, v in part.items() if k != label} for part in value}
    return {}


def _alike(old: Any, new: Any) -> bool:
    """Compare JSON, where true is not 1."""
    return json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)


class _Tensors:
    """Reads the tensors of both commits, computing a part by its recipe once where its tensors are not stored."""

    def __init__(self, content: Content, old: Digest, new: Digest) -> None:
        self._content = content
        self._commits = (old, new)
        self._computed: dict[tuple[Digest, str], Mapping[str, Tensor]] = {}

    def with_numbers(self, entry: EntryChange) -> EntryChange:
        """Measure an entry that holds a tensor on both sides; one whose bytes nobody here can have stays as it is."""
        old, new = entry.old, entry.new
        if entry.change != "changed" or old is None or new is None or (old.kind, new.kind) != ("tensor", "tensor"):
            return entry
        sides = [self._read(c, entry.path, e) for c, e in zip(self._commits, (old, new), strict=True)]
        if sides[0] is None or sides[1] is None:
            return entry
        return replace(entry, tensor=measure(sides[0], sides[1]))

    def _read(self, commit: Digest, path: str, entry: Entry) -> Tensor | None:
        if self._content.has(entry.id):
            return self._content.tensor(entry.id)
        part, _, name = path.partition("/")
        if part not in PARTS or entry.keep != "stored":
            return None
        if (commit, part) not in self._computed:
            self._computed[commit, part] = self._content.part_tensors(commit, part)
        return self._computed[commit, part][name]
