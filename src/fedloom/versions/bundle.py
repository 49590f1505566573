r"""The form of a bundle: many small stored objects in one file, each to be read by a range.

    "flb" 1 (1 byte)  number of objects (4)
    for each object, sorted by id: id (32)  size (4)
    CRC-32 of the above (4)
    the stored forms, in the same order

Numbers are little-endian. A bundle is named by the SHA-256 of its content, so the same objects are one file, whoever
writes it. Rules: this module is pure, and what it reads may be hostile.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from fedloom.errors import CorruptObjectError
from fedloom.values import Buffer, Digest, sha256

START_SIZE = 8

_MAGIC = b"flb\x01"
_START = struct.Struct("<4sI")
_ENTRY = struct.Struct("<32sI")
_CRC = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Span:
    """Where in its bundle a stored object lies."""

    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Index:
    """What a bundle holds, and how large the whole file is."""

    spans: Mapping[Digest, Span]
    size: int


def pack(items: Mapping[Digest, Buffer]) -> tuple[Digest, bytes]:
    """Put stored objects into one bundle; gives its name and its bytes."""
    ordered = sorted(items.items())
    index = b"".join(_ENTRY.pack(bytes.fromhex(id_), len(stored)) for id_, stored in ordered)
    start = _START.pack(_MAGIC, len(ordered)) + index
    content = b"".join([start, _CRC.pack(zlib.crc32(start)), *(stored for _, stored in ordered)])
    return sha256(content), content


def index_size(start: Buffer) -> int:
    """Say how many bytes at the front of a bundle hold its index; raises CorruptObjectError when it is none."""
    start = bytes(start[:START_SIZE])
    _demand(len(start) == START_SIZE and start[:3] == _MAGIC[:3], "it is cut off, or not fedloom's")
    if start[:4] != _MAGIC:
        raise CorruptObjectError("is of an unknown version: upgrade fedloom")
    _, count = _START.unpack(start)
    return START_SIZE + int(count) * _ENTRY.size + _CRC.size


def read_index(data: Buffer) -> Index:
    """Read the index from the first `index_size` bytes of a bundle."""
    end = index_size(data) - _CRC.size
    data = bytes(data[: end + _CRC.size])
    _demand(len(data) == end + _CRC.size, "its index is cut off")
    _demand(_CRC.unpack_from(data, end)[0] == zlib.crc32(data[:end]), "its index is damaged")
    entries = list(_ENTRY.iter_unpack(data[START_SIZE:end]))
    _demand(all(one < other for (one, _), (other, _) in pairwise(entries)), "its index is out of order")
    position, spans = len(data), {}
    for digest, size in entries:
        spans[Digest(digest.hex())] = Span(position, size)
        position += size
    return Index(spans, position)


def _demand(holds: bool, otherwise: str) -> None:  # noqa: FBT001  reads as a sentence
    if not holds:
        raise CorruptObjectError(f"is corrupt: {otherwise}")
