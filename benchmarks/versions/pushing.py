"""What a push costs: after each round, to a folder and to a hub over HTTP on this machine."""

from __future__ import annotations

import socketserver
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from measuring import folder_bytes, timed
from ours import HEAD, commit, require_equal
from safetensors.numpy import load_file

from fedloom.versions.remotes.addresses import add
from fedloom.versions.remotes.http_server import Hub
from fedloom.versions.remotes.sync import push
from fedloom.versions.repository import Repository


@dataclass(frozen=True)
class Pushed:
    """Bytes that each push but the first added or sent, its milliseconds, and the objects a repetition sent."""

    bytes: list[int]
    ms: list[float]
    repeated: int


def to_folder(work: Path, checkpoints: Iterable[Path]) -> Pushed:
    """Push each round to a folder; the bytes are what the folder grew by."""
    there = work / "there"
    return _pushes(work / "here", there.as_uri(), checkpoints, lambda: folder_bytes(there), there)


def to_hub(work: Path, checkpoints: Iterable[Path]) -> Pushed:
    """Push each round to a hub; the bytes are those of the requests' bodies, as the server counts them."""
    there = work / "there"
    with _serving(Repository.at(there)) as (url, received):
        return _pushes(work / "here", url, checkpoints, lambda: received[0], there)


def _pushes(here: Path, url: str, checkpoints: Iterable[Path], count: Any, there: Path) -> Pushed:
    repository = Repository.at(here)
    add(repository, "origin", url)
    grown, took, repeated = [], [], 0
    for number, path in enumerate(checkpoints, 1):
        commit(here, load_file(path), f"round {number}", repository)
        before = count()
        ms, _ = timed(lambda: push(repository, "origin"))
        grown.append(count() - before)
        took.append(ms)
        repeated += push(repository, "origin").moved.objects
        last = path
    found = Repository.at(there) if Repository.exists_at(there) else Repository(_store(there))
    tip = found.refs.get(HEAD)
    assert tip is not None, "the branch did not arrive"
    require_equal(found.model(tip), load_file(last))
    return Pushed(grown[1:], took[1:], repeated)


def _store(folder: Path) -> Any:
    from fedloom.versions.store import Store

    return Store.on_disk(folder)


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it
        """Say nothing."""


@contextmanager
def _serving(repository: Repository) -> Iterator[tuple[str, list[int]]]:
    hub, received, lock = Hub(repository), [0], threading.Lock()

    def counted(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with lock:
            received[0] += int(environ.get("CONTENT_LENGTH") or 0)
        return hub(environ, start_response)

    server = make_server("127.0.0.1", 0, counted, server_class=_Server, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    import tempfile

    for way in (to_folder, to_hub):
        with tempfile.TemporaryDirectory() as name:
            print(way.__name__, way(Path(name), [Path(path) for path in sys.argv[1:]]))
