"""What may move a ref of a repository from outside: the one hook between a transfer and what a hub allows."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from fedloom.errors import ConflictError, VersionsError
from fedloom.values import Digest
from fedloom.versions import dsse, objects, signing
from fedloom.versions.content import Content
from fedloom.versions.history import is_ancestor
from fedloom.versions.objects import Attestation
from fedloom.versions.protection import is_vouched, require_allowed

HEADS, TAGS, ATTESTATIONS = "heads/", "tags/", "attestations/"
MERGING = "merging/"
"""Merges under way: pushed, so that somebody else can settle their conflicts; each work on them is a new commit."""

_SIGNATURE = f"{signing.TYPE}/"
_ID = re.compile(r"[0-9a-f]{64}")

Guard: TypeAlias = Callable[[Content, str, Digest | None, Digest], None]
"""Raises where a repository may not move a ref (its name, from where, to where)."""


def require_movable(content: Content, name: str, old: Digest | None, new: Digest, *, signed: bool = False) -> None:
    """Raise ConflictError or GateError where a ref may not move so; what it is to point to must be there already.

    signed: whether a protected ref takes a gate's word only about commits that somebody trusted signed.
    """
    if name.startswith(ATTESTATIONS):
        require_statement(content, name, new)
        return
    if not name.startswith((HEADS, TAGS, MERGING)):
        raise VersionsError(f"'{name}' cannot be moved from outside: push branches (heads/) and tags (tags/)")
    _require_kind(content, new, "commit")
    if name.startswith(TAGS) and old is not None:
        raise ConflictError(f"{name} is there already and points elsewhere: choose another name, tags do not move")
    if name.startswith(HEADS):
        if old is not None and not is_ancestor(old, new, content.commit):
            raise ConflictError(f"{name} has commits there that {new[:12]} does not build on: {merge_first()}")
        require_allowed(content, name, new, old, signed=signed)


def require_pushable(content: Content, name: str, old: Digest | None, new: Digest) -> None:
    """Raise where a hub may not move a ref for a client, who may be anybody with the token.

    What a client states counts for a protected ref, and replaces what was stated before, only about a commit that
    somebody trusted by the hub signed.
    """
    require_movable(content, name, old, new, signed=True)
    if not name.startswith(ATTESTATIONS) or old in (None, new):
        return
    subject, type_ = _parts(name)
    if not type_.startswith(_SIGNATURE) and not is_vouched(content, subject):
        told = f"'{type_}' about {subject[:12]} is stated there already, and nobody trusted there signed that commit"
        raise ConflictError(f"{told}: each side keeps its own")


def merge_first() -> str:
    """Say what to do when two histories have gone apart."""
    return "fetch, merge them with `fedloom merge`, then push"


def require_statement(content: Content, name: str, new: Digest) -> None:
    """Raise where a statement from elsewhere may not be filed as `name`: it must be about that commit, which is here.

    A signature must hold where its key is trusted here, and have its form where it is not. One that is here already is
    replaced only where it is none.
    """
    _require_kind(content, new, "attestation")
    subject, type_ = _parts(name)
    _require_kind(content, subject, "commit")
    statement = objects.decode_attestation(content.database.get(new))
    if (statement.subject, statement.type) != (subject, type_):
        raise VersionsError(f"{new[:12]} is no statement of the kind that {name} is for")
    if not type_.startswith(_SIGNATURE):
        return
    if problem := _problem(content, statement):
        raise VersionsError(f"the signature {new[:12]} of {subject[:12]} is not taken: {problem}")
    kept = content.filed(subject, type_)
    if kept not in (None, statement) and not _problem(content, kept):
        raise ConflictError(f"{subject[:12]} has a signature by this key already: it is not replaced")


def _problem(content: Content, kept: Attestation) -> str:
    """Say why a kept signature is none, as far as can be told here, or nothing."""
    key = kept.type.removeprefix(_SIGNATURE)
    for public in signing.trusted(content).values():
        if public.id == key:
            return signing.problem_of(kept, kept.subject, content.commit(kept.subject), public)
    try:
        envelope = dsse.read_envelope(kept.body)
    except ValueError as error:
        return str(error)
    return "" if envelope.payload_type == dsse.IN_TOTO else "its payload is of an unknown kind"


def _parts(name: str) -> tuple[Digest, str]:
    """Split a statement's ref into the commit it is about and its type; raises VersionsError."""
    subject, _, type_ = name.removeprefix(ATTESTATIONS).partition("/")
    if not _ID.fullmatch(subject) or not type_:
        raise VersionsError(f"'{name}' is no statement's name: it is {ATTESTATIONS}COMMIT/TYPE")
    return Digest(subject), type_


def _require_kind(content: Content, id_: Digest, kind: objects.Kind) -> None:
    if not content.has(id_) or objects.kind_of(content.database.get(id_)) != kind:
        raise VersionsError(f"{id_[:12]} is no {kind} that is here: push it before a ref points to it")
