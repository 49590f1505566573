"""A remote that is only a place: a folder, or a bucket at S3, GCS or Azure, with a repository's objects and refs.

Rules: nobody works at the other side, so what a hub would refuse is refused here: a ref that is protected there, a
history that does not go forward. Objects this side has are not read from there, even to store a difference to them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice

from fedloom.errors import NotFoundError
from fedloom.values import Digest
from fedloom.versions import objects, tombstones
from fedloom.versions.bucket import Bucket
from fedloom.versions.content import Content
from fedloom.versions.database import Database
from fedloom.versions.history import ancestors
from fedloom.versions.objects import Encoded
from fedloom.versions.remotes.abreast import abreast
from fedloom.versions.remotes.away import Away, BucketAway
from fedloom.versions.remotes.guard import Guard, require_movable
from fedloom.versions.remotes.remote import Parcel, Traffic, Want, leading, opened
from fedloom.versions.store import Backend, Store
from fedloom.versions.tombstones import Tombstone

_WALKED = 512
_LISTED_INSTEAD = 256


class StoreRemote:
    """The repository in a store."""

    def __init__(
        self, backend: Backend, place: str, near: Database | None = None, guard: Guard = require_movable
    ) -> None:
        self.traffic = Traffic()
        self._is_bucket = isinstance(backend, Bucket)
        far = BucketAway if self._is_bucket else Away
        self._content = Content(Store(far(backend, self.traffic, near), place))
        self._guard = guard

    def close(self) -> None:
        """End the work there."""
        self._content.lease.release()

    def refs(self, prefix: str) -> Mapping[str, Digest]:
        """List refs once, then read where they point, several at a time."""
        paths = self._content.store.paths(f"refs/{prefix.rpartition('/')[0]}" if "/" in prefix else "refs")
        names = {path[len("refs/") :].rsplit(".ref/", 1)[0] for path in paths if ".ref/" in path}
        chosen = sorted(name for name in names if name.startswith(prefix))
        found = zip(chosen, abreast(self._content.refs.get, chosen), strict=True)
        return {name: target for name, target in found if target is not None}

    def walk(self, tips: Collection[Digest], without: Collection[Digest]) -> Sequence[Parcel]:
        """Read commits one after the other; after some hundred the caller asks again."""
        reached = islice(ancestors(tips, self._content.commit, without), _WALKED)
        return [Parcel(id_, _whole(objects.encode_commit(commit))) for id_, commit in reached]

    def missing(self, ids: Collection[Digest]) -> set[Digest]:
        """Ask for each, several at a time; in a bucket, many are looked for in one listing instead."""
        self._content.lease.hold()  # what is there is relied on from now on
        asked = sorted(ids)
        if self._is_bucket and len(asked) > _LISTED_INSTEAD:
            return set(asked) - set(self._content.database.ids()) - self._erased
        there = zip(asked, abreast(self._content.has, asked), strict=True)
        return {id_ for id_, is_there in there if not is_there and id_ not in self._erased}

    def get(self, wants: Iterable[Want]) -> Iterator[Parcel]:
        """Read objects, some ahead of the one that is asked for."""
        return (parcel for parcel in abreast(self._get, wants, _weight) if parcel is not None)

    def put(self, parcels: Iterable[Parcel]) -> None:
        """Write tensors and blobs several at a time, then the rest; durable when it returns."""
        whole, rest = leading(parcels)
        brought = set(abreast(self._put, whole, _weight)) | {self._put(parcel) for parcel in rest}
        self._content.database.flush()
        for id_ in self._tombstones.keys() & brought:
            tombstones.lift(self._content.store, id_)

    def move(self, name: str, old: Digest | None, new: Digest, why: str) -> None:
        """Move a ref, if its history goes forward and it is not protected against it."""
        self._guard(self._content, name, old, new)
        self._content.refs.compare_and_set(name, old, new, why)

    @cached_property
    def _tombstones(self) -> Mapping[Digest, Tombstone]:
        """What was erased there: few objects, so they are listed once."""
        return tombstones.all_of(self._content.store)

    @cached_property
    def _erased(self) -> frozenset[Digest]:
        """The ids that need not be brought again; of what was pushed as erased the bytes are still welcome."""
        return frozenset(id_ for id_, found in self._tombstones.items() if not found.says)

    def _get(self, want: Want) -> Parcel | None:
        if want.id in self._erased:
            return Parcel(want.id, tombstones.to_send(self._content.store, want.id), erased=True)
        try:
            return Parcel(want.id, self._content.database.get(want.id))
        except NotFoundError:
            if not tombstones.is_hearsay(self._content.store, want.id):
                return None
            return Parcel(want.id, tombstones.to_send(self._content.store, want.id), erased=True)

    def _put(self, parcel: Parcel) -> Digest | None:
        """Write one object; gives its id where its bytes are there now."""
        if parcel.erased:
            tombstones.hear(self._content.store, parcel.id, parcel.data, "a push")
            return None
        self._content.database.put(opened(parcel), parcel.like)
        return parcel.id


def _whole(encoded: Encoded) -> bytes:
    return b"".join([encoded.header, encoded.payload])


def _weight(thing: Want | Parcel | Digest | None) -> int:
    return len(thing.data) if isinstance(thing, Parcel) else 0
