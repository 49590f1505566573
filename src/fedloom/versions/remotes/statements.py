"""Statements about commits (attestations) between repositories: signatures, evaluations, verdicts of a gate.

Rules: a statement travels once the commit it is about is on both sides. What a side last had in common with a remote
is remembered, so it is known which of two different statements is the later; where both sides stated something new,
each keeps its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fedloom.errors import ConflictError, NotFoundError, VersionsError
from fedloom.values import Digest
from fedloom.versions.content import Content
from fedloom.versions.history import ancestors
from fedloom.versions.remotes.abreast import abreast
from fedloom.versions.remotes.guard import ATTESTATIONS, require_statement
from fedloom.versions.remotes.remote import Parcel, Remote, Want, opened, refs_below
from fedloom.versions.remotes.tracking import SEEN, set_ref

_ASKED_ONE_BY_ONE = 8
_NAME = re.compile(rf"{ATTESTATIONS}[0-9a-f]{{64}}/.+")


@dataclass(frozen=True, slots=True)
class Stated:
    """How many statements moved, and which could not."""

    objects: int = 0
    notes: tuple[str, ...] = ()


def bring(content: Content, remote: Remote, name: str) -> Stated:
    """Bring the statements of a remote about commits that are here."""
    there = {ref: target for ref, target in refs_below(remote, ATTESTATIONS).items() if _is_statement(ref)}
    last = {ref: content.refs.get(_seen(name, ref)) for ref in there}
    news = {ref: target for ref, target in there.items() if last[ref] != target and content.has(_subject(ref))}
    ours = {ref: content.refs.get(ref) for ref in news}
    before = {target for target in news.values() if content.has(target)}
    taken = {ref: target for ref, target in news.items() if ours[ref] in (None, last[ref], target)}
    erased = _fetch(content, remote, taken.values())
    refused = []
    for ref, target in taken.items():
        if target in erased:
            continue
        try:
            require_statement(content, ref, target)
        except VersionsError as error:
            refused.append(f"a statement of {name} was left there: {error}")
            continue
        set_ref(content, ref, target, f"stated at {name}")
        set_ref(content, _seen(name, ref), target, f"seen at {name}")
    arrived = len(set(taken.values()) - before)
    return Stated(arrived - len(erased), (*_notes(name, news.keys() - taken.keys()), *refused))


def send(content: Content, remote: Remote, name: str, tips: Iterable[Digest]) -> Stated:
    """Send the statements of this side about commits that some tips reach."""
    ours = {ref: content.refs.get(ref) for ref in content.refs.names(ATTESTATIONS)}
    last = {ref: content.refs.get(_seen(name, ref)) for ref in ours}
    news = {ref: target for ref, target in ours.items() if target is not None and target != last[ref]}
    if not news:
        return Stated()
    reached = {id_ for id_, _ in ancestors(list(tips), content.commit)}
    news = {ref: target for ref, target in news.items() if _subject(ref) in reached}
    there = _stated_there(remote, news)
    known = {ref for ref, target in news.items() if there.get(ref) == target}
    due = {ref: target for ref, target in news.items() if there.get(ref) in (None, last[ref])}
    remote.put(Parcel(id_, content.database.get(id_)) for id_ in sorted(set(due.values())))

    def is_moved(ref: str) -> bool:
        try:
            remote.move(ref, there.get(ref), due[ref], "push")
        except ConflictError:
            return False
        return True

    moved = {ref for ref, done in zip(due, abreast(is_moved, due), strict=True) if done}
    for ref in known | moved:
        set_ref(content, _seen(name, ref), news[ref], f"pushed to {name}")
    return Stated(len(moved), _notes(name, news.keys() - known - moved))


def _stated_there(remote: Remote, news: Iterable[str]) -> Mapping[str, Digest]:
    """Find where the remote's statements are: about few commits one by one, about many all at once."""
    folders = sorted({f"{ATTESTATIONS}{_subject(ref)}/" for ref in news})
    asked = folders if len(folders) <= _ASKED_ONE_BY_ONE else [ATTESTATIONS]
    return {ref: target for folder in asked for ref, target in refs_below(remote, folder).items()}


def _fetch(content: Content, remote: Remote, ids: Iterable[Digest]) -> set[Digest]:
    """Bring statements; gives those that were erased there."""
    erased: set[Digest] = set()
    absent = sorted(id_ for id_ in set(ids) if not content.has(id_))
    for parcel in remote.get([Want(id_) for id_ in absent]):
        if parcel.erased:
            erased.add(parcel.id)
        else:
            content.database.put(opened(parcel))
    content.database.flush()
    if lost := [id_ for id_ in absent if id_ not in erased and not content.has(id_)]:
        raise NotFoundError(f"the remote has not got statement {lost[0][:12]} that it names: see `fedloom fsck` there")
    return erased


def _seen(name: str, ref: str) -> str:
    """Name the ref that remembers the statement both sides had last."""
    return f"{SEEN}{name}/{ref}"


def _is_statement(ref: str) -> bool:
    """Whether a name that a remote gives is one of a statement about a commit."""
    return _NAME.fullmatch(ref) is not None


def _subject(ref: str) -> Digest:
    return Digest(ref.split("/")[1])


def _notes(name: str, refs: Iterable[str]) -> tuple[str, ...]:
    """Say which statements differ on both sides and stay as they are."""
    told = [(ref.split("/", 2)[2], _subject(ref)[:12]) for ref in sorted(refs)]
    return tuple(
        f"'{type_}' about {subject} differs here and at {name}: each side keeps its own" for type_, subject in told
    )
