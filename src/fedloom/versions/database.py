"""Objects by id, over the store: how their bytes are kept is decided here, and is never part of an id.

Rules: every read checks the id. Objects below 64 KiB wait in memory and go into one bundle at `flush`; larger ones
have a file each, a version of a tensor as its difference to a keyframe. Whatever names an object (a ref) is written
only after a flush. One database may be used by several threads, and one store by several processes.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from fedloom.errors import CorruptObjectError, NotFoundError, VersionsError
from fedloom.values import Buffer, Digest, sha256
from fedloom.versions import encoding, small, tombstones
from fedloom.versions.encoding import KEYFRAME_EVERY, Form, Keyframe, UnknownEncodingError
from fedloom.versions.leases import Lease
from fedloom.versions.objects import Encoded
from fedloom.versions.parallel import WAITS, spread
from fedloom.versions.small import SmallObjects
from fedloom.versions.store import Stat, Store

SMALL = 64 << 10
"""Objects below this many bytes go into bundles."""

_WAITING = 8 << 20  # bytes of small objects that are held in memory at most
_APART = 8 << 20  # bytes of objects that are removed in one step
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Held:
    """A stored object: the bytes it takes, since when, and what it is a difference to; `place` is a path."""

    id: Digest
    size: int
    modified: datetime
    base: Digest | None
    place: str


class Database:
    """The objects of one store; whoever writes while others may clear away gives a lease."""

    def __init__(self, store: Store, lease: Lease | None = None) -> None:
        self._lease = lease
        self._store = store
        self._small = SmallObjects(store)
        self._lock = threading.RLock()
        self._waiting: dict[Digest, bytes] = {}
        self._waiting_bytes = 0

    # writing

    def put(self, encoded: Encoded, like: Digest | None = None) -> None:
        """Keep an object; `like` is an earlier version of the same tensor, whose bytes may help to store this one."""
        if self._lease is not None:
            self._lease.hold()
        if len(encoded.header) + len(encoded.payload) < SMALL:
            self._put_small(encoded)
        else:
            self._put_large(encoded, like)

    def flush(self) -> None:
        """Bring everything that was put to where a power cut cannot take it: large objects, then what names them."""
        with self._lock:
            self._store.flush()
            if self._waiting:
                self._small.write(self._waiting)
                self._waiting, self._waiting_bytes = {}, 0
                self._small.consolidate(small.MOST_BUNDLES)

    # reading

    def get(self, id_: Digest) -> memoryview:
        """Read an object's canonical bytes; raises NotFoundError, or CorruptObjectError when they are not its own."""
        stored, place = self._stored(id_)
        return self._verified(id_, stored, place)

    def has(self, id_: Digest) -> bool:
        """Whether an object is here and was not cut off; its bytes are not read."""
        if id_ in self._waiting or self._small.has(id_) or self._is_whole(id_):
            return True
        self._small.look()
        return self._small.has(id_)

    def ids(self, prefix: str = "") -> Iterator[Digest]:
        """List the ids that start with `prefix` (two digits or more, or none for all), in order."""
        if prefix:
            names = self._store.names(f"objects/{prefix[:2]}")
        else:
            names = [path.rsplit("/", 1)[-1] for path in self._store.paths("objects")]
        self._small.look()
        found = {*names, *self._small.ids(), *list(self._waiting)}
        return (Digest(name) for name in sorted(found) if name.startswith(prefix) and _ID.fullmatch(name))

    # looking after

    def held(self) -> Iterator[Held]:
        """List what is stored, each copy by itself; what waits for a flush is not stored yet."""
        files = [stat for stat in self._store.listing("objects") if _ID.fullmatch(stat.path.rsplit("/", 1)[-1])]
        yield from (found for found in spread(self._held, files, WAITS) if found is not None)
        for id_, size, known in small.held(self._small.bundles()):
            yield Held(id_, size, known.modified, None, known.path)

    def damaged(self) -> list[str]:
        """List the bundles that are cut off, or whose index cannot be read."""
        return [known.path for known in self._small.bundles() if not known.is_whole]

    def check(self, id_: Digest) -> str | None:
        """Read and verify one object; gives the reason why it cannot be read, None where all is well."""
        try:
            self.get(id_)
        except VersionsError as error:
            return str(error)
        return None

    def discard(self, ids: Collection[Digest]) -> int:
        """Remove objects; those stored as differences to one of them are stored anew first. Gives the bytes freed."""
        gone = frozenset(ids)
        with self._lock:
            self.flush()
            files = [found for found in self.held() if not found.place.startswith(small.FOLDER)]
            grown = self._keep_differences_to(gone, files)
            for id_ in gone:
                self._store.delete(_path(id_))
            return sum(found.size for found in files if found.id in gone) - grown + self._small.discard(gone)

    def discard_in_order(self, ids: Sequence[Digest]) -> int:
        """Remove objects so that, wherever it is cut off, none is gone while one before it is still there.

        Not for tensors: each is copied first, into bundles that hold what is next to each other and go as a whole.
        Gives the bytes freed.
        """
        with self._lock:
            self.flush()
            gone = set(ids)
            files = [stat for stat in self._store.listing("objects") if stat.path.rsplit("/", 1)[-1] in gone]
            before = sum(known.size for known in self._small.bundles())
            apart = [self._small.write(run) for run in self._runs(ids)]
            self._small.discard(gone, but=apart)
            for stat in files:
                self._store.delete(stat.path)
            for path in apart:
                self._store.flush()  # a power cut must not bring back what was removed before
                self._store.delete(path)
            self._store.flush()
            after = sum(known.size for known in self._small.bundles())
            return sum(stat.size for stat in files) + before - after

    def consolidate(self, most: int) -> None:
        """Merge the bundles of small objects where there are more than `most`."""
        self._small.look()
        self._small.consolidate(most)

    # small objects

    def _put_small(self, encoded: Encoded) -> None:
        if self._small.touch(encoded.id):
            return
        stored = b"".join(encoding.encode(encoded.header, encoded.payload))
        with self._lock:
            if encoded.id not in self._waiting:
                self._waiting[encoded.id] = stored
                self._waiting_bytes += len(stored)
            if self._waiting_bytes > _WAITING:
                self.flush()

    # large objects

    def _put_large(self, encoded: Encoded, like: Digest | None) -> None:
        found = self._form(encoded.id)
        if found is None:
            if self._created(encoded, like):
                return
            found = self._form(encoded.id)
        if found is not None and self._is_in_use(encoded.id, found):
            return
        # A power cut left half of it, or its keyframe is gone. Others may be differences to it: it must not be one.
        self._store.replace(_path(encoded.id), encoding.encode(encoded.header, encoded.payload))

    def _created(self, encoded: Encoded, like: Digest | None) -> bool:
        """Write a new file; False where another process did so just now, or the keyframe was cleared out meanwhile."""
        keyframe = self._keyframe(like, len(encoded.header) + len(encoded.payload)) if like else None
        parts = encoding.encode(encoded.header, encoded.payload, keyframe)
        if not self._store.create(_path(encoded.id), parts, durable=False):
            return False
        base = encoding.read_form(parts[0]).base
        return base is None or self._store.touch(_path(base))

    def _form(self, id_: Digest) -> _Found | None:
        """Look at the first bytes of an object's file; None when there is none."""
        try:
            start, size = self._store.peek(_path(id_), encoding.START_SIZE)
        except NotFoundError:
            return None
        try:
            form = encoding.read_form(start)
        except UnknownEncodingError:
            return _Found(None, is_whole=True)
        except CorruptObjectError:
            return _Found(None, is_whole=False)
        return _Found(form, is_whole=form.stored == size)

    def _is_whole(self, id_: Digest) -> bool:
        found = self._form(id_)
        return found is not None and found.is_whole

    def _is_in_use(self, id_: Digest, found: _Found) -> bool:
        """Make a whole file, and the keyframe it needs, count as used now; False where there is something to mend."""
        if not found.is_whole or not self._store.touch(_path(id_)):
            return False
        return found.form is None or found.form.base is None or self._store.touch(_path(found.form.base))

    def _keyframe(self, like: Digest, size: int) -> Keyframe | None:
        """Find the keyframe that an earlier version leads to; None where a new one is due or it is of no use."""
        found = self._form(like)
        if found is None or found.form is None or found.form.size != size:
            return None
        form = found.form
        id_, distance = (like, 1) if form.base is None else (form.base, form.distance + 1)
        if distance >= KEYFRAME_EVERY:
            return None
        try:
            return Keyframe(id_, self.get(id_), distance)
        except (NotFoundError, CorruptObjectError):
            return None

    def _stored(self, id_: Digest) -> tuple[Buffer, str]:
        """Find an object's stored form, and the path it lies under."""
        waiting = self._waiting.get(id_)
        if waiting is not None:
            return waiting, small.FOLDER
        if found := self._small.get(id_):
            return found
        try:
            return self._store.get(_path(id_)), _path(id_)
        except NotFoundError:
            self._small.look()
        if found := self._small.get(id_):
            return found
        if tombstone := tombstones.find(self._store, id_):
            raise NotFoundError(f"object {id_[:12]} was {tombstone}")
        raise NotFoundError(f"object {id_[:12]} is missing from the repository")

    def _verified(self, id_: Digest, stored: Buffer, place: str) -> memoryview:
        """Decode a stored form; where that does not give the object of this id, say which file is to blame."""
        base: Digest | None = None
        try:
            base = encoding.read_form(stored).base
            data = encoding.decode(stored, self._base(base) if base is not None else None)
        except UnknownEncodingError as error:
            raise CorruptObjectError(f"object {id_[:12]} {error}") from None
        except CorruptObjectError as error:
            told = str(error)
        else:
            if sha256(data) == id_:
                return data
            told = "is corrupt: its bytes do not match its id"
        if base is not None and self.check(base) is not None:
            told, place = f"is stored as a difference to {base[:12]}, which is missing or corrupt", _path(base)
        raise CorruptObjectError(f"object {id_[:12]} {told}. Restore {place} from a copy")

    def _base(self, id_: Digest) -> bytes | None:
        try:
            return self._store.get(_path(id_))
        except NotFoundError:
            return None

    def _runs(self, ids: Sequence[Digest]) -> Iterator[dict[Digest, bytes]]:
        """Read the stored forms of objects, as many at a time as fit into memory."""
        run: dict[Digest, bytes] = {}
        size = 0
        for id_ in ids:
            data = self.get(id_)
            start = encoding.head_size(data)
            run[id_] = b"".join(encoding.encode(bytes(data[:start]), data[start:]))
            size += len(run[id_])
            if size > _APART:
                yield run
                run, size = {}, 0
        if run:
            yield run

    # looking after large objects

    def _held(self, stat: Stat) -> Held | None:
        id_ = Digest(stat.path.rsplit("/", 1)[-1])
        found = self._form(id_)
        if found is None:
            return None
        base = found.form.base if found.form is not None else None
        return Held(id_, stat.size, stat.modified, base, stat.path)

    def _keep_differences_to(self, gone: Collection[Digest], files: Collection[Held]) -> int:
        """Store anew what would be lost with its keyframe: the first as a keyframe for the others. Gives the growth."""
        staying: dict[Digest, list[Held]] = {}
        for found in files:
            if found.base is not None and found.base in gone and found.id not in gone:
                staying.setdefault(found.base, []).append(found)
        return sum(self._store_anew(versions) for versions in staying.values())

    def _store_anew(self, versions: Collection[Held]) -> int:
        first: Keyframe | None = None
        grown = 0
        for distance, held in sorted(((self._distance(held.id), held) for held in versions), key=lambda pair: pair[0]):
            try:
                data = self.get(held.id)
            except CorruptObjectError:
                continue  # it is lost with or without its keyframe
            start = encoding.head_size(data)
            keyframe = None if first is None else Keyframe(first.id, first.data, max(1, distance - first.distance))
            parts = encoding.encode(bytes(data[:start]), data[start:], keyframe)
            self._store.replace(held.place, parts)
            grown += sum(map(len, parts)) - held.size
            first = first or Keyframe(held.id, data, distance)
        return grown

    def _distance(self, id_: Digest) -> int:
        found = self._form(id_)
        return found.form.distance if found is not None and found.form is not None else 0


@dataclass(frozen=True, slots=True)
class _Found:
    """What the first bytes of a file say; `form` is None where they say nothing that can be read."""

    form: Form | None
    is_whole: bool


def _path(id_: Digest) -> str:
    return f"objects/{id_[:2]}/{id_}"
