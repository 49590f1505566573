"""Reachability, pure: what a repository's refs lead to, and with what right it is there.

Rules: a ref holds where it points and, for a while, where it pointed before; a commit holds its parents, its tree and
what its recipe reads. What a commit names without demanding it (promised, opaque, computed) is held where it is here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple, Protocol

from fedloom.values import Digest
from fedloom.versions.objects import Commit, Entry, Kind
from fedloom.versions.refs import Move
from fedloom.versions.remotes.closure import Named, Reader, below, under

_OF_REMOTES = ("remotes", "seen")  # `remotes/<name>/heads/…`, `seen/<name>/attestations/…`


class Root(NamedTuple):
    """Where a ref points, or pointed before."""

    ref: str
    kind: Kind
    id: Digest
    is_current: bool


class Found(NamedTuple):
    """Something that is reached: what, by which commit, and whether that commit demands it."""

    commit: Digest
    named: Named


class Source(Reader, Protocol):
    """Where commits, trees and conflicts are read; gives None for what is not at hand."""

    def commit(self, id_: Digest) -> Commit | None:
        """Read a commit."""
        ...

    def kind(self, id_: Digest) -> Kind | None:
        """Say what an object is."""
        ...


def roots(logs: Mapping[str, Sequence[Move]], since: datetime) -> list[Root]:
    """List what refs point to, and what they pointed to until a move after `since`."""
    found = []
    for ref, moves in logs.items():
        kind = kind_at(ref)
        found += [Root(ref, kind, m.target, is_current=True) for m in moves[-1:] if m.target is not None]
        left = [(before.target, after.when) for before, after in pairwise(moves)]
        found += [
            Root(ref, kind, target, is_current=False)
            for target, when in left
            if target is not None and _moment(when) >= since
        ]
    return found


def kind_at(ref: str) -> Kind:
    """Say what kind of object a ref points to.

    >>> [kind_at("heads/main"), kind_at("attestations/ab/gate"), kind_at("seen/origin/attestations/ab/gate")]
    ['commit', 'attestation', 'attestation']
    """
    parts = ref.split("/")
    own = parts[2:] if parts[0] in ("remotes", "seen") else parts
    return "attestation" if own[:1] == ["attestations"] else "commit"


@dataclass
class Reach:
    """A walk from commits to everything they hold; it may be taken up again with more commits."""

    source: Source
    commits: set[Digest] = field(default_factory=set)

    def walk(self, tips: Iterable[Digest]) -> Iterator[Found]:
        """List what commits hold that were not walked before, near ones first; an object comes as often as named."""
        fresh = [tip for tip in dict.fromkeys(tips) if tip not in self.commits]
        self.commits.update(fresh)
        queue = deque(fresh)
        while queue:
            id_ = queue.popleft()
            yield Found(id_, Named("", "commit", id_, "needed"))
            commit = self.source.commit(id_)
            if commit is None:
                continue
            names = list(below(commit, self.source))
            yield from (Found(id_, named) for named in names)
            apart = _apart(commit, {named.id for named in names})
            others = [input_ for input_ in apart if self.source.kind(input_) == "commit"]
            yield from (Found(id_, named) for input_ in apart if input_ not in others for named in self._lent(input_))
            more = [one for one in dict.fromkeys([*commit.parents, *others]) if one not in self.commits]
            self.commits.update(more)
            queue.extend(more)

    def _lent(self, id_: Digest) -> Iterator[Named]:
        """List what a recipe reads besides; once the result is stored nobody demands it."""
        kind = self.source.kind(id_)
        if kind is not None:
            yield from (named._replace(demand="side") for named in under(Entry(kind, id_), self.source))


def _apart(commit: Commit, names: set[Digest]) -> list[Digest]:
    """List what a commit's recipe reads that neither its tree nor its parents lead to."""
    inputs = commit.recipe.inputs if commit.recipe else ()
    return [part.id for part in inputs if part.id not in names and part.id not in commit.parents]


def _moment(when: str) -> datetime:
    moment = datetime.fromisoformat(when)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
