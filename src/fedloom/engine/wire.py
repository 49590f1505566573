"""The bytes of a message, both ways: a header in JSON, tensors, and a checksum.

Layout of version 1 (integers little-endian):

    4 bytes  b"FLM1"
    4 bytes  length of the header in bytes
    header   JSON, keys sorted, no spaces: {"body": …, "round": …, "tensors": [[name, dtype, shape], …], "verb": …}
    padding  zero bytes up to a multiple of 8
    payload  each tensor's canonical bytes in header order, each padded to a multiple of 8
    32 bytes SHA-256 of everything before

Whatever varies from round to round (losses, counts) travels as a tensor, so a message's size is known to the plan.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from fedloom.errors import WireError
from fedloom.values import Buffer, Layout, Tensor, Tensors, TensorSpec, layout, tensor_bytes, tensor_from_bytes

MAGIC = b"FLM1"
_CHECKSUM = 32
_PREFIX = struct.Struct("<4sI")


@dataclass(frozen=True, slots=True)
class Message:
    """One message: what it is about (`verb`, `round`), small facts (`body`, plain JSON) and tensors."""

    verb: str
    round: int
    body: Mapping[str, Any] = field(default_factory=dict)
    tensors: Tensors = field(default_factory=dict)


def encode(message: Message) -> memoryview:
    """Write a message; one allocation of the final size, each tensor copied once."""
    return _encode(message, dict(message.tensors))


def encode_and_release(message: Message) -> memoryview:
    """Write a message and empty its tensors on the way, so that a large model is never in memory twice.

    The message must own a dict nobody else needs.
    """
    return _encode(message, cast("dict[str, Tensor]", message.tensors))


def _encode(message: Message, tensors: dict[str, Tensor]) -> memoryview:
    specs = layout(tensors)
    header = _header(message.verb, message.round, message.body, specs)
    # Not a bytearray: that would touch every page at once, and the tensors could not make room for them.
    out = np.zeros(_size(header, specs), np.uint8).data
    _PREFIX.pack_into(out, 0, MAGIC, len(header))
    out[_PREFIX.size : _PREFIX.size + len(header)] = header
    position = _pad(_PREFIX.size + len(header))
    for spec in specs:
        out[position : position + spec.nbytes] = tensor_bytes(tensors.pop(spec.name))
        position = _pad(position + spec.nbytes)
    out[position:] = hashlib.sha256(out[:position]).digest()
    return out


def encoded_size(verb: str, round_number: int, body: Mapping[str, Any], specs: Layout) -> int:
    """Size in bytes that `encode` will give, without the tensors themselves."""
    return _size(_header(verb, round_number, body, specs), specs)


def decode(data: Buffer) -> Message:
    """Read a message; tensors are read-only views of `data`.

    Raises WireError when it is truncated, altered, or written by another version.
    """
    view = memoryview(data).toreadonly()
    if len(view) < _PREFIX.size + _CHECKSUM:
        raise WireError(f"message of {len(view)} bytes is truncated; ask the site to send it again")
    magic, header_length = _PREFIX.unpack_from(view)
    if magic != MAGIC:
        raise WireError(f"message starts with {magic!r}, not {MAGIC!r}: both ends must run the same fedloom")
    end = len(view) - _CHECKSUM
    if hashlib.sha256(view[:end]).digest() != view[end:]:
        raise WireError("message does not match its checksum: it was altered or truncated on the way")
    try:
        return _read(view[:end], header_length)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # The checksum has no key: whoever writes a message can make a right one over anything.
        raise WireError("message is not what this fedloom writes: both ends must run the same fedloom") from None


def _read(view: memoryview, header_length: int) -> Message:
    header = json.loads(bytes(view[_PREFIX.size : _PREFIX.size + header_length]))
    verb, number, body = header["verb"], header["round"], header["body"]
    if type(verb) is not str or type(number) is not int or type(body) is not dict:
        raise TypeError(verb)
    tensors: dict[str, Tensor] = {}
    position = _pad(_PREFIX.size + header_length)
    for name, dtype, shape in header["tensors"]:
        if type(name) is not str or name in tensors or any(type(length) is not int or length < 0 for length in shape):
            raise TypeError(name)
        spec = TensorSpec(name, dtype, tuple(shape))
        tensors[name] = tensor_from_bytes(spec, view[position : position + spec.nbytes])
        position = _pad(position + spec.nbytes)
    return Message(verb, number, body, tensors)


def _header(verb: str, round_number: int, body: Mapping[str, Any], specs: Layout) -> bytes:
    tensors = [[spec.name, spec.dtype, list(spec.shape)] for spec in specs]
    header: dict[str, Any] = {"body": dict(body), "round": round_number, "tensors": tensors, "verb": verb}
    return json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _size(header: bytes, specs: Layout) -> int:
    payload = sum(_pad(spec.nbytes) for spec in specs)
    return _pad(_PREFIX.size + len(header)) + payload + _CHECKSUM


def _pad(length: int) -> int:
    return (length + 7) // 8 * 8
