"""Parts of a transfer by themselves: where histories meet, what globs mean, frames, and many requests at a time."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.errors import CorruptObjectError
from fedloom.values import Digest
from fedloom.versions import objects
from fedloom.versions.history import ancestors
from fedloom.versions.objects import Commit
from fedloom.versions.remotes import wire
from fedloom.versions.remotes.abreast import MOST, abreast
from fedloom.versions.remotes.closure import selected
from fedloom.versions.remotes.remote import Parcel, leading, opened
from fedloom.versions.remotes.sending import first_there

NO_TREE = Digest("0" * 64)


@st.composite
def graphs(draw):
    """Draw a history, some tips of it, and what the other side has: all that some of its commits reach."""
    count = draw(st.integers(1, 60))
    commits = {}
    for number in range(count):
        parents = draw(st.lists(st.integers(0, number - 1), max_size=3, unique=True)) if number else []
        commits[digest(number)] = Commit(NO_TREE, tuple(map(digest, parents)), "round", "")
    some = st.lists(st.sampled_from(sorted(commits)), max_size=4)
    return commits, draw(some.filter(bool)), draw(some)


def digest(number: int) -> Digest:
    return Digest(f"{number:064x}")


@given(graphs())
def test_the_border_of_what_is_there_is_found(drawn):
    """What is walked up to the border is exactly what the other side lacks, whatever the history looks like."""
    commits, tips, theirs = drawn
    there = {id_ for id_, _ in ancestors(theirs, commits.__getitem__)}
    border = first_there(tips, commits.__getitem__, lambda ids: set(ids) - there)
    assert border <= there
    walked = {id_ for id_, _ in ancestors(tips, commits.__getitem__, border)}
    assert walked == {id_ for id_, _ in ancestors(tips, commits.__getitem__)} - there


def test_a_long_line_is_asked_about_in_few_questions():
    """Of ten thousand commits of which one is new, or all are, the number of questions stays small."""
    commits = {digest(n): Commit(NO_TREE, (digest(n - 1),) if n else (), "round", "") for n in range(10_000)}
    for known, most in ((9_998, 1), (-1, 11)):
        questions = []
        there = {digest(n) for n in range(known + 1)}

        def missing(ids, there=there, questions=questions):
            questions.append(len(ids))
            return set(ids) - there

        first_there([digest(9_999)], commits.__getitem__, missing)
        assert len(questions) <= most


@pytest.mark.parametrize(
    ("path", "chosen"),
    [
        ("model/encoder.0.w", True),
        ("model/head.w", False),
        ("optimizer/m/encoder.0.w", True),
        ("optimizer/m/head.w", False),
        ("optimizer/step", True),
        ("receipts/north/encoder.0.w", True),
        ("receipts/north/head.w", False),
        ("preprocessing/scaling/mean", True),
        ("inputs/contract", True),
        ("", True),
    ],
)
def test_globs_are_about_the_names_of_the_model(path, chosen):
    """A tensor's moments and its updates go with it; what is no tensor of the model always goes."""
    assert selected(path, ["encoder.*"]) is chosen
    assert selected(path, [])
    assert selected(path, ["nothing", "*"])


payloads = st.binary(max_size=2000)


@settings(max_examples=60)
@given(st.lists(payloads, max_size=6), st.integers(1, 700))
def test_frames_come_back_however_the_stream_is_cut(blobs, piece):
    """Objects packed one after the other are read back from pieces of any size."""
    parcels = [Parcel(e.id, e.header + bytes(e.payload)) for e in map(objects.encode_blob, blobs)]
    stream = b"".join(bytes(part) for parcel in parcels for part in wire.pack(parcel, no_base))
    got = list(wire.unpack(reader(stream, piece), no_base, wire.Limits()))
    assert [(parcel.id, bytes(parcel.data)) for parcel in got] == [(parcel.id, parcel.data) for parcel in parcels]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["F32", "F64", "BF16", "I8", "U16"]), st.integers(0, 2**32), st.booleans())
def test_differences_come_back_bit_by_bit(tag, seed, related):
    """A tensor as a difference to any other of its shape is restored exactly."""
    from fedloom.values import DTYPES

    random = np.random.default_rng(seed)
    old = random.bytes(1600)
    new = bytes(a ^ (b & 3) for a, b in zip(old, random.bytes(1600), strict=True)) if related else random.bytes(1600)
    one, two = (objects.encode_tensor(np.frombuffer(data, DTYPES[tag])) for data in (old, new))
    base = memoryview(one.header + bytes(one.payload))
    parts = wire.pack(Parcel(two.id, two.header + bytes(two.payload), one.id), {one.id: base}.__getitem__)
    (parcel,) = wire.unpack(reader(b"".join(map(bytes, parts)), 1 << 20), {one.id: base}.__getitem__, wire.Limits())
    assert opened(parcel).id == two.id


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_are_frames_or_an_error(stream):
    """Whatever comes over the wire ends in whole parcels or in one of fedloom's errors."""
    from fedloom.errors import FedloomError

    try:
        for parcel in wire.unpack(reader(stream, 1 << 20), no_base, wire.Limits(object=10_000)):
            assert parcel.erased or len(parcel.data) <= 10_000
    except FedloomError:
        pass


def no_base(id_):
    from fedloom.errors import NotFoundError

    raise NotFoundError(id_)


def reader(stream: bytes, piece: int):
    """Read a stream as sockets give it: never more than a piece at once, joined by whoever reads exactly."""
    from fedloom.versions.remotes.http_client import _Chunks
    from fedloom.versions.remotes.remote import Traffic

    pieces = (stream[start : start + piece] for start in range(0, len(stream), piece))
    return _Chunks(pieces, Traffic()).read


def test_only_whole_objects_are_opened():
    """Bytes of another id, and bytes of their id that are no object, are refused."""
    blob = objects.encode_blob(b"x")
    whole = blob.header + b"x"
    assert opened(Parcel(blob.id, whole)) == blob
    with pytest.raises(CorruptObjectError):
        opened(Parcel(NO_TREE, whole))
    from fedloom.values import sha256

    for foreign in (b"", b"x", b"fedloom blob v1\n{}\n", blob.header + b"xx"):
        with pytest.raises(CorruptObjectError):
            opened(Parcel(sha256(foreign), foreign))


def test_leaves_are_split_off_without_reading_ahead():
    """Tensors and blobs are taken one by one; what follows them stays in order."""
    blob, tree = (objects.encode_blob(b"x"), objects.encode_tree(objects.Tree({})))
    taken = []

    def source():
        for encoded in (blob, blob, tree, blob):
            taken.append(encoded.id)
            yield Parcel(encoded.id, encoded.header + bytes(encoded.payload))

    leaves, rest = leading(source())
    assert next(leaves).id == blob.id
    assert len(taken) == 1
    assert len(list(leaves)) == 1
    assert [parcel.id for parcel in rest] == [tree.id, blob.id]


def test_work_abreast_is_in_order_and_within_bounds():
    """Results come in the order of the items; never more than a few are under way, fewer where they are large."""
    under_way, most, lock = 0, 0, threading.Lock()

    def deed(number):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.002)
        with lock:
            under_way -= 1
        return number

    assert list(abreast(deed, range(40))) == list(range(40))
    assert 1 < most <= MOST
    most = 0
    assert list(abreast(deed, range(20), lambda _: 200 << 20)) == list(range(20))
    assert most == 1


def test_an_error_abreast_is_raised():
    """The first error in order ends it."""
    with pytest.raises(ZeroDivisionError):
        list(abreast(lambda number: 1 // (number - 3), range(10)))
