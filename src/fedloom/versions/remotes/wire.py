r"""Objects and errors between an HTTP client and a hub, version 1; both sides read and write them here.

Objects follow each other as frames, with little-endian numbers:

    kind (1 byte)  id (32)  size of what follows (8)  what follows

    0 stored   a stored form (`encoding.py`); a difference may be to any version that the receiver has
    1 erased   the tombstone of an object
    2 failed   an error in JSON, where the sender cannot go on; the id is zero

Rules: what is read may be hostile: sizes are checked before anything is read, and every object is held to its id.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedloom.errors import (
    ConflictError,
    CorruptObjectError,
    FedloomError,
    GateError,
    NotFoundError,
    StorageError,
    VersionsError,
    WireError,
)
from fedloom.values import Buffer, Digest
from fedloom.versions import encoding, tombstones
from fedloom.versions.remotes.remote import Parcel, ReadObject, Want, opened, plain_form

FRAMES = "application/vnd.fedloom.frames.v1"
JSON = "application/json"

_HEAD = struct.Struct("<B32sQ")
_STORED, _ERASED, _FAILED = 0, 1, 2
_NO_ID = Digest("0" * 64)
_ID = re.compile(r"[0-9a-f]{64}")


class BaseMissingError(WireError):
    """A difference arrived to a version that is not here; send the whole."""


_ERRORS: Mapping[str, type[FedloomError]] = {
    kind.__name__: kind
    for kind in (
        ConflictError,
        CorruptObjectError,
        GateError,
        NotFoundError,
        StorageError,
        VersionsError,
        BaseMissingError,
    )
}
"""The kinds of error that the other side may send; exit codes follow from them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a side takes: bytes of one object when unpacked, bytes of one request in JSON, ids in one question."""

    object: int = 4 << 30
    question: int = 4 << 20
    ids: int = 8192


def pack(parcel: Parcel, read: ReadObject) -> list[Buffer]:
    """Write one parcel as the parts of a frame; `read` gives the earlier version that it is a difference to."""
    if parcel.erased:
        return _frame(_ERASED, parcel.id, [parcel.data])
    whole = opened(parcel)
    keyframe = encoding.Keyframe(parcel.like, read(parcel.like), 1) if parcel.like else None
    return _frame(_STORED, parcel.id, encoding.encode(whole.header, whole.payload, keyframe))


def unpack(read_bytes: Callable[[int], Buffer], read: ReadObject, limits: Limits) -> Iterator[Parcel]:
    """Read frames to the end of a stream, each object held to its id; `read` gives canonical bytes of a base.

    Raises WireError, CorruptObjectError, and BaseMissingError, which names a base that `read` has not got.
    """
    while head := read_bytes(_HEAD.size):
        if len(head) < _HEAD.size:
            raise WireError("the transfer was cut off: start it again, what arrived is kept")
        kind, digest, size = _HEAD.unpack(head)
        if kind not in (_STORED, _ERASED, _FAILED):
            raise WireError("an object came in a form that is unknown here: upgrade fedloom")
        id_ = Digest(digest.hex())
        if size > limits.object:
            raise _too_large(id_, size, limits)
        if kind == _ERASED and size > tombstones.LARGEST:
            raise WireError(f"the tombstone of object {id_[:12]} is too large to be one: erase it there again")
        data = read_bytes(size)
        if len(data) < size:
            raise WireError("the transfer was cut off: start it again, what arrived is kept")
        if kind == _FAILED:
            raise error_of(_json(data), "the other side failed and did not say why: see its log")
        yield Parcel(id_, data, erased=True) if kind == _ERASED else _unpacked(id_, data, read, limits)


def failed(error: FedloomError) -> list[Buffer]:
    """Write an error as a frame, to end a stream that has begun."""
    return _frame(_FAILED, _NO_ID, [json.dumps(error_json(error)).encode()])


def wants_json(wants: Sequence[Want]) -> list[list[str | None]]:
    """Write what is asked for as JSON."""
    return [[want.id, want.like] for want in wants]


def wants_of(value: Any) -> list[Want]:
    """Read what is asked for; raises WireError."""
    if not isinstance(value, list) or not all(isinstance(line, list) and len(line) == 2 for line in value):
        raise WireError("objects are asked for as a list of [id, earlier id or null]")
    return [Want(digest_of(id_), None if like is None else digest_of(like)) for id_, like in value]


def digest_of(value: Any) -> Digest:
    """Read an id; raises WireError."""
    if not isinstance(value, str) or _ID.fullmatch(value) is None:
        raise WireError("an id is 64 lower-case hexadecimal digits")
    return Digest(value)


def error_json(error: FedloomError) -> dict[str, str]:
    """Write an error as JSON: its sentence and its kind."""
    return {"error": str(error), "kind": type(error).__name__}


def error_of(value: Any, otherwise: str) -> FedloomError:
    """Read an error from JSON; one of an unknown kind, or no error at all, is a WireError."""
    if not isinstance(value, Mapping) or not isinstance(value.get("error"), str):
        return WireError(otherwise)
    kind = _ERRORS.get(str(value.get("kind")), WireError)
    return kind(value["error"].replace("\n", " "))


def _unpacked(id_: Digest, data: Buffer, read: ReadObject, limits: Limits) -> Parcel:
    try:
        form = encoding.read_form(data)
        if form.size > limits.object:
            raise _too_large(id_, form.size, limits)
        base = plain_form(read(form.base)) if form.base else None
        whole = encoding.decode(data, base)
    except CorruptObjectError as error:
        raise CorruptObjectError(f"object {id_[:12]} {error}") from None
    except NotFoundError:
        raise BaseMissingError(f"object {id_[:12]} came as a difference to a version that is not here") from None
    return Parcel(id_, whole, form.base)


def _frame(kind: int, id_: Digest, parts: Sequence[Buffer]) -> list[Buffer]:
    return [_HEAD.pack(kind, bytes.fromhex(id_), sum(len(part) for part in parts)), *parts]


def _too_large(id_: Digest, size: int, limits: Limits) -> WireError:
    return WireError(f"object {id_[:12]} of {size} bytes is larger than the {limits.object} that are taken here")


def _json(data: Buffer) -> Any:
    try:
        return json.loads(bytes(data))
    except (ValueError, RecursionError):
        return None
