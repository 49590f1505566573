"""What may move a ref of a repository from outside: the one hook between a transfer and what a hub allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from fedloom.errors import ConflictError, VersionsError
from fedloom.values import Digest
from fedloom.versions import objects
from fedloom.versions.content import Content
from fedloom.versions.history import is_ancestor
from fedloom.versions.protection import require_allowed

HEADS, TAGS, ATTESTATIONS = "heads/", "tags/", "attestations/"
MERGING = "merging/"
"""Merges under way: pushed, so that somebody else can settle their conflicts; each work on them is a new commit."""

Guard: TypeAlias = Callable[[Content, str, Digest | None, Digest], None]
"""Raises where a repository may not move a ref (its name, from where, to where)."""


def require_movable(content: Content, name: str, old: Digest | None, new: Digest) -> None:
    """Raise ConflictError or GateError where a ref may not move so; what it is to point to must be there already."""
    if name.startswith(ATTESTATIONS):
        _require_about(content, name, new)
        return
    if not name.startswith((HEADS, TAGS, MERGING)):
        raise VersionsError(f"'{name}' cannot be moved from outside: push branches (heads/) and tags (tags/)")
    _require_kind(content, new, "commit")
    if name.startswith(TAGS) and old is not None:
        raise ConflictError(f"{name} is there already and points elsewhere: choose another name, tags do not move")
    if name.startswith(HEADS):
        if old is not None and not is_ancestor(old, new, content.commit):
            raise ConflictError(f"{name} has commits there that {new[:12]} does not build on: {merge_first()}")
        require_allowed(content, name, new)


def merge_first() -> str:
    """Say what to do when two histories have gone apart."""
    return "fetch, merge them with `fedloom merge`, then push"


def _require_about(content: Content, name: str, new: Digest) -> None:
    _require_kind(content, new, "attestation")
    statement = objects.decode_attestation(content.database.get(new))
    subject, _, type_ = name.removeprefix(ATTESTATIONS).partition("/")
    if (statement.subject, statement.type) != (subject, type_):
        raise VersionsError(f"{new[:12]} is no statement of the kind that {name} is for")


def _require_kind(content: Content, id_: Digest, kind: objects.Kind) -> None:
    if not content.has(id_) or objects.kind_of(content.database.get(id_)) != kind:
        raise VersionsError(f"{id_[:12]} is no {kind} that is here: push it before a ref points to it")
