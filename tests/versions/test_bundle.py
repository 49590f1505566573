"""Bundles: what is packed is found, the bytes are fixed, and damage is told."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.errors import CorruptObjectError
from fedloom.values import Digest, sha256
from fedloom.versions.bundle import START_SIZE, index_size, pack, read_index

DIGESTS = st.binary(min_size=32, max_size=32).map(lambda digest: Digest(digest.hex()))
ITEMS = {Digest("ff" * 32): b"second", Digest("0a" * 32): b"", Digest("0b" * 32): b"first\x00"}


@given(st.dictionaries(DIGESTS, st.binary(max_size=100), max_size=20))
def test_what_is_packed_is_found(items):
    """The index alone says where each object lies, and how large the whole is; the order of packing says nothing."""
    name, content = pack(items)
    index = read_index(content[: index_size(content[:START_SIZE])])
    assert {id_: content[span.start : span.start + span.size] for id_, span in index.spans.items()} == items
    assert (index.size, name) == (len(content), sha256(content))
    assert pack(dict(reversed(items.items()))) == (name, content)


def test_golden_bytes():
    """The form is the one of the reference."""
    start = b"flb\x01" + struct.pack("<I", 3)
    for digest, size in (("0a", 0), ("0b", 6), ("ff", 6)):
        start += bytes.fromhex(digest * 32) + struct.pack("<I", size)
    expected = start + struct.pack("<I", zlib.crc32(start)) + b"first\x00second"
    assert pack(ITEMS)[1] == expected


def test_a_damaged_index_is_refused():
    """Cut anywhere in the index, or with any bit of it flipped, a bundle is refused; nothing large is read for it."""
    _, content = pack(ITEMS)
    end = index_size(content)
    for bad in [content[:n] for n in range(end)]:
        with pytest.raises(CorruptObjectError, match=r"^is corrupt: "):
            read_index(bad)
    for at in range(end):
        flipped = content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]
        with pytest.raises(CorruptObjectError):
            read_index(flipped)


def test_ids_out_of_order_are_refused():
    """An index with an id twice, or not sorted, was not written by fedloom."""
    for digests in (["0b", "0a"], ["0a", "0a"]):
        start = b"flb\x01" + struct.pack("<I", 2) + b"".join(bytes.fromhex(d * 32) + bytes(4) for d in digests)
        with pytest.raises(CorruptObjectError, match="out of order"):
            read_index(start + struct.pack("<I", zlib.crc32(start)))


def test_a_later_version_is_no_damage():
    """A bundle of another version says to upgrade."""
    with pytest.raises(CorruptObjectError, match="is of an unknown version: upgrade fedloom"):
        index_size(b"flb\x02" + bytes(100))
