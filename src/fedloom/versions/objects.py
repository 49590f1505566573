r"""Objects of the version store and their canonical bytes: tensor, blob, tree, commit, attestation.

Rules: an object's id is the SHA-256 of its canonical, uncompressed bytes; how those bytes are stored is another
matter and never changes an id. The form of version 1 is the same for every kind:

    b"fedloom <kind> v1\n"  header in RFC 8785 JSON  b"\n"  payload

Only tensors and blobs have a payload. This module is pure: it turns values into bytes and back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import rfc8785

from fedloom.errors import CorruptObjectError
from fedloom.values import (
    DTYPES,
    Buffer,
    Digest,
    Tensor,
    TensorSpec,
    sha256,
    tensor_bytes,
    tensor_from_bytes,
    tensor_spec,
)

FORMAT = "v1"
Kind = Literal["tensor", "blob", "tree", "commit", "attestation"]
CommitKind = Literal["import", "train", "round", "merge", "revert"]


class Encoded(NamedTuple):
    """An object ready to be stored: its id, and its canonical bytes in two parts."""

    id: Digest
    header: bytes
    payload: Buffer


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a tree: what kind of object, under which id."""

    kind: Kind
    id: Digest


@dataclass(frozen=True, slots=True)
class Tree:
    """Names to objects, like a folder. A name may hold any character but control characters."""

    entries: Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Commit:
    """One version of a federated model.

    tree: everything it consists of (model, optimizer, preprocessing, inputs, receipts).
    parents: the base first; a round has one, a merge of branches several, an import none.
    facts: plain JSON about how it came to be: pipeline, round, seed, strategy, participation, metrics, codec,
    privacy. Never a clock time or a duration: the same work must give the same id (the recorder keeps times).
    """

    tree: Digest
    parents: tuple[Digest, ...]
    kind: CommitKind
    message: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attestation:
    """A statement about a commit made after it was written, such as an evaluation or a gate's verdict."""

    subject: Digest
    type: str
    body: Mapping[str, Any]


def encode_tensor(array: Tensor) -> Encoded:
    """Encode one array; its name is not part of it, so equal tensors are stored once."""
    spec = tensor_spec("", array)
    return _encode("tensor", {"dtype": spec.dtype, "shape": list(spec.shape)}, tensor_bytes(array))


def encode_blob(data: Buffer) -> Encoded:
    """Encode bytes."""
    return _encode("blob", {"size": len(data)}, data)


def encode_json(value: Any) -> Encoded:
    """Encode a JSON value as a blob in its canonical form."""
    return encode_blob(rfc8785.dumps(value))


def encode_tree(tree: Tree) -> Encoded:
    """Encode a tree; entries are sorted by name."""
    for name in tree.entries:
        if not name or any(ord(character) < 32 for character in name):
            raise ValueError(f"a tree cannot hold the name {name!r}")
    entries = [[name, entry.kind, entry.id] for name, entry in sorted(tree.entries.items())]
    return _encode("tree", {"entries": entries})


def encode_commit(commit: Commit) -> Encoded:
    """Encode a commit."""
    return _encode("commit", {**asdict(commit), "parents": list(commit.parents)})


def encode_attestation(attestation: Attestation) -> Encoded:
    """Encode an attestation."""
    return _encode("attestation", asdict(attestation))


def decode_tensor(data: Buffer) -> Tensor:
    """Read a tensor as a read-only view of `data`."""
    header, payload = _decode("tensor", data)
    if header["dtype"] not in DTYPES:
        raise CorruptObjectError(f"tensor has unknown dtype '{header['dtype']}': upgrade fedloom to read it")
    return tensor_from_bytes(TensorSpec("", header["dtype"], tuple(header["shape"])), payload)


def decode_blob(data: Buffer) -> bytes:
    """Read a blob."""
    return bytes(_decode("blob", data)[1])


def decode_tree(data: Buffer) -> Tree:
    """Read a tree."""
    header, _ = _decode("tree", data)
    return Tree({name: Entry(kind, Digest(id_)) for name, kind, id_ in header["entries"]})


def decode_commit(data: Buffer) -> Commit:
    """Read a commit."""
    header, _ = _decode("commit", data)
    return Commit(**{**header, "parents": tuple(header["parents"])})


def decode_attestation(data: Buffer) -> Attestation:
    """Read an attestation."""
    return Attestation(**_decode("attestation", data)[0])


def _encode(kind: Kind, header: Mapping[str, Any], payload: Buffer = b"") -> Encoded:
    head = f"fedloom {kind} {FORMAT}\n".encode() + rfc8785.dumps(dict(header)) + b"\n"
    return Encoded(sha256(head, payload), head, payload)


def _decode(kind: Kind, data: Buffer) -> tuple[dict[str, Any], memoryview]:
    view = memoryview(data)
    first, rest = _line(view)
    words = first.split(b" ")
    if len(words) != 3 or words[0] != b"fedloom":
        raise CorruptObjectError("these bytes are not a fedloom object; was the file written by another tool?")
    found, version = words[1].decode("ascii", "replace"), words[2].decode("ascii", "replace")
    if version != FORMAT:
        raise CorruptObjectError(f"object format {version} is newer than this fedloom reads: upgrade fedloom")
    if found != kind:
        raise CorruptObjectError(f"expected a {kind}, found a {found}: check the id")
    header, payload = _line(rest)
    return json.loads(header), payload


def _line(view: memoryview) -> tuple[bytes, memoryview]:
    """Split at the first newline without copying what follows; canonical JSON holds none itself."""
    window = 256
    while (end := bytes(view[:window]).find(b"\n")) < 0 and window < len(view):
        window *= 8
    if end < 0:
        raise CorruptObjectError("these bytes are not a fedloom object; was the file written by another tool?")
    return bytes(view[:end]), view[end + 1 :]
