"""Renamed entries of a merge: the same bytes under a new name, or a new name that was told.

Rules: a rename is seen only where it is the one explanation: one name of the base is gone from a head, and one new
name there has its bytes. Of several alike (all-zero biases) none is: that is a delete and an add, so whatever another
head did to them becomes a conflict, never a silent loss. A rename stays inside its part of the commit (`model/`), and
counts as a change: renamed by one and deleted by another is a clash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fedloom.versions.objects import Entry


@dataclass(frozen=True, slots=True)
class RenameClash:
    """A name that the heads moved differently, or to where something else already is: a conflict `rename`.

    base: the entry under its old name. heads: it in each head, wherever it is; None where it is gone.
    names: where it is in each head.
    """

    base: Entry
    heads: tuple[Entry | None, ...]
    names: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Aligned:
    """Base and heads with every agreed rename made in all of them, so that each name can be decided on its own.

    renamed: old name to new. clashes: by old name; their entries are in neither base nor heads.
    """

    base: Mapping[str, Entry]
    heads: tuple[Mapping[str, Entry], ...]
    renamed: Mapping[str, str]
    clashes: Mapping[str, RenameClash]


def align(
    base: Mapping[str, Entry],
    heads: Sequence[Mapping[str, Entry]],
    told: Sequence[Mapping[str, str]] | None = None,
) -> Aligned:
    """Bring names together; `told` gives, of each head, renames (old to new) that its bytes do not show."""
    moves = [renamed(base, head, told[n] if told else {}) for n, head in enumerate(heads)]
    targets = {old: {move[old] for move in moves if old in move} for old in {old for move in moves for old in move}}
    claims = Counter(new for chosen in targets.values() for new in chosen)
    agreed: dict[str, str] = {}
    clashes: dict[str, RenameClash] = {}
    for old, (target, *others) in sorted((old, sorted(chosen)) for old, chosen in targets.items()):
        names = tuple(move.get(old, old if old in head else None) for move, head in zip(moves, heads, strict=True))
        taken = any(target in head and name != target for name, head in zip(names, heads, strict=True))
        if others or taken or claims[target] > 1 or None in names:
            found = tuple(None if name is None else head[name] for name, head in zip(names, heads, strict=True))
            clashes[old] = RenameClash(base[old], found, names)
        else:
            agreed[old] = target
    return Aligned(
        _moved(base, {}, agreed, clashes),
        tuple(_moved(head, move, agreed, clashes) for head, move in zip(heads, moves, strict=True)),
        agreed,
        clashes,
    )


def renamed(
    base: Mapping[str, Entry], head: Mapping[str, Entry], told: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Find what a head renamed: old name to new; what was told comes first."""
    added, gone = {*head} - {*base}, {*base} - {*head}
    moves = {old: new for old, new in (told or {}).items() if old in gone and new in added}
    sources, targets = _by_bytes(base, gone - {*moves}), _by_bytes(head, added - {*moves.values()})
    pairs = [(names, targets[key]) for key, names in sources.items() if key in targets]
    return moves | {old[0]: new[0] for old, new in pairs if len(old) == len(new) == 1}


def _by_bytes(entries: Mapping[str, Entry], names: Iterable[str]) -> dict[tuple[str, str], list[str]]:
    """List names by what they name; the model's and the optimizer's are kept apart."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in names:
        found.setdefault((name.partition("/")[0] if "/" in name else "", entries[name].id), []).append(name)
    return found


def _moved(
    entries: Mapping[str, Entry], own: Mapping[str, str], agreed: Mapping[str, str], clashes: Mapping[str, RenameClash]
) -> dict[str, Entry]:
    """Put entries under the agreed names, and leave out what clashes, under its old name and under the head's own."""
    without = {*clashes, *(new for old, new in own.items() if old in clashes)}
    return {agreed.get(name, name): entry for name, entry in entries.items() if name not in without}
