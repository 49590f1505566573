r"""Objects of the version store and their canonical bytes: tensor, blob, tree, commit, attestation.

Rules: an object's id is the SHA-256 of its canonical, uncompressed bytes; how those bytes are stored is another
matter and never changes an id. The form of version 1 is the same for every kind:

    b"fedloom <kind> v1\n"  header in RFC 8785 JSON  b"\n"  payload

Only tensors and blobs have a payload. A value has one form only: whatever decodes would encode to the same bytes.
This module is pure: it turns values into bytes and back.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import rfc8785

from fedloom.errors import CorruptObjectError, VersionsError
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

_Value = TypeVar("_Value")
_ID = re.compile(r"[0-9a-f]{64}")
_FOREIGN = "these bytes are not a fedloom object, or were cut off: restore them from a copy"
_JSON_INTEGERS = 2**53  # beyond it a number in JSON is a float (RFC 8785, section 3.2.2.3)


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
    """Names to objects, like a folder. A name is not empty and holds any character but control characters."""

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
    head, payload = _tensor_head(spec.dtype, spec.shape), tensor_bytes(array)
    return Encoded(sha256(head, payload), head, payload)


def encode_blob(data: Buffer) -> Encoded:
    """Encode bytes."""
    return _encode("blob", {"size": len(data)}, data)


def encode_json(value: Any) -> Encoded:
    """Encode a JSON value as a blob in its canonical form; raises VersionsError when it has none, such as NaN."""
    return encode_blob(_canonical(value))


def encode_tree(tree: Tree) -> Encoded:
    """Encode a tree, sorted by name; raises VersionsError for a name that is empty or holds control characters."""
    for name in tree.entries:
        if not _is_name(name):
            raise VersionsError(f"a tree cannot hold the name {name!r}: use text without control characters")
    entries = [[name, entry.kind, entry.id] for name, entry in sorted(tree.entries.items())]
    return _encode("tree", {"entries": entries})


def encode_commit(commit: Commit) -> Encoded:
    """Encode a commit; raises VersionsError when its facts hold what JSON cannot, such as NaN."""
    header = {
        "tree": commit.tree,
        "parents": list(commit.parents),
        "kind": commit.kind,
        "message": commit.message,
        "facts": dict(commit.facts),
    }
    return _encode("commit", header)


def encode_attestation(attestation: Attestation) -> Encoded:
    """Encode an attestation; raises VersionsError when its body holds what JSON cannot, such as NaN."""
    header = {"subject": attestation.subject, "type": attestation.type, "body": dict(attestation.body)}
    return _encode("attestation", header)


def decode_tensor(data: Buffer) -> Tensor:
    """Read a tensor as a read-only view of `data`; raises CorruptObjectError, as every `decode_` does."""
    return _decode("tensor", data, _read_tensor)


def decode_blob(data: Buffer) -> bytes:
    """Read a blob."""
    return _decode("blob", data, _read_blob)


def decode_tree(data: Buffer) -> Tree:
    """Read a tree."""
    return _decode("tree", data, _read_tree)


def decode_commit(data: Buffer) -> Commit:
    """Read a commit."""
    return _decode("commit", data, _read_commit)


def decode_attestation(data: Buffer) -> Attestation:
    """Read an attestation."""
    return _decode("attestation", data, _read_attestation)


def _read_tensor(header: dict[str, Any], payload: memoryview) -> Tensor:
    dtype, shape = _fields(header, "dtype", "shape")
    _demand(dtype in DTYPES, f"upgrade fedloom to read dtype '{dtype}'")
    _demand(type(shape) is list and all(type(n) is int and n >= 0 for n in shape), "its shape is wrong")
    return tensor_from_bytes(TensorSpec("", dtype, tuple(shape)), payload)


def _read_blob(header: dict[str, Any], payload: memoryview) -> bytes:
    (size,) = _fields(header, "size")
    _demand(type(size) is int and size == len(payload), f"{size} bytes are announced, {len(payload)} are there")
    return bytes(payload)


def _read_tree(header: dict[str, Any], payload: memoryview) -> Tree:
    (entries,) = _fields(header, "entries")
    _demand(type(entries) is list, "its entries are no list")
    names = [name for name, _, _ in entries]
    _demand(all(map(_is_name, names)) and names == sorted(set(names)), "its names are wrong or out of order")
    _demand(all(kind in get_args(Kind) and _is_id(id_) for _, kind, id_ in entries), "an entry is wrong")
    _demand(not payload, "something follows its end")
    return Tree({name: Entry(kind, Digest(id_)) for name, kind, id_ in entries})


def _read_commit(header: dict[str, Any], payload: memoryview) -> Commit:
    tree, parents, kind, message, facts = _fields(header, "tree", "parents", "kind", "message", "facts")
    _demand(type(parents) is list and all(map(_is_id, [tree, *parents])), "an id is wrong")
    _demand(kind in get_args(CommitKind), f"upgrade fedloom to read a commit of kind '{kind}'")
    _demand(type(message) is str and type(facts) is dict, "its message or facts are wrong")
    _demand(not payload, "something follows its end")
    return Commit(tree, tuple(parents), kind, message, facts)


def _read_attestation(header: dict[str, Any], payload: memoryview) -> Attestation:
    subject, type_, body = _fields(header, "subject", "type", "body")
    _demand(_is_id(subject) and type(type_) is str and type(body) is dict, "a field is wrong")
    _demand(not payload, "something follows its end")
    return Attestation(subject, type_, body)


def _fields(header: dict[str, Any], *names: str) -> list[Any]:
    _demand(set(header) == set(names), f"its header must hold {', '.join(names)} and nothing else")
    return [header[name] for name in names]


def _demand(holds: bool, otherwise: str) -> None:  # noqa: FBT001  reads as a sentence
    if not holds:
        raise ValueError(otherwise)


def _is_id(text: Any) -> bool:
    return type(text) is str and _ID.fullmatch(text) is not None


def _is_name(name: str) -> bool:
    return bool(name) and not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)


def _encode(kind: Kind, header: Mapping[str, Any], payload: Buffer = b"") -> Encoded:
    head = _head(kind, header)
    return Encoded(sha256(head, payload), head, payload)


def _head(kind: Kind, header: Mapping[str, Any]) -> bytes:
    return f"fedloom {kind} {FORMAT}\n".encode() + _canonical(header) + b"\n"


@lru_cache(maxsize=4096)  # a round names the same few layouts once for every site
def _tensor_head(dtype: str, shape: tuple[int, ...]) -> bytes:
    return _head("tensor", {"dtype": dtype, "shape": list(shape)})


def _canonical(value: Any) -> bytes:
    try:
        return rfc8785.dumps(value)
    except ValueError:
        where = _culprit(value) or "this value"
        allowed = "finite numbers, whole numbers below 2^53, text, true, false, null, lists and objects keyed by text"
        raise VersionsError(f"{where} cannot be stored: JSON holds {allowed}") from None


def _culprit(value: Any) -> str:
    """Find where the part lies that has no canonical form, such as `facts.metrics.loss`."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, part in parts:
        try:
            rfc8785.dumps(part)
        except ValueError:
            return f"{key}.{_culprit(part)}".rstrip(".")
    return ""


def _decode(kind: Kind, data: Buffer, read: Callable[[dict[str, Any], memoryview], _Value]) -> _Value:
    first, rest = _line(memoryview(data))
    words = first.split(b" ")
    if len(words) != 3 or words[0] != b"fedloom":
        raise CorruptObjectError(_FOREIGN)
    found, version = words[1].decode("ascii", "replace"), words[2].decode("ascii", "replace")
    if version != FORMAT:
        raise CorruptObjectError(f"object format {version} is unknown to this fedloom: upgrade fedloom")
    if found != kind:
        raise CorruptObjectError(f"expected {_a(kind)}, found {_a(found)}: check the id")
    line, payload = _line(rest)
    try:
        header = json.loads(line, parse_int=_number)
        _demand(type(header) is dict and rfc8785.dumps(header) == line, "its header is not in canonical form")
        return read(header, payload)
    except (TypeError, ValueError, RecursionError) as error:
        raise CorruptObjectError(f"{_a(kind)} is corrupt: {error}. Restore it from a copy") from None


def _number(digits: str) -> int | float:
    """Read a whole number of JSON as what it was: canonical JSON writes the float 1e20 without an exponent."""
    return int(digits) if abs(float(digits)) < _JSON_INTEGERS else float(digits)


def _a(noun: str) -> str:
    return f"an {noun}" if noun[:1] in "aeiou" else f"a {noun}"


def _line(view: memoryview) -> tuple[bytes, memoryview]:
    """Split at the first newline without copying what follows; canonical JSON holds none itself."""
    window = 256
    while (end := bytes(view[:window]).find(b"\n")) < 0 and window < len(view):
        window *= 8
    if end < 0:
        raise CorruptObjectError(_FOREIGN)
    return bytes(view[:end]), view[end + 1 :]
