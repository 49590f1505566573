"""Stored forms: bit-exact for every dtype, small where differences are, fixed in their bytes, safe to read."""

import struct
import tracemalloc
import zlib

import ml_dtypes
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.errors import CorruptObjectError
from fedloom.values import DTYPES, Digest
from fedloom.versions import objects
from fedloom.versions.encoding import (
    CHUNK,
    START_SIZE,
    Keyframe,
    UnknownEncodingError,
    decode,
    encode,
    head_size,
    read_form,
)

DTYPE_NAMES = sorted(DTYPES)
SHAPES = [(), (0,), (3, 0, 2), (1,), (257,), (20, 33), (CHUNK - 1,), (CHUNK,), (CHUNK + 1,), (3, CHUNK // 2, 2)]


def canonical(encoded: objects.Encoded) -> bytes:
    return encoded.header + bytes(encoded.payload)


def stored(encoded: objects.Encoded, keyframe: Keyframe | None = None) -> bytes:
    return b"".join(encode(encoded.header, encoded.payload, keyframe))


def keyframe_of(encoded: objects.Encoded, distance: int = 1) -> Keyframe:
    return Keyframe(encoded.id, canonical(encoded), distance)


def bits(rng: np.random.Generator, dtype: str, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Draw arrays of any bit pattern (NaN payloads, infinities, -0.0), or of weights, or all the same."""
    kept = DTYPES[dtype]
    count = int(np.prod(shape))
    if dtype == "BOOL":
        return rng.integers(0, 2, shape).astype(bool)
    if kind == "any":
        return np.frombuffer(rng.bytes(count * kept.itemsize), kept).reshape(shape)
    if kind == "same":
        return np.full(shape, -0.0).astype(kept)
    with np.errstate(invalid="ignore"):
        return (rng.normal(0, 0.05, shape) * (1 if kept.kind in "fV" else 100)).astype(kept)


@pytest.mark.parametrize("dtype", DTYPE_NAMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_dtype_and_shape_comes_back_bit_by_bit(dtype, shape):
    """Alone or as a difference to any other array of its kind, an array decodes to its own canonical bytes."""
    rng = np.random.default_rng(7)
    arrays = [objects.encode_tensor(bits(rng, dtype, shape, kind)) for kind in ("any", "weights", "same")]
    for array in arrays:
        assert bytes(decode(stored(array))) == canonical(array)
        for base in arrays:
            form = stored(array, keyframe_of(base))
            assert bytes(decode(form, stored(base))) == canonical(array)


@given(
    dtype=st.sampled_from(DTYPE_NAMES),
    values=st.lists(st.tuples(st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=8)), max_size=60),
    repeats=st.integers(1, 40),
)
@settings(max_examples=150, deadline=None)
def test_any_bits_come_back_against_any_keyframe(dtype, values, repeats):
    """Whatever the bits of array and keyframe are, wrap-around included, the difference gives the array back."""
    size = DTYPES[dtype].itemsize
    pair = [b"".join(couple[side][:size] for couple in values) * repeats for side in (0, 1)]
    if dtype == "BOOL":
        pair = [bytes(byte & 1 for byte in side) for side in pair]
    array, base = (objects.encode_tensor(np.frombuffer(side, DTYPES[dtype])) for side in pair)
    form = stored(array, keyframe_of(base))
    assert bytes(decode(form, stored(base))) == canonical(array)
    assert bytes(decode(stored(array))) == canonical(array)


@given(st.binary(max_size=3000), st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_blobs_come_back(data, repeats):
    """Bytes of any kind, whether they compress or not."""
    blob = objects.encode_blob(data * repeats)
    assert bytes(decode(stored(blob))) == canonical(blob)


def test_an_array_can_be_computed_with_at_full_speed():
    """The items of a decoded tensor lie at an address that suits their type."""
    array = np.random.default_rng(0).normal(size=70_001)
    assert objects.decode_tensor(decode(stored(objects.encode_tensor(array)))).flags.aligned


# size


def rounds(dtype: str = "F32", count: int = 200_000, change: float = 1e-3) -> list[objects.Encoded]:
    """Make two versions of the same weights, the second some small steps on."""
    rng = np.random.default_rng(3)
    before = rng.normal(0, 0.05, count)
    after = before + rng.normal(0, 0.05 * change, count)
    return [objects.encode_tensor(each.astype(DTYPES[dtype])) for each in (before, after)]


@pytest.mark.parametrize(
    ("dtype", "alone", "against"), [("F32", 0.86, 0.62), ("F64", 0.95, 0.83), ("BF16", 0.72, 0.25)]
)
def test_weights_take_less_room_and_differences_still_less(dtype, alone, against):
    """A keyframe saves what sign and exponent repeat; a round's difference leaves the high planes nearly empty."""
    before, after = rounds(dtype)
    assert len(stored(after)) < alone * len(canonical(after))
    form = stored(after, keyframe_of(before, 3))
    assert len(form) < against * len(canonical(after))
    assert read_form(form) == read_form(form[:START_SIZE])
    assert (read_form(form).base, read_form(form).distance) == (before.id, 3)


def test_the_sign_of_a_small_change_costs_nothing():
    """Steps down take no more room than steps up: the difference is folded."""
    base = np.random.default_rng(5).normal(0, 1, 100_000).astype(np.float32)
    up, down = (objects.encode_tensor(np.nextafter(base, np.float32(to))) for to in (np.inf, -np.inf))
    sizes = [len(stored(step, keyframe_of(objects.encode_tensor(base)))) for step in (up, down)]
    assert max(sizes) < 0.02 * base.nbytes


def test_a_difference_that_does_not_pay_is_not_made():
    """An unrelated array of the same shape is stored alone, even where a keyframe is offered."""
    rng = np.random.default_rng(4)
    one, other = (objects.encode_tensor(rng.normal(0, 1, 100_000).astype(np.float32)) for _ in range(2))
    assert read_form(stored(other, keyframe_of(one))).base is None
    zeros = objects.encode_tensor(np.zeros(100_000, np.float32))
    assert read_form(stored(zeros, keyframe_of(one))).base is None


def test_a_part_that_changed_much_does_not_decide_alone():
    """Where a tenth of an array is new and the rest hardly moved, the difference is taken: all parts are sampled."""
    before, after = rounds()
    mixed = np.array(objects.decode_tensor(canonical(after)))
    mixed[:20_000] = np.random.default_rng(6).normal(0, 1, 20_000)
    form = stored(objects.encode_tensor(mixed), keyframe_of(before))
    assert read_form(form).encoding == "delta"
    assert len(form) < 0.7 * mixed.nbytes


@pytest.mark.parametrize(
    "other", [np.zeros((4, 50_000), np.float32), np.zeros(200_000, np.int32)], ids=["shape", "dtype"]
)
def test_a_keyframe_of_another_kind_is_not_used(other):
    """Same size, other shape or dtype: stored alone."""
    _, after = rounds()
    assert read_form(stored(after, keyframe_of(objects.encode_tensor(other)))).encoding == "planes"


def test_noise_costs_next_to_nothing():
    """Random bytes take their own size and one part in a thousand."""
    noise = objects.encode_tensor(np.frombuffer(np.random.default_rng(0).bytes(800_000), np.uint32))
    assert len(stored(noise)) < 1.001 * 800_000


@pytest.mark.parametrize("dtype", ["U8", "F32", "F64"])
def test_what_is_all_alike_is_tiny_and_can_be_read(dtype):
    """Ten megabytes of zeros, tensor or blob, stay within what a reader believes to unfold."""
    zeros = np.zeros(10_000_000 // DTYPES[dtype].itemsize, DTYPES[dtype])
    for encoded in (objects.encode_tensor(zeros), objects.encode_blob(bytes(zeros))):
        form = stored(encoded)
        assert len(form) < 10_000
        assert bytes(decode(form)) == canonical(encoded)


# golden bytes


def start(number: int, body: bytes, size: int, extra: bytes = b"") -> bytes:
    """Write a stored form by hand, as the reference says."""
    head = b"fls" + bytes([number]) + struct.pack("<QQ", len(body), size) + extra
    return head + struct.pack("<I", zlib.crc32(head)) + body


def test_golden_plain():
    """Small objects are stored as they are."""
    header = bytes.fromhex("666c73001e000000000000001e0000000000000018decda3")
    assert stored(objects.encode_blob(b"abc")) == header + b'fedloom blob v1\n{"size":3}\nabc'


HEAD = b'fedloom tensor v1\n{"dtype":"F32","shape":[3]}\n'
BEFORE = struct.pack("<3f", 1.0, -0.0, 2.0)
AFTER = struct.pack("<3I", 0x3F800002, 0x00000000, 0x3FFFFFFF)  # 2 steps up; -0.0 to 0.0; 1 step down


def test_golden_planes():
    """Planes are written lowest bytes first, raw or as a frame."""
    frame = zstandard.ZstdCompressor().compress(b"\x3f\x80\x40")
    planes = [b"\0\0\0", b"\0\0\0", b"\x80\0\0", b"\x3f\x80\x40"]
    for last in (planes[3], frame):
        table = struct.pack("<4I", 3, 3, 3, len(last))
        body = struct.pack("<BBH", 4, 1, len(HEAD)) + HEAD + table + b"".join(planes[:3]) + last
        assert bytes(decode(start(2, body, len(HEAD) + 12))) == HEAD + BEFORE


def test_golden_delta():
    """A difference counts the floats between: +2 is 4, from -0.0 to 0.0 is +1 and so 2, -1 is 1."""
    keyframe = Digest("ab" * 32)
    planes = bytes([4, 2, 1]) + bytes(9)
    body = struct.pack("<BBH", 4, 1, len(HEAD)) + HEAD + struct.pack("<4I", 3, 3, 3, 3) + planes
    form = start(3, body, len(HEAD) + 12, bytes.fromhex(keyframe) + b"\x05")
    assert (read_form(form).base, read_form(form).distance, read_form(form).stored) == (keyframe, 5, len(form))
    assert bytes(decode(form, start(0, HEAD + BEFORE, len(HEAD) + 12))) == HEAD + AFTER


def test_golden_zstd():
    """One frame of the canonical bytes."""
    form = start(1, bytes.fromhex("28b52ffd2003190000616263"), 3)
    assert bytes(decode(form)) == b"abc"


# hostile bytes


def examples() -> list[tuple[bytes, bytes | None]]:
    """Give one stored form of each encoding, with its keyframe."""
    before, after = rounds(count=3000)
    text = objects.encode_blob(b"some text " * 100)
    key = stored(before)
    forms = [(stored(objects.encode_blob(b"x")), None), (stored(text), None), (key, None)]
    forms.append((stored(after, keyframe_of(before)), key))
    assert [read_form(form).encoding for form, _ in forms] == ["plain", "zstd", "planes", "delta"]
    return forms


@pytest.mark.parametrize("number", range(4))
def test_what_is_cut_off_is_refused(number):
    """Any beginning of a stored form, and one with something after its end, is refused with a sentence."""
    form, base = examples()[number]
    ends = [*range(80), *range(80, len(form), 97), len(form) - 1]
    for bad in [*(form[:end] for end in ends if end < len(form)), form + b"\0"]:
        with pytest.raises(CorruptObjectError, match=r"^is corrupt: "):
            decode(bad, base)


@pytest.mark.parametrize("number", range(4))
def test_damage_never_ends_in_another_error(number):
    """A flipped bit gives the sentence or wrong bytes (which the id then tells); never anything else."""
    form, base = examples()[number]
    for at in [*range(200), *range(200, len(form), 53)]:
        bad = bytearray(form)
        bad[at % len(form)] ^= 1 << (at % 8)
        try:
            decode(bytes(bad), base)
        except CorruptObjectError:
            continue
        assert at >= 24, "the header has a checksum"


@given(st.binary(max_size=300), st.integers(0, 3), st.integers(0, 2**64 - 1))
@settings(max_examples=200, deadline=None)
def test_made_up_bodies_are_refused(body, number, size):
    """A right header over any body, of any announced size, is refused or read, and allocates no more than it may."""
    form = start(number, body, size, bytes(33) if number == 3 else b"")
    base = start(0, bytes(size), size) if size < 10_000 else start(0, b"", 0)
    tracemalloc.start()
    try:
        decode(form, base)
    except CorruptObjectError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4096 * 400 + 4_000_000


def test_a_bomb_is_not_unfolded():
    """A frame that says it holds a gigabyte, and one that says nothing, are refused before memory is taken."""
    huge = 1 << 30
    frame = zstandard.ZstdCompressor(level=19).compress(bytes(huge))
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 20))
    plane = struct.pack("<BBH", 1, 0, 0) + struct.pack("<I", len(frame)) + frame
    tracemalloc.start()
    for form in (
        start(1, frame, huge),
        start(1, frame, 3),
        start(1, silent, 1 << 20),
        start(2, plane, 60_000),
        start(2, plane, huge),
        start(2, struct.pack("<BBH", 8, 0, 0), 2**63),
    ):
        with pytest.raises(CorruptObjectError, match=r"^is corrupt: "):
            decode(form)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_frame_with_something_behind_it_is_refused():
    """Bytes after a frame's end belong to nothing."""
    frame = zstandard.ZstdCompressor().compress(b"abc")
    with pytest.raises(CorruptObjectError):
        decode(start(1, frame + b"\0\0\0", 3))


@pytest.mark.parametrize("table", [b"", b"\0\0", struct.pack("<I", 0), bytes(7)])
def test_a_table_that_is_cut_off_is_refused(table):
    """Fewer sizes than there are planes, or half a one, are refused before any plane is looked for."""
    with pytest.raises(CorruptObjectError, match="its planes are cut off"):
        decode(start(2, struct.pack("<BBH", 1, 0, 0) + table, CHUNK + 1))


def test_a_difference_needs_its_keyframe():
    """Without the keyframe, with one of another kind, and with another difference in its place it is refused."""
    before, after = rounds(count=3000)
    delta, key = stored(after, keyframe_of(before)), stored(before)
    other = stored(objects.encode_tensor(np.zeros((1500, 2), np.float32)))
    for wrong in (None, delta, other, stored(objects.encode_blob(b"x" * 9)), key[:-1]):
        with pytest.raises(CorruptObjectError):
            decode(delta, wrong)
    assert bytes(decode(delta, key)) == canonical(after)


def test_an_encoding_of_later_is_no_damage():
    """An unknown encoding says to upgrade."""
    with pytest.raises(UnknownEncodingError, match="is stored in an unknown encoding: upgrade fedloom"):
        read_form(start(9, b"x" * 40, 40))


def test_where_a_payload_begins():
    """After the second newline, however long the header; newlines in the payload do not count."""
    for array in (np.full((1,) * 60, 10, np.uint8), np.frombuffer(b"\n\n\n", np.uint8)):
        encoded = objects.encode_tensor(array)
        assert head_size(canonical(encoded)) == len(encoded.header)


def test_bf16_is_ordered_like_a_float():
    """One step between neighbours of any sign is one, so a step through zero is small as well."""
    base = np.tile(np.array([0.0, -0.0, 1.0, -1.0], ml_dtypes.bfloat16), 50_000)
    step = (base.view(np.uint16) ^ 0x8000).view(ml_dtypes.bfloat16)
    step[2::4], step[3::4] = base[2::4], base[3::4]
    form = stored(objects.encode_tensor(step), keyframe_of(objects.encode_tensor(base)))
    assert len(form) < 0.05 * base.nbytes
