"""Signed statements, pure: DSSE v1 envelopes over in-toto Statement v1.

Rules: what is signed is the payload together with its type (the spec's PAE), never the JSON of the envelope; the
bytes of a payload are read as a statement only after a signature over them held.
Specifications: github.com/secure-systems-lab/dsse (protocol.md, v1.0.0), in-toto.io/Statement/v1.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rfc8785

from fedloom.values import Digest

STATEMENT = "https://in-toto.io/Statement/v1"
IN_TOTO = "application/vnd.in-toto+json"
"""The payload type of an envelope that holds a statement."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature of an envelope; `key` says which key to try, and proves nothing."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload, what kind it is, and who signed both."""

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...]

    def as_json(self) -> dict[str, Any]:
        """Turn into the JSON form of the spec."""
        signatures = [{"keyid": one.key, "sig": _text(one.value)} for one in self.signatures]
        return {"payload": _text(self.payload), "payloadType": self.payload_type, "signatures": signatures}


def pae(payload_type: str, payload: bytes) -> bytes:
    """Give the bytes that are signed: `DSSEv1 LEN(type) type LEN(payload) payload` (protocol.md, "PAE").

    >>> pae("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(value: Mapping[str, Any], key: str, sign: Callable[[bytes], bytes], payload_type: str = IN_TOTO) -> Envelope:
    """Sign a JSON value in its canonical form (RFC 8785); `sign` signs bytes with the key that `key` names."""
    payload = rfc8785.dumps(dict(value))
    return Envelope(payload, payload_type, (Signature(key, sign(pae(payload_type, payload))),))


def read_envelope(value: Any) -> Envelope:
    """Read an envelope's JSON form; raises ValueError when it is none."""
    try:
        signatures = tuple(Signature(_string(one.get("keyid", "")), _bytes(one["sig"])) for one in value["signatures"])
        return Envelope(_bytes(value["payload"]), _string(value["payloadType"]), signatures)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError("it is no DSSE envelope") from None


def statement(
    subjects: Sequence[tuple[str, Digest]], predicate_type: str, predicate: Mapping[str, Any]
) -> dict[str, Any]:
    """Say something about named digests, as an in-toto statement."""
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }


def read_statement(envelope: Envelope, predicate_type: str) -> dict[str, Any]:
    """Read the statement of an envelope whose signature held; raises ValueError when it is of another kind."""
    if envelope.payload_type != IN_TOTO:
        raise ValueError(f"payload type '{envelope.payload_type}' is unknown to this fedloom")
    try:
        value = json.loads(envelope.payload)
        found = value["_type"], value["predicateType"]
        well_formed = isinstance(value["subject"], list) and isinstance(value["predicate"], dict)
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ValueError("its payload is no in-toto statement") from None
    if found != (STATEMENT, predicate_type) or not well_formed:
        raise ValueError(f"its statement is no '{predicate_type}'")
    return dict(value)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _bytes(text: Any) -> bytes:
    """Read base64 in its standard or URL-safe alphabet: the spec lets a verifier accept either."""
    try:
        return base64.b64decode(_string(text).replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error:
        raise ValueError from None
