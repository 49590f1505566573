"""A repository behind HTTP: protocol version 1 as a WSGI application, to be mounted in any server.

Rules: nothing is kept that does not match its id, is no object of a known kind, or - a commit - names something that
is not here or is of another kind. What sites keep is not given away (`withheld.py`). Refs move by compare-and-set after
the guard agreed. Whatever is wrong is answered in a sentence.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qs

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
from fedloom.versions import objects, tombstones
from fedloom.versions.content import Content
from fedloom.versions.history import ancestors
from fedloom.versions.refs import is_ref_name
from fedloom.versions.remotes import wire
from fedloom.versions.remotes.closure import Named, named
from fedloom.versions.remotes.guard import ATTESTATIONS, HEADS, MERGING, TAGS, Guard, require_pushable
from fedloom.versions.remotes.remote import Parcel, Want, opened
from fedloom.versions.remotes.transfer import Kinds, is_kept, named_by_parents, reader_of
from fedloom.versions.remotes.withheld import Withheld

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_WALKED = 4096
_PIECE = 1 << 20
_DRAINED = 64
_DIGITS = 15  # of a Content-Length
_LARGEST = 1 << 30  # bytes of one object, unless the limits say otherwise
_SHOWN = (HEADS, TAGS, MERGING, ATTESTATIONS)

_STATUS: Mapping[type[FedloomError], HTTPStatus] = {
    NotFoundError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    GateError: HTTPStatus.FORBIDDEN,
    CorruptObjectError: HTTPStatus.UNPROCESSABLE_ENTITY,
    StorageError: HTTPStatus.INSUFFICIENT_STORAGE,
}

_Answer: TypeAlias = Mapping[str, Any] | Iterator[bytes]


class Hub:
    """The WSGI application that serves one repository.

    token: what clients must know; None serves everybody. guard: what may move a ref; see `guard.py`. limits: what is
    taken at most; a hub for larger tensors is given a larger `object`.
    """

    def __init__(
        self,
        content: Content,
        *,
        token: str | None = None,
        guard: Guard = require_pushable,
        limits: wire.Limits | None = None,
    ) -> None:
        self._content, self._token, self._guard = content, token, guard
        self._limits = limits or wire.Limits(object=_LARGEST)
        self._kinds, self._withheld = Kinds(content), Withheld(content)
        self._brought: set[Digest] = set()
        self._routes: Mapping[tuple[str, str], Callable[[WSGIEnvironment, _Body], _Answer]] = {
            ("GET", "refs"): self._refs,
            ("POST", "refs/move"): self._move,
            ("POST", "walk"): self._walk,
            ("POST", "missing"): self._missing,
            ("POST", "objects/get"): self._get,
            ("POST", "objects/put"): self._put,
        }

    def __call__(self, request: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        body = _Body(request)
        try:
            status, answer = HTTPStatus.OK, self._route(request, body)
        except _RefusedError as refused:
            status, answer = refused.status, wire.error_json(WireError(str(refused)))
        except RecursionError:
            status, answer = HTTPStatus.BAD_REQUEST, wire.error_json(WireError("this is nested too deeply: send less"))
        except FedloomError as error:
            status, answer = _status(error), wire.error_json(error)
        body.drain()
        kind = wire.FRAMES
        if isinstance(answer, Mapping):
            kind, answer = wire.JSON, iter([json.dumps(answer).encode()])
        headers = [("Content-Type", kind)]
        if status is HTTPStatus.UNAUTHORIZED:
            headers.append(("WWW-Authenticate", "Bearer"))
        start_response(f"{status.value} {status.phrase}", headers)
        return answer

    def _route(self, request: WSGIEnvironment, body: _Body) -> _Answer:
        self._require_token(request)
        version, _, path = request.get("PATH_INFO", "").strip("/").partition("/")
        if version != "v1":
            raise _RefusedError(HTTPStatus.NOT_FOUND, "this hub speaks protocol 1 only, below /v1: update one of both")
        method = request["REQUEST_METHOD"]
        if (method, path) in self._routes:
            return self._routes[method, path](request, body)
        if any(known == path for _, known in self._routes):
            raise _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, f"/v1/{path} is not for {method}: see the protocol")
        raise _RefusedError(HTTPStatus.NOT_FOUND, "protocol 1 has no such path: update fedloom at the hub, or here")

    def _require_token(self, request: WSGIEnvironment) -> None:
        given = request.get("HTTP_AUTHORIZATION", "").encode()
        if self._token is not None and not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
            todo = "add the remote anew with `--option token-file=FILE`, or ask who runs the hub"
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, f"the hub wants a token, and not this one: {todo}")

    def _refs(self, request: WSGIEnvironment, _: _Body) -> _Answer:
        prefix = parse_qs(request.get("QUERY_STRING", "")).get("prefix", [""])[0]
        shown = [kind for kind in _SHOWN if prefix.startswith(kind)]
        if not shown or not is_ref_name(f"{prefix}x"):
            raise WireError(f"refs are listed by a prefix that begins with {', '.join(_SHOWN)}")
        names = self._content.refs.names(prefix)
        return {"refs": {name: self._content.refs.get(name) for name in names}}

    def _move(self, _: WSGIEnvironment, body: _Body) -> _Answer:
        question = self._question(body)
        name, old, new, why = (question.get(word) for word in ("name", "old", "new", "why"))
        if not isinstance(name, str) or not is_ref_name(name) or not isinstance(why, str):
            raise WireError("a move has a ref's name, an old and a new id, and a reason")
        before, after = None if old is None else wire.digest_of(old), wire.digest_of(new)
        self._guard(self._content, name, before, after)
        self._content.refs.compare_and_set(name, before, after, why)
        return {}

    def _walk(self, _: WSGIEnvironment, body: _Body) -> _Answer:
        question = self._question(body)
        tips, without = self._ids(question.get("tips")), self._ids(question.get("without"))
        for tip in tips:
            self._content.commit(tip)  # a tip that is not here is answered as an error, not in a stream
        found = islice(ancestors(tips, self._content.commit, without), _WALKED)
        return self._frames(Parcel(id_, self._content.database.get(id_)) for id_, _ in found)

    def _missing(self, _: WSGIEnvironment, body: _Body) -> _Answer:
        ids = self._ids(self._question(body).get("ids"))
        self._content.lease.hold()  # what is here is relied on from now on
        self._withheld.look()
        return {"missing": [id_ for id_ in ids if not self._has(id_) and not self._is_erased(id_)]}

    def _get(self, _: WSGIEnvironment, body: _Body) -> _Answer:
        wants = wire.wants_of(self._question(body).get("wants"))
        if len(wants) > self._limits.ids:
            raise self._too_large()
        self._withheld.look()
        return self._frames(parcel for want in wants for parcel in self._wanted(want))

    def _wanted(self, want: Want) -> Iterator[Parcel]:
        """Give an object, as a difference where the base is here; its tombstone; or nothing."""
        if want.id in self._withheld:
            return
        is_here = self._content.has(want.id)
        if self._is_erased(want.id) or (not is_here and tombstones.is_hearsay(self._content.store, want.id)):
            yield Parcel(want.id, tombstones.to_send(self._content.store, want.id), erased=True)
        elif is_here:
            usable = want.like is not None and self._content.has(want.like) and want.like not in self._withheld
            yield Parcel(want.id, self._content.database.get(want.id), want.like if usable else None)

    def _has(self, id_: Digest) -> bool:
        """Whether an object is here for a client: one that is kept back is only for who brought its bytes."""
        return self._content.has(id_) and (id_ not in self._withheld or id_ in self._brought)

    def _is_erased(self, id_: Digest) -> bool:
        """Whether an object was erased here; who pushes a tombstone only says so, and the bytes are still welcome."""
        return tombstones.is_ours(self._content.store, id_)

    def _base(self, id_: Digest) -> memoryview:
        """Read what a pushed difference is to; what is kept back serves nobody who has not got it."""
        if not self._has(id_):
            raise NotFoundError(f"object {id_[:12]} is not here")
        return self._content.database.get(id_)

    def _put(self, _: WSGIEnvironment, body: _Body) -> _Answer:
        """Keep objects one by one, as they come: what came before an error stays, so the sender can go on."""
        body.require_length()
        self._withheld.look()
        count, kept = 0, []
        try:
            for parcel in wire.unpack(body.read, self._base, self._limits):
                self._keep(parcel)
                kept += [] if parcel.erased else [parcel.id]
                count += 1
        finally:
            self._content.database.flush()
            for id_ in kept:
                tombstones.lift(self._content.store, id_)
        return {"stored": count}

    def _keep(self, parcel: Parcel) -> None:
        if parcel.erased:
            if not self._content.has(parcel.id):
                tombstones.hear(self._content.store, parcel.id, parcel.data, "a push")
            return
        whole = opened(parcel)
        kind = objects.kind_of(parcel.data)
        if kind == "commit":
            self._require_whole(parcel)
        self._content.database.put(whole, parcel.like)
        self._kinds.note(parcel.id, kind)
        if parcel.id in self._withheld:
            self._brought.add(parcel.id)

    def _require_whole(self, parcel: Parcel) -> None:
        """Refuse a commit of which something is not here, or is not what it is named as."""
        commit, reader = objects.decode_commit(parcel.data), reader_of(self._content)
        names = list(named(commit, reader))
        needed = [*(Named("", "commit", id_, "needed") for id_ in commit.parents), *names]
        withheld = {found.id for found in needed if not self._has(found.id) and self._content.has(found.id)}
        absent = {found.id for found in needed if found.needed and not is_kept(self._content, found)} | withheld
        if absent:
            told = f"commit {parcel.id[:12]} names {len(absent)} objects that are not here"
            raise VersionsError(f"{told}: send them first, with `fedloom push`")
        for parent in commit.parents:
            self._content.commit(parent)  # raises where it is none
        self._kinds.require(parcel.id, commit, names, named_by_parents(commit, self._content.commit, reader))

    def _frames(self, parcels: Iterator[Parcel]) -> Iterator[bytes]:
        """Write frames; an error in the middle of them is the last one."""
        try:
            for parcel in parcels:
                yield from _bytes(wire.pack(parcel, self._content.database.get))
        except FedloomError as error:
            yield from _bytes(wire.failed(error))

    def _ids(self, value: Any) -> list[Digest]:
        if not isinstance(value, list):
            raise WireError("ids come as a list")
        if len(value) > self._limits.ids:
            raise self._too_large()
        return [wire.digest_of(id_) for id_ in value]

    def _question(self, body: _Body) -> Mapping[str, Any]:
        if body.require_length() > self._limits.question:
            raise self._too_large()
        try:
            value = json.loads(body.read(self._limits.question))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise WireError("a question is a JSON object")
        return value

    def _too_large(self) -> _RefusedError:
        told = f"this is more than the hub takes in one request ({self._limits.ids} ids): ask in parts"
        return _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, told)


class _RefusedError(Exception):
    """A request that does not follow the protocol, with its status."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class _Body:
    """The body of a request, never read beyond its end."""

    def __init__(self, request: WSGIEnvironment) -> None:
        length = request.get("CONTENT_LENGTH") or ""
        self._input, self._is_given = request.get("wsgi.input"), bool(length)
        self._is_known = length.isdecimal() and len(length) <= _DIGITS
        self._left = int(length) if self._is_known else 0

    def require_length(self) -> int:
        """Give how many bytes are to be read; a request must say so."""
        if self._is_given and not self._is_known:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "a Content-Length is a number of bytes, of few digits")
        if not self._is_known:
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "a request says how long it is, in Content-Length")
        return self._left

    def read(self, size: int) -> bytes:
        """Read so many bytes; fewer where the body ends."""
        data: bytes = self._input.read(min(size, self._left)) if self._input is not None and self._left else b""
        self._left = self._left - len(data) if data else 0
        return data

    def drain(self) -> None:
        """Read what is left, up to a bound, so that the client hears the answer; it is writing still."""
        for _ in range(_DRAINED):
            if not self.read(_PIECE):
                return


def _status(error: FedloomError) -> HTTPStatus:
    found = (status for kind, status in _STATUS.items() if isinstance(error, kind))
    return next(found, HTTPStatus.BAD_REQUEST)


def _bytes(parts: Iterable[Buffer]) -> Iterator[bytes]:
    """Cut large buffers into pieces: a WSGI server wants bytes, and a copy of a whole tensor is not needed."""
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), _PIECE):
            yield bytes(view[start : start + _PIECE])
