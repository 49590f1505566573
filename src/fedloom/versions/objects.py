r"""Objects of the version store and their canonical bytes: tensor, blob, tree, commit, attestation, conflict.

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
from collections.abc import Callable, Collection, Mapping
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
    Tensors,
    TensorSpec,
    sha256,
    tensor_bytes,
    tensor_from_bytes,
    tensor_spec,
)

FORMAT = "v1"
Kind = Literal["tensor", "blob", "tree", "commit", "attestation", "conflict"]
Keep = Literal["stored", "promised", "opaque"]
CommitKind = Literal["import", "train", "round", "merge", "revert"]
PARTS = ("model", "optimizer")
"""The parts of a commit that a recipe makes; everything else of a commit is stored."""

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
    """One line of a tree: what kind of object, under which id, and whether its bytes are meant to be here.

    keep: `stored` here; `promised`: a site keeps the bytes; `opaque`: a commitment, nobody need have the bytes.
    """

    kind: Kind
    id: Digest
    keep: Keep = "stored"


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
    recipe: how its model can be computed anew from other objects; its tensors then need not be stored.
    """

    tree: Digest
    parents: tuple[Digest, ...]
    kind: CommitKind
    message: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """A deterministic way to a commit's model: the tree of the model holds the hashes it must give.

    algorithm: name and version, such as `fold/1` (the merge of a round) or `merge/1` (of branches).
    settings: plain JSON, such as the strategy and its options.
    inputs: what it reads, in order, each with its weight; a round's are its receipts.
    """

    algorithm: str
    settings: Mapping[str, Any]
    inputs: tuple[Input, ...]


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a recipe: a name (the site, the branch), the tree or commit it is, and its weight."""

    name: str
    id: Digest
    weight: float


@dataclass(frozen=True, slots=True)
class Conflict:
    """What a merge could not decide; stands in a tree in place of the value, until it is resolved.

    path: where, such as `model/head.weight`. problem: contested, shape, dtype, add_add, delete_modify, rename,
    no_counts or opaque. base, heads: what each side has there; None where it has nothing. stats: plain JSON that
    helps to decide (cosine of the changes, share of opposite signs, relative norms).
    """

    path: str
    problem: str
    base: Entry | None
    heads: tuple[Entry | None, ...]
    stats: Mapping[str, Any] = field(default_factory=dict)


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


def named(tensors: Tensors) -> Tree:
    """Make the tree that names tensors by their ids, without storing anything."""
    return Tree({name: Entry("tensor", encode_tensor(array).id) for name, array in tensors.items()})


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
    entries = [[name, *_line_of(entry)] for name, entry in sorted(tree.entries.items())]
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
    if commit.recipe is not None:
        inputs = [[part.name, part.id, part.weight] for part in commit.recipe.inputs]
        recipe = {"algorithm": commit.recipe.algorithm, "settings": dict(commit.recipe.settings), "inputs": inputs}
        header["recipe"] = recipe
    return _encode("commit", header)


def encode_conflict(conflict: Conflict) -> Encoded:
    """Encode a conflict; raises VersionsError when its stats hold what JSON cannot, such as NaN."""
    sides = [None if side is None else _line_of(side) for side in (conflict.base, *conflict.heads)]
    header = {
        "path": conflict.path,
        "problem": conflict.problem,
        "base": sides[0],
        "heads": sides[1:],
        "stats": dict(conflict.stats),
    }
    return _encode("conflict", header)


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


def decode_conflict(data: Buffer) -> Conflict:
    """Read a conflict."""
    return _decode("conflict", data, _read_conflict)


DECODERS: Mapping[Kind, Callable[[Buffer], Any]] = {
    "tensor": decode_tensor,
    "blob": decode_blob,
    "tree": decode_tree,
    "commit": decode_commit,
    "attestation": decode_attestation,
    "conflict": decode_conflict,
}


def decode(data: Buffer) -> tuple[Kind, Any]:
    """Read an object of whatever kind it is; gives the kind and the value."""
    kind = kind_of(data)
    return kind, DECODERS[kind](data)


def kind_of(data: Buffer) -> Kind:
    """Say what kind of object these canonical bytes are; raises CorruptObjectError."""
    first, _ = _line(memoryview(data))
    return _kind(first)


def _read_tensor(header: dict[str, Any], payload: memoryview) -> Tensor:
    dtype, shape = _fields(header, "dtype", "shape")
    _known("dtype", dtype, DTYPES)
    _demand(type(shape) is list and all(type(n) is int and n >= 0 for n in shape), "its shape is wrong")
    return tensor_from_bytes(TensorSpec("", dtype, tuple(shape)), payload)


def _read_blob(header: dict[str, Any], payload: memoryview) -> bytes:
    (size,) = _fields(header, "size")
    _demand(type(size) is int and size == len(payload), f"{size} bytes are announced, {len(payload)} are there")
    return bytes(payload)


def _read_tree(header: dict[str, Any], payload: memoryview) -> Tree:
    (entries,) = _fields(header, "entries")
    _demand(type(entries) is list, "its entries are no list")
    names = [name for name, *_ in entries]
    _demand(all(map(_is_name, names)) and names == sorted(set(names)), "its names are wrong or out of order")
    _demand(not payload, "something follows its end")
    return Tree({name: _entry_of(line) for name, *line in entries})


def _read_commit(header: dict[str, Any], payload: memoryview) -> Commit:
    names = ("tree", "parents", "kind", "message", "facts")
    tree, parents, kind, message, facts, *recipe = _fields(header, *names, *(("recipe",) if "recipe" in header else ()))
    _demand(type(parents) is list and all(map(is_id, [tree, *parents])), "an id is wrong")
    _known("a commit of kind", kind, get_args(CommitKind))
    _demand(type(message) is str and type(facts) is dict, "its message or facts are wrong")
    _demand(not payload, "something follows its end")
    return Commit(tree, tuple(parents), kind, message, facts, _recipe_of(recipe[0]) if recipe else None)


def _recipe_of(header: Any) -> Recipe:
    _demand(type(header) is dict, "its recipe is wrong")
    algorithm, settings, inputs = _fields(header, "algorithm", "settings", "inputs")
    _demand(type(algorithm) is str and type(settings) is dict and type(inputs) is list, "its recipe is wrong")
    _demand(all(type(n) is str and is_id(i) and type(w) in (int, float) for n, i, w in inputs), "its recipe is wrong")
    return Recipe(algorithm, settings, tuple(Input(name, Digest(id_), weight) for name, id_, weight in inputs))


def _read_conflict(header: dict[str, Any], payload: memoryview) -> Conflict:
    path, problem, base, heads, stats = _fields(header, "path", "problem", "base", "heads", "stats")
    _demand(
        type(path) is str and type(problem) is str and type(heads) is list and type(stats) is dict, "a field is wrong"
    )
    _demand(not payload, "something follows its end")
    sides = [None if side is None else _entry_of(side) for side in (base, *heads)]
    return Conflict(path, problem, sides[0], tuple(sides[1:]), stats)


def _line_of(entry: Entry) -> list[str]:
    """Write an entry as a tree does: `stored` goes without saying."""
    return [entry.kind, entry.id, *([] if entry.keep == "stored" else [entry.keep])]


def _entry_of(line: Any) -> Entry:
    _demand(type(line) is list and len(line) in (2, 3) and is_id(line[1]), "an entry is wrong")
    kind, id_, *keep = line
    _known("an entry of kind", kind, get_args(Kind))
    for word in keep:
        _known("an entry that is", word, get_args(Keep)[1:])
    return Entry(kind, Digest(id_), keep[0] if keep else "stored")


def _read_attestation(header: dict[str, Any], payload: memoryview) -> Attestation:
    subject, type_, body = _fields(header, "subject", "type", "body")
    _demand(is_id(subject) and type(type_) is str and type(body) is dict, "a field is wrong")
    _demand(not payload, "something follows its end")
    return Attestation(subject, type_, body)


def _fields(header: dict[str, Any], *names: str) -> list[Any]:
    _demand(header.keys() >= set(names), f"its header must hold {', '.join(names)}")
    for name in header:
        _known("field", name, names)
    return [header[name] for name in names]


def _known(what: str, word: Any, known: Collection[str]) -> None:
    """Tell what a newer fedloom wrote from what is broken."""
    if word not in known:
        raise _NewerError(f"{what} '{word}' is unknown to this fedloom: upgrade fedloom")


class _NewerError(ValueError):
    """Bytes that may well be whole, but are not understood."""


def _demand(holds: bool, otherwise: str) -> None:  # noqa: FBT001  reads as a sentence
    if not holds:
        raise ValueError(otherwise)


def is_id(text: Any) -> bool:
    """Whether this is an id in its only form: what comes from elsewhere is asked before it is looked up."""
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
    found = _kind(first)
    if found != kind:
        raise CorruptObjectError(f"expected {_a(kind)}, found {_a(found)}: check the id")
    line, payload = _line(rest)
    try:
        header = json.loads(line, parse_int=_number)
        _demand(type(header) is dict and rfc8785.dumps(header) == line, "its header is not in canonical form")
        return read(header, payload)
    except _NewerError as error:
        raise CorruptObjectError(f"{_a(kind)}: {error}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise CorruptObjectError(f"{_a(kind)} is corrupt: {error}. Restore it from a copy") from None


def _kind(first: bytes) -> Kind:
    """Read the kind from an object's first line."""
    words = first.split(b" ")
    if len(words) != 3 or words[0] != b"fedloom":
        raise CorruptObjectError(_FOREIGN)
    kind, version = words[1].decode("ascii", "replace"), words[2].decode("ascii", "replace")
    if version != FORMAT or kind not in get_args(Kind):
        raise CorruptObjectError(f"object format '{kind} {version}' is unknown to this fedloom: upgrade fedloom")
    return kind  # type: ignore[return-value]  # it is one of them


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
