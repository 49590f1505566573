"""The hub's protocol: what a hostile or broken client or server may say, and the sentences that answer it."""

import json
import socket
import struct
from threading import Thread
from wsgiref.simple_server import WSGIRequestHandler, make_server

import httpx
import numpy as np
import pytest

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
from fedloom.versions import objects
from fedloom.versions.objects import Commit, Entry
from fedloom.versions.remotes import wire
from fedloom.versions.remotes.http_client import HttpRemote
from fedloom.versions.remotes.http_server import Hub
from fedloom.versions.remotes.remote import Parcel, Want
from tests.versions.remotes.histories import commit, everything, model, repository, rounds
from tests.versions.remotes.places import hub


@pytest.fixture
def there(tmp_path):
    return repository(tmp_path / "hub")


@pytest.fixture
def url(there):
    with hub(there, limits=wire.Limits(object=200_000, question=20_000, ids=200)) as url:
        yield url


def frame(id_, stored, kind=0) -> bytes:
    return struct.pack("<B32sQ", kind, bytes.fromhex(id_), len(stored)) + stored


def parcel_of(encoded, like=None) -> Parcel:
    return Parcel(encoded.id, b"".join([encoded.header, encoded.payload]), like)


def packed(encoded) -> bytes:
    return b"".join(wire.pack(parcel_of(encoded), None))


def said(answer) -> str:
    """Hold a refusal to its form: JSON with one sentence."""
    told = answer.json()
    assert set(told) == {"error", "kind"}
    assert "\n" not in told["error"]
    assert "Traceback" not in answer.text
    return told["error"]


QUESTIONS = [
    ("GET", "/v2/refs", b"", 404, "protocol 1 only"),
    ("GET", "/", b"", 404, "protocol 1 only"),
    ("GET", "/v1/nonsense", b"", 404, "no such path"),
    ("GET", "/v1/objects/../../refs", b"", 404, ""),
    ("GET", "/v1/%2e%2e/%2e%2e/etc/passwd", b"", 404, "no such path"),
    ("DELETE", "/v1/refs", b"", 405, "not for DELETE"),
    ("GET", "/v1/refs", b"", 400, "by a prefix"),
    ("GET", "/v1/refs?prefix=settings/", b"", 400, "by a prefix"),
    ("GET", "/v1/refs?prefix=heads/../../x", b"", 400, "by a prefix"),
    ("POST", "/v1/missing", b"nonsense", 400, "a JSON object"),
    ("POST", "/v1/missing", b"[]", 400, "a JSON object"),
    ("POST", "/v1/missing", b"{}", 400, "ids come as a list"),
    ("POST", "/v1/missing", b'{"ids": ["../../etc/passwd"]}', 400, "64 lower-case hexadecimal digits"),
    ("POST", "/v1/missing", b'{"ids": [3]}', 400, "64 lower-case hexadecimal digits"),
    ("POST", "/v1/missing", json.dumps({"ids": ["a" * 64] * 201}).encode(), 413, "ask in parts"),
    ("POST", "/v1/missing", b" " * 20_001, 413, "ask in parts"),
    ("POST", "/v1/walk", json.dumps({"tips": ["a" * 64], "without": []}).encode(), 404, "missing"),
    ("POST", "/v1/objects/get", b'{"wants": [["a"]]}', 400, "list of [id, earlier id or null]"),
    ("POST", "/v1/objects/get", json.dumps({"wants": [["a" * 64, None]] * 201}).encode(), 413, "ask in parts"),
    ("POST", "/v1/refs/move", b'{"name": "heads/x"}', 400, "an old and a new id"),
    ("POST", "/v1/refs/move", b'{"name": "heads/../x", "new": "a", "why": "w"}', 400, "an old and a new id"),
    ("POST", "/v1/refs/move", json.dumps({"name": "heads/x", "new": None, "why": ""}).encode(), 400, "hexadecimal"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "told"), QUESTIONS)
def test_whatever_is_asked_wrongly_is_answered_in_a_sentence(url, there, method, path, body, status, told):
    """Unknown paths, versions and fields, and what leaves the repository, are refused; nothing is kept."""
    address = url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1]))) as line:  # httpx would tidy the path
        line.sendall(f"{method} {path} HTTP/1.0\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        line.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: line.recv(65536), b""))
    head, _, text = answer.partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status, answer
    assert told in json.loads(text)["error"]
    assert everything(there) == {}


def post(url, body, **headers):
    return httpx.post(f"{url}/v1/objects/put", content=body, headers=headers)


def test_what_does_not_match_its_id_is_not_kept_and_what_came_before_is(url, there):
    """Objects are checked one by one as they come."""
    good, bad = objects.encode_blob(b"good"), objects.encode_blob(b"bad")
    answer = post(url, packed(good) + frame(bad.id, packed(good)[41:]) + packed(bad))
    assert answer.status_code == 422
    assert "are not its own" in said(answer)
    assert set(everything(there)) == {good.id}


def tampered(name) -> bytes:
    """Make bodies that are no whole objects."""
    blob = objects.encode_blob(b"x" * 5000)
    whole = packed(blob)
    foreign = b"fedloom model v1\n{}\n"
    newer = b"fedloom tensor v2\n{}\n"
    other = {
        "cut in a header": whole[:20],
        "cut in a body": whole[:-5],
        "no stored form": frame(blob.id, b"nonsense" * 10),
        "unknown kind of frame": frame(blob.id, b"x", kind=9),
        "unknown encoding": frame(blob.id, b"fls\x09" + whole[45:]),
        "a flipped bit": whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:],
        "unknown kind of object": packed_bytes(foreign),
        "newer format": packed_bytes(newer),
        "too large": struct.pack("<B32sQ", 0, bytes(32), 1 << 40),
        "unfolds too large": packed(objects.encode_blob(bytes(300_000))),
    }
    return other[name]


def packed_bytes(data) -> bytes:
    from fedloom.values import sha256
    from fedloom.versions import encoding

    return frame(sha256(data), b"".join(encoding.encode(data, b"")))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("cut in a header", "cut off"),
        ("cut in a body", "cut off"),
        ("no stored form", "not fedloom's"),
        ("unknown kind of frame", "upgrade fedloom"),
        ("unknown encoding", "upgrade fedloom"),
        ("a flipped bit", "object "),
        ("unknown kind of object", "upgrade fedloom"),
        ("newer format", "upgrade fedloom"),
        ("too large", "larger than the 200000 that are taken here"),
        ("unfolds too large", "larger than the 200000 that are taken here"),
    ],
)
def test_what_is_no_whole_object_is_refused(url, there, name, told):
    """Cut, foreign, newer, damaged or too large: a sentence says which, and nothing is kept."""
    answer = post(url, tampered(name))
    assert answer.status_code in (400, 422)
    assert told in said(answer)
    assert everything(there) == {}


def test_a_commit_with_holes_is_not_kept(url, there):
    """A commit is refused while its tree, a tensor or a parent is not here; promised and opaque are not asked for."""
    near = repository()
    ids = rounds(near, 1)
    remote = HttpRemote(url, near.database)
    with pytest.raises(VersionsError, match=r"names \d+ objects that are not here: send them first"):
        remote.put([Parcel(ids[1], near.database.get(ids[1]))])
    entry = near.part(ids[0], "model")
    remote.put([Parcel(id_, data) for id_, data in everything(near).items() if id_ not in (*ids, entry.id)])
    with pytest.raises(VersionsError, match="names 1 objects that are not here"):
        remote.put([Parcel(ids[0], near.database.get(ids[0]))])
    remote.put([Parcel(entry.id, near.database.get(entry.id))])
    with pytest.raises(VersionsError, match="names 1 objects that are not here"):
        remote.put([Parcel(ids[1], near.database.get(ids[1]))])
    assert not set(ids) & set(everything(there))
    opaque = near.add_tree({"receipts": Entry("tree", ids[0], "opaque"), "kept": Entry("tree", ids[1], "promised")})
    bare = objects.encode_commit(Commit(opaque.id, (), "import", "m"))
    remote.put([Parcel(opaque.id, near.database.get(opaque.id)), parcel_of(bare)])
    assert there.has(bare.id)
    remote.close()


def test_a_tombstone_does_not_bury_what_is_here(url, there):
    """Who says that an object was erased cannot erase it here."""
    kept = there.add_blob(b"kept").id
    there.database.flush()
    remote = HttpRemote(url, there.database)
    remote.put([Parcel(kept, b"{}", erased=True)])
    assert [parcel.erased for parcel in remote.get([Want(kept)])] == [False]
    remote.close()


def test_the_token_is_asked_for_and_never_said(there):
    """Without the token, or with another, every path answers 401; the sentence says what to do and no token."""
    with hub(there, token="the right one") as url:  # noqa: S106  of a server on loopback
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "Basic dGhl"},
            {"authorization": "Bearer ü"},
        ):
            answer = httpx.get(f"{url}/v1/refs?prefix=heads/", headers={k: v.encode() for k, v in headers.items()})
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert "token-file" in said(answer)
            assert "right" not in answer.text
        remote = HttpRemote(url, there.database, "wrong")
        with pytest.raises(WireError, match="wants a token"):
            remote.refs("heads/")
        remote.close()
        remote = HttpRemote(url, there.database, "the right one")
        assert remote.refs("heads/") == {}
        remote.close()


def test_a_conflict_is_409_and_a_gate_403(url, there):
    """Statuses say what kind of refusal it was, for clients that are not fedloom."""
    near = repository()
    root = rounds(near, 1)
    merge = commit(near, model(3), *root[::-1], kind="merge")
    remote = HttpRemote(url, near.database)
    remote.put(sorted((Parcel(*item) for item in everything(near).items()), key=lambda p: order(p, near)))

    def move(old, new):
        return httpx.post(f"{url}/v1/refs/move", json={"name": "heads/main", "old": old, "new": new, "why": "test"})

    assert move(None, root[0]).status_code == 200
    assert move(None, root[1]).status_code == 409
    assert "points to" in said(move(None, root[1]))
    assert move(root[0], merge).status_code == 403
    assert "never measured" in said(move(root[0], merge))
    remote.close()


def order(parcel, near):
    kind = objects.kind_of(parcel.data)
    depth = sum(1 for _ in near.log(parcel.id)) if kind == "commit" else 0
    return ["tensor", "blob", "tree", "commit"].index(kind), depth


@pytest.mark.parametrize(
    "kind", [ConflictError, CorruptObjectError, GateError, NotFoundError, StorageError, VersionsError, WireError]
)
def test_errors_keep_their_kind_and_exit_code(kind):
    """What the hub raises is raised at the client as the same kind of error, in one line."""
    error = wire.error_of(wire.error_json(kind("one sentence:\nwhat to do")), "otherwise")
    assert (type(error), str(error)) == (kind, "one sentence: what to do")


@pytest.mark.parametrize(
    "value", [None, [], {}, {"error": 3}, {"error": "x", "kind": "KeyboardInterrupt"}, {"kind": "x"}]
)
def test_a_strange_answer_is_no_more_than_an_error(value):
    """Whatever a server says, the client raises one of its own errors."""
    assert type(wire.error_of(value, "otherwise")) is WireError


class _Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


def served(app):
    """Serve a WSGI application that is no hub."""
    server = make_server("127.0.0.1", 0, app, handler_class=_Quiet)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server


def answering(status, kind, body):
    def app(environ, start_response):
        start_response(status, [("Content-Type", kind)])
        return [body]

    return app


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        ("200 OK", "text/html", b"<html>"),
        ("200 OK", "application/json", b"[]"),
        ("200 OK", "application/json", b'{"refs": 3, "missing": 4}'),
        ("200 OK", "application/json", b'{"refs": {"heads/main": "x"}, "missing": ["x"]}'),
        ("500 Oops", "text/html", b"<html>"),
        ("302 Found", "text/html", b""),
        ("200 OK", wire.FRAMES, b"nonsense" * 20),
    ],
)
def test_who_is_no_hub_is_told_so(status, kind, body):
    """A server that answers something else - a login page, another service - ends every verb in one sentence."""
    near = repository()
    encoded = objects.encode_blob(b"x")
    server = served(answering(status, kind, body))
    remote = HttpRemote(f"http://127.0.0.1:{server.server_port}", near.database)
    verbs = [
        lambda: remote.refs("heads/"),
        lambda: remote.missing([encoded.id]),
        lambda: list(remote.get([Want(encoded.id)])),
        lambda: list(remote.walk([encoded.id], [])),
    ]
    for verb in verbs:
        with pytest.raises(FedloomError) as caught:
            verb()
        assert "\n" not in str(caught.value)
    remote.close()
    server.shutdown()
    server.server_close()


def test_an_error_in_the_middle_of_a_stream_is_heard(there, url):
    """Where the hub finds a damaged object while it sends, the client hears which, and keeps what came before."""
    good, bad = (there.add_tensors({"w": np.full(20_000, n, np.float32)}) for n in (1, 2))
    there.database.flush()
    ids = [there.tree(entry.id)["w"].id for entry in (good, bad)]
    path = f"objects/{ids[1][:2]}/{ids[1]}"
    stored = there.store.get(path)
    there.store.replace(path, [stored[:-1], bytes([stored[-1] ^ 1])])
    remote = HttpRemote(url, repository().database)
    got = remote.get([Want(id_) for id_ in ids])
    assert next(got).id == ids[0]
    with pytest.raises(CorruptObjectError, match=rf"{ids[1][:12]}"):
        next(got)
    remote.close()


def test_a_base_that_is_gone_is_no_obstacle(there, url):
    """Where the version that a difference is to was erased on the other side, the whole is sent instead."""
    near = repository()
    ids = rounds(near, 1)
    old, new = (near.tree(near.part(id_, "model").id)["head.3.w"].id for id_ in ids)
    remote = HttpRemote(url, near.database)
    remote.put([Parcel(new, near.database.get(new), old)])
    assert there.has(new)
    (parcel,) = remote.get([Want(new, old)])
    assert parcel.like is None
    there.database.put(objects.encode_tensor(near.tensor(old)))
    there.database.flush()
    (parcel,) = remote.get([Want(new, old)])
    assert parcel.like == old
    bare = HttpRemote(url, repository().database)
    (parcel,) = bare.get([Want(new, old)])
    assert bytes(parcel.data) == bytes(near.database.get(new))
    bare.close()
    remote.close()


def test_nobody_at_the_address_is_told_so():
    """A refused connection is one sentence that names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    remote = HttpRemote(f"http://127.0.0.1:{port}", repository().database)
    with pytest.raises(VersionsError, match=rf"http://127.0.0.1:{port} cannot be reached"):
        remote.refs("heads/")
    remote.close()


def test_a_request_says_how_long_it_is(there):
    """A body of unknown length is refused: nothing tells where it ends."""
    heard = []
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/v1/missing"}
    (answer,) = Hub(there)(environ, lambda status, headers: heard.append(status))
    assert heard == ["411 Length Required"]
    assert "Content-Length" in json.loads(answer)["error"]


def test_frames_of_version_1_are_these_bytes():
    """Golden bytes of a stored object, a tombstone and an error: what other clients and later versions read."""
    blob = objects.encode_blob(b"hello")
    assert packed(blob).hex() == (
        f"00{blob.id}3800000000000000"
        "666c7300200000000000000020000000000000001f2c10e2"
        "6665646c6f6f6d20626c6f622076310a7b2273697a65223a357d0a68656c6c6f"
    )
    assert b"".join(wire.pack(Parcel(blob.id, b"{}", erased=True), None)).hex() == f"01{blob.id}02000000000000007b7d"
    told = b'{"error": "no", "kind": "WireError"}'
    assert b"".join(wire.failed(WireError("no"))) == b"\x02" + bytes(32) + struct.pack("<Q", len(told)) + told
