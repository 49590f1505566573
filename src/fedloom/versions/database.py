"""Objects by id, over the store: how their bytes are kept is decided here, and is never part of an id.

Rules: every read checks the id. `put` may keep small objects in memory until `flush`; whatever names an object
(a ref) is written only after a flush.
"""

from __future__ import annotations

from collections.abc import Iterator

from fedloom.errors import CorruptObjectError, NotFoundError
from fedloom.values import Digest, sha256
from fedloom.versions.objects import Encoded
from fedloom.versions.store import Store

_STORED = b"fls"
_STORED_PLAIN = _STORED + b"\x00"  # storage header: "fls" and the encoding; 0 is the canonical bytes as they are


class Database:
    """The objects of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._present: set[Digest] = set()

    def put(self, encoded: Encoded, like: Digest | None = None) -> None:  # noqa: ARG002
        """Keep an object; `like` is an earlier version of the same tensor, whose bytes may help to store this one."""
        if encoded.id not in self._present:
            self._store.create(_path(encoded.id), [_STORED_PLAIN, encoded.header, encoded.payload])
            self._present.add(encoded.id)

    def flush(self) -> None:
        """Bring everything that was put to where a power cut cannot take it."""

    def get(self, id_: Digest) -> memoryview:
        """Read an object's canonical bytes; raises NotFoundError, or CorruptObjectError when they are not its own."""
        try:
            stored = self._store.get(_path(id_))
        except NotFoundError:
            raise NotFoundError(f"object {id_[:12]} is missing from the repository") from None
        data = memoryview(stored)[len(_STORED_PLAIN) :]
        if stored.startswith(_STORED_PLAIN) and sha256(data) == id_:
            return data
        if stored.startswith(_STORED) and len(stored) > len(_STORED) and not stored.startswith(_STORED_PLAIN):
            raise CorruptObjectError(f"object {id_[:12]} is stored in an unknown encoding: upgrade fedloom")
        problem = "its bytes do not match its id"
        raise CorruptObjectError(f"object {id_[:12]} is corrupt: {problem}. Restore {_path(id_)} from a copy")

    def has(self, id_: Digest) -> bool:
        """Whether an object is here; its bytes are not read."""
        return id_ in self._present or self._store.exists(_path(id_))

    def ids(self, prefix: str = "") -> Iterator[Digest]:
        """List the ids that start with `prefix` (two digits or more, or none for all), in order."""
        if prefix:
            names = self._store.names(f"objects/{prefix[:2]}")
        else:
            names = [path.rsplit("/", 1)[-1] for path in self._store.paths("objects")]
        return (Digest(name) for name in names if name.startswith(prefix))


def _path(id_: Digest) -> str:
    return f"objects/{id_[:2]}/{id_}"
