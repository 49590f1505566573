"""Refs that remember a remote: where its branches were, and what it stated."""

from __future__ import annotations

from fedloom.errors import ConflictError
from fedloom.values import Digest
from fedloom.versions.content import Content

SEEN = "seen/"
"""Where it is remembered which statements a remote has; apart from its branches, which people list."""


def tracking(remote: str, ref: str) -> str:
    """Name the ref that remembers where a remote's ref was.

    >>> tracking("origin", "heads/main")
    'remotes/origin/heads/main'
    """
    return f"remotes/{remote}/{ref}"


def set_ref(content: Content, name: str, target: Digest | None, why: str) -> None:
    """Point a ref of this side somewhere, whoever else just moved it: the remote is the authority for what it is."""
    while (current := content.refs.get(name)) != target:
        try:
            content.refs.compare_and_set(name, current, target, why)
        except ConflictError:
            continue
