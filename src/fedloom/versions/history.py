"""History, pure: walking commits from a tip to its roots."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fedloom.values import Digest
from fedloom.versions.objects import Commit


def first_parents(tip: Digest, read: Callable[[Digest], Commit]) -> Iterator[tuple[Digest, Commit]]:
    """Walk from `tip` along first parents: for a run, its rounds from the last to the first."""
    at: Digest | None = tip
    while at:
        commit = read(at)
        yield at, commit
        at = commit.parents[0] if commit.parents else None
