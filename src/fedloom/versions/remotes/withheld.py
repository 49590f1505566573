"""What a hub keeps back: what its commits name only as promised by a site or as a mere commitment.

Rules: such bytes may be there, recalled or left over, and are neither given away nor used as a base for what is given.
What any commit names as stored as well is not kept back. A commit that is pushed makes nothing public by naming it.
"""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock

from fedloom.values import Digest
from fedloom.versions.content import Content
from fedloom.versions.history import ancestors
from fedloom.versions.remotes.closure import PRIVATE, Named, below
from fedloom.versions.remotes.guard import HEADS, MERGING, TAGS
from fedloom.versions.remotes.transfer import reader_of

_SPACES = (HEADS, TAGS, MERGING, "runs/", "remotes/")


class Withheld:
    """The ids that one repository keeps back, as far as it was looked at; several threads may ask."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._lock = Lock()
        self._walked: set[Digest] = set()
        self._private: set[Digest] = set()
        self._tips: frozenset[Digest] = frozenset()
        self._public: frozenset[Digest] | None = None

    def look(self) -> None:
        """Read the commits that refs lead to since the last look."""
        refs = self._content.refs
        found = (refs.get(name) for space in _SPACES for name in refs.names(space))
        tips = frozenset(target for target in found if target is not None)
        with self._lock:
            if tips == self._tips:
                return
            for id_, commit in ancestors(sorted(tips - self._walked), self._content.commit, self._walked):
                names = below(commit, reader_of(self._content))
                self._private |= {named.id for named in names if named.demand in PRIVATE}
                self._walked.add(id_)
            self._tips, self._public = tips, None

    def __contains__(self, id_: Digest) -> bool:
        """Whether an object is kept back; who asks honestly does not ask for it, so the long way is rarely gone."""
        with self._lock:
            if id_ not in self._private:
                return False
            if self._public is None:
                named = (one.id for one in self._all_named() if one.demand not in PRIVATE)
                self._public = frozenset(id_ for id_ in named if id_ in self._private)
            return id_ not in self._public

    def _all_named(self) -> Iterator[Named]:
        for _, commit in ancestors(sorted(self._tips), self._content.commit):
            yield from below(commit, reader_of(self._content))
