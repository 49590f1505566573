"""A remote that is a hub: a repository behind HTTP, protocol version 1 (see `docs/reference/formats.md`).

Rules: tensors travel as differences to versions that the other side has. A request that fails ends in a sentence.
The token is sent, and never shown.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from fedloom.errors import VersionsError, WireError
from fedloom.values import Buffer, Digest
from fedloom.versions.database import Database
from fedloom.versions.remotes import wire
from fedloom.versions.remotes.abreast import abreast
from fedloom.versions.remotes.remote import Parcel, Traffic, Want, leading

if TYPE_CHECKING:
    import httpx

_BATCH_BYTES = 8 << 20
_BATCH_OBJECTS = 256
_WANTS = 128
_SECONDS = 60.0


class HttpRemote:
    """The repository of a hub."""

    def __init__(self, url: str, near: Database, token: str | None = None, limits: wire.Limits | None = None) -> None:
        import httpx

        self.traffic = Traffic()
        self._url, self._near, self._limits = url.rstrip("/"), near, limits or wire.Limits()
        headers = {"authorization": f"Bearer {token}"} if token else {}
        transport = httpx.HTTPTransport(retries=2)
        self._http = httpx.Client(headers=headers, timeout=_SECONDS, transport=transport)

    def close(self) -> None:
        """Let the connections go."""
        self._http.close()

    def refs(self, prefix: str) -> Mapping[str, Digest]:
        """Ask where refs point."""
        found = self._ask("GET", f"refs?prefix={prefix}").get("refs")
        if not isinstance(found, dict):
            raise WireError(self._strange())
        return {str(name): wire.digest_of(target) for name, target in found.items()}

    def walk(self, tips: Collection[Digest], without: Collection[Digest]) -> Sequence[Parcel]:
        """Bring commits, as many as the hub sends at once."""
        return list(self._frames("walk", {"tips": sorted(tips), "without": sorted(without)}))

    def missing(self, ids: Collection[Digest]) -> set[Digest]:
        """Ask about many objects at once."""
        asked = sorted(ids)
        batches = [asked[start : start + self._limits.ids] for start in range(0, len(asked), self._limits.ids)]
        answers = [self._ask("POST", "missing", {"ids": batch}).get("missing") for batch in batches]
        if not all(isinstance(answer, list) for answer in answers):
            raise WireError(self._strange())
        return {wire.digest_of(id_) for answer in answers for id_ in answer or ()} & set(asked)

    def get(self, wants: Iterable[Want]) -> Iterator[Parcel]:
        """Bring objects one after the other, in few requests."""
        source = iter(wants)
        while batch := list(islice(source, _WANTS)):
            yield from self._get(batch)

    def put(self, parcels: Iterable[Parcel]) -> None:
        """Send tensors and blobs in a few requests at a time, then the rest in order."""
        whole, rest = leading(parcels)
        for _ in abreast(self._put, _batches(whole), _weight):
            pass
        for batch in _batches(rest):
            self._put(batch)

    def move(self, name: str, old: Digest | None, new: Digest, why: str) -> None:
        """Ask the hub to move a ref."""
        self._ask("POST", "refs/move", {"name": name, "old": old, "new": new, "why": why})

    def _get(self, wants: Sequence[Want]) -> Iterator[Parcel]:
        """Bring one batch; where a base turns out to be erased here, the rest of it comes whole."""
        left = list(wants)
        try:
            for parcel in self._frames("objects/get", {"wants": wire.wants_json(left)}):
                places = [place for place, want in enumerate(left) if want.id == parcel.id]
                if not places:
                    raise WireError(self._strange())
                del left[: places[0] + 1]
                yield parcel
        except wire.BaseMissingError:
            if all(want.like is None for want in left):
                raise
            yield from self._get([Want(want.id) for want in left])

    def _put(self, parcels: Sequence[Parcel]) -> None:
        """Send one batch; where a base turns out to be erased there, it is sent whole."""
        try:
            self._send(parcels)
        except wire.BaseMissingError:
            self._send([Parcel(parcel.id, parcel.data, None, parcel.erased) for parcel in parcels])

    def _send(self, parcels: Sequence[Parcel]) -> None:
        parts = [part for parcel in parcels for part in wire.pack(parcel, self._near.get)]
        headers = {"content-type": wire.FRAMES, "content-length": str(sum(len(part) for part in parts))}
        with self._answer("POST", "objects/put", headers, (bytes(part) for part in parts)) as answer:
            answer.read()
        self.traffic.add(sent=int(headers["content-length"]))

    def _ask(self, method: str, path: str, question: Any = None) -> Mapping[str, Any]:
        body = b"" if question is None else json.dumps(question).encode()
        with self._answer(method, path, {"content-type": wire.JSON}, body or None) as answer:
            data = answer.read()
        self.traffic.add(sent=len(body), received=len(data))
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise WireError(self._strange())
        return found

    def _frames(self, path: str, question: Any) -> Iterator[Parcel]:
        body = json.dumps(question).encode()
        self.traffic.add(sent=len(body))
        with self._answer("POST", path, {"content-type": wire.JSON}, body) as answer:
            if answer.headers.get("content-type") != wire.FRAMES:
                raise WireError(self._strange())
            chunks = _Chunks(answer.iter_raw(), self.traffic)
            yield from wire.unpack(chunks.read, self._near.get, self._limits)

    @contextmanager
    def _answer(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | Iterable[bytes] | None
    ) -> Iterator[httpx.Response]:
        """Make a request; whatever goes wrong is said in a sentence."""
        import httpx

        self.traffic.add(requests=1)
        try:
            with self._http.stream(method, f"{self._url}/v1/{path}", headers=headers, content=body) as answer:
                if answer.status_code != httpx.codes.OK:
                    answer.read()
                    raise wire.error_of(_json(answer), self._strange(answer.status_code))
                yield answer
        except httpx.InvalidURL:
            raise VersionsError(f"'{self._url}' is no address: give it as https://host/path") from None
        except httpx.TimeoutException:
            raise VersionsError(f"{self._url} did not answer for {_SECONDS:.0f} s: {_AGAIN}") from None
        except httpx.TransportError as error:
            told = str(error).partition("\n")[0] or type(error).__name__
            raise VersionsError(
                f"{self._url} cannot be reached ({told}): check address and network, then {_AGAIN}"
            ) from None

    def _strange(self, status: int | None = None) -> str:
        said = f" (status {status})" if status else ""
        return f"{self._url} does not answer as a fedloom hub of protocol 1 does{said}: check the address"


_AGAIN = "start it again, what arrived is kept"


class _Chunks:
    """Reads a stream that comes in pieces by exact sizes."""

    def __init__(self, pieces: Iterator[bytes], traffic: Traffic) -> None:
        self._pieces, self._traffic = pieces, traffic
        self._left = memoryview(b"")

    def read(self, size: int) -> Buffer:
        """Read so many bytes; fewer where the stream ends."""
        found = bytearray()
        while len(found) < size and (self._left or self._next()):
            taken = self._left[: size - len(found)]
            found += taken
            self._left = self._left[len(taken) :]
        return found

    def _next(self) -> bool:
        """Take the next piece; False where there is none."""
        for piece in self._pieces:
            self._traffic.add(received=len(piece))
            if piece:
                self._left = memoryview(piece)
                return True
        return False


def _batches(parcels: Iterable[Parcel]) -> Iterator[list[Parcel]]:
    """Put parcels together up to some megabytes, so that many small ones take few requests."""
    batch: list[Parcel] = []
    for parcel in parcels:
        if batch and (len(batch) >= _BATCH_OBJECTS or _weight(batch) + len(parcel.data) > _BATCH_BYTES):
            yield batch
            batch = []
        batch.append(parcel)
    if batch:
        yield batch


def _weight(batch: Sequence[Parcel] | None) -> int:
    return sum(len(parcel.data) for parcel in batch or ())


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except (ValueError, RecursionError):
        return None
