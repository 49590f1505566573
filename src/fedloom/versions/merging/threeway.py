"""The decision of a merge about one named entry, by ids alone: what the base has, and what each head has.

Rules: a head that has what the base has changes nothing, so it has no say. Nothing is deleted silently that another
head has changed. The order of the heads does not matter, but for which of several equal entries is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fedloom.versions.objects import Entry

Spec: TypeAlias = tuple[str, tuple[int, ...]]
"""Element type and shape of a tensor."""

Look: TypeAlias = Callable[[Entry], Spec | None]
"""Gives dtype and shape of an entry; None for what is no tensor here: a blob, a promise, a commitment."""

Settled = Literal["unchanged", "take", "same", "delete"]
Problem = Literal["contested", "dtype", "shape", "opaque", "add_add", "delete_modify"]

_KEEPS = ("stored", "promised", "opaque")


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one entry.

    outcome: `unchanged`: the base's; `take`: one head changed it; `same`: several changed it alike; `delete`; or a
    problem: `contested` (changed differently, same dtype and shape), `dtype`, `shape`, `opaque` (a version is no
    tensor here), `add_add` (added differently), `delete_modify`.
    take: the head whose entry it becomes; None where it stays the base's, is deleted, or is a problem.
    changed: the heads that differ from the base; only they take part in a strategy.
    mergeable: whether all their versions, and the base's if there is one, are tensors of one dtype and shape.
    """

    outcome: Settled | Problem
    take: int | None = None
    changed: tuple[int, ...] = ()
    mergeable: bool = False

    @property
    def settled(self) -> bool:
        """Whether it needs neither strategy nor person."""
        return self.outcome in ("unchanged", "take", "same", "delete")

    def entry(self, base: Entry | None, heads: Sequence[Entry | None]) -> Entry | None:
        """What a settled entry becomes; None where it is deleted."""
        assert self.settled, "a problem has no entry yet"
        return heads[self.take] if self.take is not None else base if self.outcome == "unchanged" else None


def decide(base: Entry | None, heads: Sequence[Entry | None], look: Look) -> Decision:
    """Decide about one entry that the base has, or not (None), and each of the heads has, or not."""
    changed = tuple(n for n, head in enumerate(heads) if _id(head) != _id(base))
    versions = {_id(heads[n]) for n in changed}
    present = [n for n in changed if heads[n] is not None]
    if not changed:
        return Decision("unchanged")
    if not present:
        return Decision("delete", changed=changed)
    if len(versions) == 1:
        take = min(present, key=lambda n: _keep(heads[n]))
        return Decision("take" if len(changed) == 1 else "same", take, changed)
    if len(present) < len(changed):
        return Decision("delete_modify", changed=changed)
    return _contest(base, [entry for n in changed if (entry := heads[n]) is not None], changed, look)


def decisions(
    base: Mapping[str, Entry], heads: Sequence[Mapping[str, Entry]], look: Look
) -> Iterator[tuple[str, Decision]]:
    """Decide about every name of the base and of the heads, in the order of the names; see `renames` for moved ones."""
    for name in sorted({*base, *(name for head in heads for name in head)}):
        yield name, decide(base.get(name), [head.get(name) for head in heads], look)


def _contest(base: Entry | None, versions: Sequence[Entry], changed: tuple[int, ...], look: Look) -> Decision:
    specs = [look(entry) for entry in (*versions, *([] if base is None else [base]))]
    known = [spec for spec in specs if spec is not None]
    mergeable = len(known) == len(specs) and len(set(known)) == 1
    if base is None:
        return Decision("add_add", changed=changed, mergeable=mergeable)
    if len(known) < len(specs):
        return Decision("opaque", changed=changed)
    if len({dtype for dtype, _ in known}) > 1:
        return Decision("dtype", changed=changed)
    return Decision("contested" if mergeable else "shape", changed=changed, mergeable=mergeable)


def _id(entry: Entry | None) -> str | None:
    return None if entry is None else entry.id


def _keep(entry: Entry | None) -> int:
    return len(_KEEPS) if entry is None else _KEEPS.index(entry.keep)
