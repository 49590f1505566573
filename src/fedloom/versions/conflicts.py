"""Conflicts: what a merge could not decide. They stand in a commit's tree, so they travel and wait like anything else.

Rules: a commit is open as long as its tree holds a conflict. Settling one makes a new commit with the same parents,
so a merge is one commit in the history however often it was worked on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fedloom.errors import ConflictError
from fedloom.values import Digest
from fedloom.versions.content import Content
from fedloom.versions.objects import Conflict, Entry

_WITHOUT = ("receipts",)
_NAMED = 3


def open_conflicts(content: Content, commit: Digest) -> dict[str, Conflict]:
    """List the conflicts of a commit by their path, sorted."""
    found = {path: content.conflict(entry.id) for path, entry in _conflicts(content, commit)}
    return dict(sorted(found.items()))


def require_clean(content: Content, commit: Digest) -> None:
    """Raise ConflictError when a commit has open conflicts: no protected ref may point to it, and nothing build on it."""
    paths = sorted(path for path, _ in _conflicts(content, commit))
    if not paths:
        return
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    raise ConflictError(
        f"commit {commit[:12]} has open conflicts at {', '.join(paths[:_NAMED])}{more}: "
        f"list them with `fedloom conflicts {commit[:12]}`, settle them with `fedloom resolve`"
    )


def _conflicts(content: Content, commit: Digest) -> Iterator[tuple[str, Entry]]:
    parts = content.tree(content.commit(commit).tree)
    yield from _below(content, "", {name: entry for name, entry in parts.items() if name not in _WITHOUT})


def _below(content: Content, prefix: str, entries: Mapping[str, Entry]) -> Iterator[tuple[str, Entry]]:
    for name, entry in entries.items():
        if entry.kind == "conflict":
            yield prefix + name, entry
        elif entry.kind == "tree" and entry.keep == "stored":
            yield from _below(content, f"{prefix}{name}/", content.tree(entry.id))
