"""Small objects, many to a file: bundles in a store, whose indexes are read when they are first needed.

Rules: a bundle is durable before anything relies on it, and never changed: it is written anew, then removed. Whoever
finds one gone looks again, for what it held is in another by then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from fedloom.errors import CorruptObjectError, NotFoundError
from fedloom.values import Buffer, Digest, sha256
from fedloom.versions import bundle
from fedloom.versions.bundle import Index, Span
from fedloom.versions.parallel import WAITS, spread
from fedloom.versions.store import Stat, Store

FOLDER = "bundles"
MOST_BUNDLES = 256

_LARGE = 16 << 20  # bytes; a bundle from here on is not merged again
_MERGED = 64 << 20  # bytes; more are not held in memory to merge
_FIRST_READ = 4096  # bytes; the indexes of most bundles end before
_LOOKS = 8


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle as it was last seen. `index` is None where it cannot be read."""

    path: str
    size: int
    modified: datetime
    index: Index | None

    @property
    def is_whole(self) -> bool:
        """Whether it has the size its index announces."""
        return self.index is not None and self.index.size == self.size

    def spans(self) -> Mapping[Digest, Span]:
        """Give what can be read of it: all, unless it was cut off."""
        if self.index is None:
            return {}
        return {id_: span for id_, span in self.index.spans.items() if span.start + span.size <= self.size}


class SmallObjects:
    """The stored forms of small objects in one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.RLock()
        self._bundles: dict[str, Bundle] = {}
        self._places: dict[Digest, tuple[str, Span]] = {}
        self._looked = False

    def get(self, id_: Digest) -> tuple[bytes, str] | None:
        """Read a stored form and say where it lies; None when it was in no bundle at the last look."""
        for _ in range(_LOOKS):
            place = self._known().get(id_)
            if place is None:
                return None
            path, span = place
            try:
                return self._store.get_range(path, span.start, span.size), path
            except NotFoundError:
                self.look()
        raise NotFoundError(f"object {id_[:12]} moves from bundle to bundle: try again")

    def has(self, id_: Digest) -> bool:
        """Whether an object is in a bundle that was there at the last look and still is."""
        return self._is_in_one(id_, self._store.exists)

    def touch(self, id_: Digest) -> bool:
        """The same, and the bundle counts as used now."""
        return self._is_in_one(id_, self._store.touch)

    def ids(self) -> Collection[Digest]:
        """List what the bundles held at the last look."""
        return self._known().keys()

    def bundles(self) -> list[Bundle]:
        """List the bundles there are now."""
        self.look()
        return list(self._bundles.values())

    def look(self) -> None:
        """See which bundles there are now, and read the indexes of new ones."""
        with self._lock:
            found = {stat.path: stat for stat in self._store.listing(FOLDER)}
            kept = {
                path: replace(known, modified=found[path].modified)
                for path, known in self._bundles.items()
                if path in found and found[path].size == known.size
            }
            new = [stat for path, stat in found.items() if path not in kept]
            opened = [known for known in spread(self._open, new, WAITS) if known is not None]
            self._set(kept | {known.path: known for known in opened})

    def write(self, items: Mapping[Digest, Buffer]) -> str:
        """Write a bundle and bring it to the disk; gives its path."""
        name, content = bundle.pack(items)
        path = f"{FOLDER}/{name}"
        if not self._store.create(path, [content]):
            if self._store.peek(path, bundle.START_SIZE)[1] != len(content):
                self._store.replace(path, [content])
            self._store.touch(path)
            self._store.flush()
        with self._lock:
            if self._looked:
                known = Bundle(path, len(content), datetime.now(UTC), bundle.read_index(content))
                self._set(self._bundles | {path: known})
        return path

    def consolidate(self, most: int) -> None:
        """Where there are more bundles than `most`, merge the smaller ones; other processes may do so meanwhile."""
        if len(self._bundles) <= most:
            return
        merging = [known for known in self.bundles() if known.is_whole and known.size < _LARGE]
        if len(merging) <= most // 2:
            return
        for group in _groups(sorted(merging, key=lambda known: known.path)):
            found = {known.path: items for known in group if (items := self._items(known))}
            self._replace(found, {id_: stored for items in found.values() for id_, stored in items.items()})

    def discard(self, ids: Collection[Digest], but: Collection[str] = ()) -> int:
        """Write the bundles that hold some of these objects anew without them; gives the bytes freed.

        but: the paths of bundles that are left as they are.
        """
        freed = 0
        for _ in range(_LOOKS):
            others = [known for known in self.bundles() if known.path not in but]
            holding = [known for known in others if not known.spans().keys().isdisjoint(ids)]
            if not holding:
                break
            for known in holding:
                freed += self._thin(known, ids)
        return freed

    def _thin(self, known: Bundle, ids: Collection[Digest]) -> int:
        try:
            content = self._store.get(known.path)
        except NotFoundError:
            return 0  # merged by another process: to be found at the next look
        kept = {id_: _cut(content, span) for id_, span in known.spans().items() if id_ not in ids}
        return known.size - self._replace([known.path], kept)

    def _is_in_one(self, id_: Digest, is_there: Callable[[str], bool]) -> bool:
        for _ in range(_LOOKS):
            place = self._known().get(id_)
            if place is None:
                return False
            if is_there(place[0]):
                return True
            self.look()
        return False

    def _known(self) -> dict[Digest, tuple[str, Span]]:
        if not self._looked:
            self.look()
        return self._places

    def _open(self, stat: Stat) -> Bundle | None:
        """Read a bundle's index; None where the bundle is gone."""
        index = None
        try:
            start = self._store.get_range(stat.path, 0, min(_FIRST_READ, stat.size))
            needed = bundle.index_size(start)
            if len(start) < needed <= stat.size:
                start = self._store.get_range(stat.path, 0, needed)
            index = bundle.read_index(start)
        except CorruptObjectError:
            pass  # its objects are missed when they are asked for, and `fsck` lists it
        except NotFoundError:
            return None
        return Bundle(stat.path, stat.size, stat.modified, index)

    def _set(self, bundles: dict[str, Bundle]) -> None:
        """Remember the bundles; what readers hold is replaced, never changed."""
        same = {path for path, known in self._bundles.items() if path in bundles and bundles[path].index is known.index}
        places = dict(self._places) if len(same) == len(self._bundles) else {}
        for path in bundles.keys() - same if places else bundles:
            places |= {id_: (path, span) for id_, span in bundles[path].spans().items()}
        self._places, self._bundles, self._looked = places, bundles, True

    def _items(self, known: Bundle) -> dict[Digest, Buffer]:
        """Read all objects of a bundle; none where it is gone (another process merged it) or damaged."""
        try:
            content = self._store.get(known.path)
        except NotFoundError:
            return {}
        if sha256(content) != known.path.rsplit("/", 1)[-1]:
            return {}
        return {id_: _cut(content, span) for id_, span in known.spans().items()}

    def _replace(self, sources: Collection[str], items: Mapping[Digest, Buffer]) -> int:
        """Write one bundle in the place of others: first it, then they are removed; gives its size."""
        path = self.write(items) if items else None
        for source in sources:
            if source != path:
                self._store.delete(source)
        with self._lock:
            self._set({name: known for name, known in self._bundles.items() if name == path or name not in sources})
        return self._bundles[path].size if path is not None and path in self._bundles else 0


def held(bundles: Collection[Bundle]) -> Iterator[tuple[Digest, int, Bundle]]:
    """List the objects in bundles with the sizes of their stored forms."""
    for known in bundles:
        for id_, span in known.spans().items():
            yield id_, span.size, known


def _groups(bundles: Collection[Bundle]) -> Iterator[list[Bundle]]:
    """Put together what fits into memory."""
    group: list[Bundle] = []
    for known in bundles:
        if group and sum(other.size for other in group) + known.size > _MERGED:
            yield group
            group = []
        group.append(known)
    yield group


def _cut(content: bytes, span: Span) -> memoryview:
    return memoryview(content)[span.start : span.start + span.size]
