r"""How the canonical bytes of an object are stored: plain, zstd, byte planes, or byte planes of a difference.

A stored form is, with little-endian numbers,

    "fls"  encoding (1 byte)  size of the body (8)  size of the canonical bytes (8)
    for a difference: id of its keyframe (32)  versions since the keyframe (1)
    CRC-32 of the above (4)  body

    0 plain   the canonical bytes
    1 zstd    one zstd frame of them
    2 planes  item size (1)  ordered (1)  size of the head (2)  head  sizes of the planes (4 each)  planes
    3 delta   as planes, of the difference to the keyframe, item by item

The head is what precedes the items. They are cut into chunks of 65,536; a chunk is stored plane by plane: the lowest
bytes of its items, then the second lowest, and so on. A plane as large as the chunk has items is raw, else it is a zstd
frame: the high bytes of weights (sign and exponent) repeat, the low ones are noise that no codec makes smaller.
A difference counts representable numbers between the two values: items are taken as integers that keep the order of
the floats (`ordered`), subtracted modulo 2^n, and folded (0, -1, 1, -2 … become 0, 1, 2, 3 …), so a small change of
either sign leaves the high planes empty. All of it is integer arithmetic: NaN payloads and -0.0 come back bit by bit.

Rules: this module is pure. A keyframe is never a difference itself. What is read may be hostile: sizes are checked
before anything is allocated, and nothing unfolds to more than 4,096 times its size.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import zstandard
from numpy.typing import NDArray

from fedloom.errors import CorruptObjectError
from fedloom.values import DTYPES, FLOATS, Buffer, Digest

KEYFRAME_EVERY = 8
START_SIZE = 64  # no header is longer
CHUNK = 1 << 16

Words: TypeAlias = NDArray[np.unsignedinteger[Any]]
Bytes: TypeAlias = NDArray[np.uint8]
Encoding: TypeAlias = Literal["plain", "zstd", "planes", "delta"]

_MAGIC = b"fls"
_ENCODINGS: tuple[Encoding, ...] = ("plain", "zstd", "planes", "delta")
_START = struct.Struct("<3sBQQ")
_BASE = struct.Struct("<32sB")
_CRC = struct.Struct("<I")
_PLANES = struct.Struct("<BBH")
_LEVEL = 1  # higher ones are slower and no smaller on planes
_UNFOLDS = 4096  # 65,536 equal bytes take 24 with their place in the table
_SAMPLE_RUNS, _SAMPLE_RUN = 16, 1024
_WORTH_A_DELTA = 0.95
_NOISE = 0.98
_TINY = 256  # bytes; what a frame saves below, its header costs
_ALIGNED = 64


class UnknownEncodingError(CorruptObjectError):
    """Stored by a newer fedloom; very likely whole."""


@dataclass(frozen=True, slots=True)
class Form:
    """What the header of a stored form says. `size` counts the canonical bytes, `stored` all bytes of the form."""

    encoding: Encoding
    size: int
    stored: int
    base: Digest | None = None
    distance: int = 0


@dataclass(frozen=True, slots=True)
class Keyframe:
    """A version that another may be stored as a difference to: its canonical bytes, and how many versions back."""

    id: Digest
    data: Buffer
    distance: int


def encode(header: bytes, payload: Buffer, keyframe: Keyframe | None = None) -> list[Buffer]:
    """Give the parts of the stored form of `header + payload`, the smallest that a sample finds.

    A keyframe of another dtype or shape is no help, and is not used.
    """
    plain = _form("plain", len(header) + len(payload), [header, payload])
    if len(header) + len(payload) < _TINY:
        return plain
    if not header.startswith(b"fedloom tensor "):
        return _smallest(plain, _zstd(header + bytes(payload)))
    dtype = json.loads(header.split(b"\n")[1])["dtype"]
    if keyframe is not None and bytes(memoryview(keyframe.data)[: len(header)]) != header:
        keyframe = None
    return _smallest(
        plain, _planes(header, payload, DTYPES[dtype].itemsize, ordered=dtype in FLOATS, keyframe=keyframe)
    )


def head_size(data: Buffer) -> int:
    """Say where the payload of canonical bytes begins: after two lines."""
    start, window = b"", 256
    while start.count(b"\n") < 2 and len(start) < len(data):
        start, window = bytes(memoryview(data)[:window]), window * 8
    return start.index(b"\n", start.index(b"\n") + 1) + 1


def read_form(start: Buffer) -> Form:
    """Read the header of a stored form from its first bytes (`START_SIZE` are enough).

    Raises CorruptObjectError when it is none, and UnknownEncodingError for one of a later version.
    """
    start = bytes(start[:START_SIZE])
    if start[:3] != _MAGIC or len(start) < _START.size + _CRC.size:
        raise CorruptObjectError("is corrupt: its stored bytes are cut off, or are not fedloom's")
    _, number, body, size = _START.unpack_from(start)
    if number >= len(_ENCODINGS):
        raise UnknownEncodingError("is stored in an unknown encoding: upgrade fedloom")
    encoding = _ENCODINGS[number]
    end = _START.size + (_BASE.size if encoding == "delta" else 0)
    _demand(len(start) >= end + _CRC.size, "its stored bytes are cut off")
    _demand(_CRC.unpack_from(start, end)[0] == zlib.crc32(start[:end]), "the header of its stored bytes is damaged")
    base, distance = None, 0
    if encoding == "delta":
        digest, distance = _BASE.unpack_from(start, _START.size)
        base = Digest(digest.hex())
    return Form(encoding, size, end + _CRC.size + body, base, distance)


def decode(stored: Buffer, base: Buffer | None = None) -> memoryview:
    """Give the canonical bytes of a stored form; raises CorruptObjectError when it is damaged.

    base: the stored form of the keyframe, where `read_form(stored).base` names one. Whoever calls compares the result
    with the id: damage that leaves a readable form is not found here.
    """
    form = read_form(stored)
    body = _body(stored, form)
    try:
        if form.encoding == "plain":
            _demand(len(body) == form.size, "its size is not the one announced")
            return body
        if form.encoding == "zstd":
            return memoryview(_unzip(body, form.size))
        planes = _Planes(body, form.size)
        return _join(planes, _before(base, planes) if form.base is not None else None)
    except (struct.error, zstandard.ZstdError) as error:
        raise CorruptObjectError(f"is corrupt: {error}") from None


def _body(stored: Buffer, form: Form) -> memoryview:
    _demand(len(stored) == form.stored, f"{form.stored} bytes are announced, {len(stored)} are there")
    _demand(form.size <= _UNFOLDS * form.stored, "it would unfold to more than a stored object can hold")
    start = _START.size + _CRC.size + (_BASE.size if form.base is not None else 0)
    return memoryview(stored)[start:]


def _demand(holds: bool, otherwise: str) -> None:  # noqa: FBT001  reads as a sentence
    if not holds:
        raise CorruptObjectError(f"is corrupt: {otherwise}")


# writing


def _form(encoding: Encoding, size: int, body: list[Buffer], keyframe: Keyframe | None = None) -> list[Buffer]:
    start = _START.pack(_MAGIC, _ENCODINGS.index(encoding), sum(map(len, body)), size)
    if keyframe is not None:
        start += _BASE.pack(bytes.fromhex(keyframe.id), keyframe.distance)
    return [start + _CRC.pack(zlib.crc32(start)), *body]


def _smallest(*forms: list[Buffer]) -> list[Buffer]:
    return min(forms, key=lambda form: sum(map(len, form)))


def _zstd(data: bytes) -> list[Buffer]:
    """Compress as one frame; in chunks where so little is left of it that a reader would take it for a bomb."""
    form = _form("zstd", len(data), [_compressor().compress(data)])
    return form if len(data) <= _UNFOLDS * sum(map(len, form)) else _planes(b"", data, 1, ordered=False)


def _planes(
    header: bytes, payload: Buffer, itemsize: int, *, ordered: bool, keyframe: Keyframe | None = None
) -> list[Buffer]:
    """Store items as byte planes, of their difference to the keyframe where a sample says that it is smaller."""
    words = _words(payload, itemsize)
    base = _words(memoryview(keyframe.data)[len(header) :], itemsize) if keyframe is not None else None
    splitter = _Splitter(itemsize, ordered=ordered)
    noisy, base = _probe(splitter, words, base)
    table = np.empty((-(-len(words) // CHUNK), itemsize), "<u4")
    planes: list[Buffer] = []
    for number, chunk in enumerate(_chunks(words)):
        start = number * CHUNK
        split = splitter.split(chunk, None if base is None else base[start : start + CHUNK])
        for place, plane in enumerate(split):
            stored = plane.tobytes() if noisy[place] else _pack(splitter.compressor, plane)
            table[number, place] = len(stored)
            planes.append(stored)
    body = [_PLANES.pack(itemsize, ordered, len(header)), header, table.tobytes(), *planes]
    return _form(
        "planes" if base is None else "delta", len(header) + len(payload), body, None if base is None else keyframe
    )


def _probe(splitter: _Splitter, words: Words, base: Words | None) -> tuple[list[bool], Words | None]:
    """Decide on a sample which planes are noise, and whether the difference is worth it."""
    noisy, alone = _try(splitter, _sample(words), None)
    if base is None:
        return noisy, None
    noisy_delta, against = _try(splitter, _sample(words), _sample(base))
    return (noisy_delta, base) if against < _WORTH_A_DELTA * alone else (noisy, None)


def _try(splitter: _Splitter, words: Words, base: Words | None) -> tuple[list[bool], int]:
    packed = [len(_pack(splitter.compressor, plane)) for plane in splitter.split(words, base)]
    return [size > _NOISE * len(words) for size in packed], sum(packed)


def _sample(words: Words) -> Words:
    """Take runs from all over, so that a part that is unlike the rest counts for no more than its share."""
    if len(words) <= _SAMPLE_RUNS * _SAMPLE_RUN:
        return words
    starts = np.linspace(0, len(words) - _SAMPLE_RUN, _SAMPLE_RUNS).astype(int)
    return np.concatenate([words[start : start + _SAMPLE_RUN] for start in starts])


def _pack(compressor: zstandard.ZstdCompressor, plane: Bytes) -> bytes:
    packed = compressor.compress(plane.data)
    return packed if len(packed) < len(plane) else plane.tobytes()


def _compressor() -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(level=_LEVEL)


def _words(payload: Buffer, itemsize: int) -> Words:
    return np.frombuffer(payload, f"<u{itemsize}")


def _chunks(words: Words) -> Iterator[Words]:
    return (words[start : start + CHUNK] for start in range(0, len(words), CHUNK))


class _Items:
    """Integer arithmetic on chunks of items, in buffers that are made once and stay in the processor's cache."""

    def __init__(self, itemsize: int, *, ordered: bool) -> None:
        self.word = np.dtype(f"<u{itemsize}")
        self._signed = np.dtype(f"<i{itemsize}")
        self._ordered = ordered
        self._sign = self._signed.type(8 * itemsize - 1)
        self._largest = np.iinfo(self._signed).max
        self._mask = np.empty(CHUNK, self._signed)

    def order(self, words: Words, out: Words) -> None:
        """Turn floats (sign and magnitude) into integers in the same order, or back: it is its own inverse."""
        if not self._ordered:
            np.copyto(out, words)
            return
        mask = self._mask[: len(words)]
        np.right_shift(words.view(self._signed), self._sign, out=mask)
        np.bitwise_and(mask, self._largest, out=mask)
        np.bitwise_xor(words, mask.view(self.word), out=out)

    def fold(self, words: Words) -> None:
        """Turn 0, -1, 1, -2 … into 0, 1, 2, 3 …, in place."""
        mask = self._mask[: len(words)]
        np.right_shift(words.view(self._signed), self._sign, out=mask)
        np.left_shift(words, self.word.type(1), out=words)
        np.bitwise_xor(words, mask.view(self.word), out=words)

    def unfold(self, words: Words) -> None:
        """Undo `fold`, in place."""
        mask = self._mask[: len(words)].view(self.word)
        np.bitwise_and(words, self.word.type(1), out=mask)
        np.negative(mask, out=mask)
        np.right_shift(words, self.word.type(1), out=words)
        np.bitwise_xor(words, mask, out=words)


class _Splitter(_Items):
    """Cuts chunks into byte planes."""

    def __init__(self, itemsize: int, *, ordered: bool) -> None:
        super().__init__(itemsize, ordered=ordered)
        self.compressor = _compressor()
        self._planes = np.empty((itemsize, CHUNK), np.uint8)
        self._difference = np.empty(CHUNK, self.word)
        self._other = np.empty(CHUNK, self.word)

    def split(self, words: Words, base: Words | None) -> Bytes:
        """Give the planes of a chunk, lowest bytes first; they are valid until the next call."""
        count, planes, shifted = len(words), self._planes[:, : len(words)], self._other[: len(words)]
        if base is not None:
            words = self._subtract(words, base)
        for place, plane in enumerate(planes):
            np.right_shift(words, self.word.type(8 * place), out=shifted)
            np.copyto(plane, shifted[:count], casting="unsafe")
        return planes

    def _subtract(self, words: Words, base: Words) -> Words:
        difference, other = self._difference[: len(words)], self._other[: len(words)]
        self.order(words, difference)
        self.order(base, other)
        np.subtract(difference, other, out=difference)
        self.fold(difference)
        return difference


# reading


class _Plain:
    """The items of a keyframe that is here as canonical bytes."""

    def __init__(self, data: Buffer, head: bytes, itemsize: int) -> None:
        self._words = _words(memoryview(data)[len(head) :], itemsize)

    def read(self, number: int, out: Words) -> None:
        """Read a chunk of items."""
        np.copyto(out, self._words[number * CHUNK : number * CHUNK + len(out)])


class _Planes:
    """The items in a body of byte planes; whatever is wrong with the sizes is found when it is opened."""

    def __init__(self, body: memoryview, size: int) -> None:
        self.size = size
        self.itemsize, ordered, head = _PLANES.unpack_from(body)
        _demand(self.itemsize in (1, 2, 4, 8) and ordered in (0, 1), "it holds items of no known kind")
        self.ordered = bool(ordered)
        table = _PLANES.size + head
        self.head = bytes(body[_PLANES.size : table])
        self.count, rest = divmod(size - head, self.itemsize)
        _demand(rest == 0 and self.count >= 0, "its size is not the one announced")
        chunks = -(-self.count // CHUNK)
        data = table + 4 * chunks * self.itemsize
        _demand(data <= len(body), "its planes are cut off")
        sizes = np.frombuffer(body[table:data], "<u4").astype(np.int64)
        self._ends = data + np.cumsum(sizes)
        _demand(int(self._ends[-1] if len(sizes) else data) == len(body), "its planes have not the size announced")
        self._starts = self._ends - sizes
        self._body = body
        self._part = np.empty(CHUNK, f"<u{self.itemsize}")

    def read(self, number: int, out: Words) -> None:
        """Read a chunk of items."""
        part, word = self._part[: len(out)], self._part.dtype.type
        np.copyto(out, self._plane(number, self.itemsize - 1, len(out)))
        for place in range(self.itemsize - 2, -1, -1):
            np.left_shift(out, word(8), out=out)
            np.copyto(part, self._plane(number, place, len(out)))
            np.bitwise_or(out, part, out=out)

    def _plane(self, number: int, place: int, count: int) -> Bytes:
        index = number * self.itemsize + place
        stored = self._body[self._starts[index] : self._ends[index]]
        return np.frombuffer(stored if len(stored) == count else _unzip(stored, count), np.uint8)


def _unzip(frame: Buffer, size: int) -> bytes:
    """Decompress a frame that must announce `size`, so that nothing larger is ever allocated."""
    _demand(zstandard.frame_content_size(frame) == size, "a frame in it has not the size announced")
    return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)


def _before(base: Buffer | None, planes: _Planes) -> _Plain | _Planes:
    """Open the keyframe of a difference, as planes again where it is stored so: chunk by chunk it takes no room."""
    if base is None:
        raise CorruptObjectError("is stored as a difference to a version that is not at hand")
    form = read_form(base)
    _demand(form.base is None and form.size == planes.size, "what it is a difference to is no keyframe of its kind")
    body = _body(base, form)
    if form.encoding != "planes":
        return _Plain(decode(base), planes.head, planes.itemsize)
    keyframe = _Planes(body, form.size)
    _demand((keyframe.head, keyframe.itemsize) == (planes.head, planes.itemsize), "its keyframe is of another kind")
    return keyframe


def _join(planes: _Planes, before: _Plain | _Planes | None) -> memoryview:
    """Put the canonical bytes together again, with the items where they can be computed with at full speed."""
    pad = -len(planes.head) % _ALIGNED
    data = np.empty(pad + planes.size, np.uint8)
    items = pad + len(planes.head)
    data[pad:items] = np.frombuffer(planes.head, np.uint8)
    words = data[items:].view(f"<u{planes.itemsize}")
    undo = _Adder(planes.itemsize, ordered=planes.ordered)
    for number, chunk in enumerate(_chunks(words)):
        planes.read(number, chunk)
        if before is not None:
            undo.add(before, number, chunk)
    return data[pad:].data


class _Adder(_Items):
    """Turns differences into items again."""

    def __init__(self, itemsize: int, *, ordered: bool) -> None:
        super().__init__(itemsize, ordered=ordered)
        self._base = np.empty(CHUNK, self.word)

    def add(self, before: _Plain | _Planes, number: int, words: Words) -> None:
        """Add a chunk of the keyframe to the differences in `words`, in place."""
        base = self._base[: len(words)]
        before.read(number, base)
        self.order(base, base)
        self.unfold(words)
        np.add(words, base, out=words)
        self.order(words, words)
