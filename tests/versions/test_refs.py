"""Refs: compare-and-set, four processes at once, the reflog, and names."""

import json
import multiprocessing
from pathlib import Path
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.errors import ConflictError, CorruptObjectError, NotFoundError, VersionsError
from fedloom.values import Digest
from fedloom.versions.refs import Refs, is_ref_name
from fedloom.versions.store import Store

A, B, C = (Digest(letter * 64) for letter in "abc")


@pytest.fixture(params=["disk", "memory"])
def store(request, tmp_path):
    return Store.on_disk(tmp_path) if request.param == "disk" else Store.in_memory()


@pytest.fixture
def refs(store):
    return Refs(store)


def test_a_ref_points_where_it_was_set(refs, store):
    """A new ref starts from nothing; each move is seen here and by whoever opens the store later."""
    assert refs.get("heads/main") is None
    refs.compare_and_set("heads/main", None, A, "start")
    refs.compare_and_set("heads/main", A, B, "round 1")
    assert refs.get("heads/main") == B
    assert Refs(store).get("heads/main") == B


@pytest.mark.parametrize("old", [A, C, None])
def test_a_stale_old_value_is_refused(refs, store, old):
    """Who does not know where the ref is may not move it; the message says where it is."""
    refs.compare_and_set("x", None, A, "1")
    refs.compare_and_set("x", A, B, "2")
    for view in (refs, Refs(store)):
        with pytest.raises(ConflictError, match=r"'x' points to bbbbbbbbbbbb, not .*: read it and retry"):
            view.compare_and_set("x", old, C, "3")
        assert view.get("x") == B


def test_an_absent_ref_can_only_be_started(refs):
    """A ref that is not there cannot be moved from somewhere."""
    with pytest.raises(ConflictError, match="points to nothing, not aaaaaaaaaaaa"):
        refs.compare_and_set("x", A, B, "move")
    assert refs.get("x") is None


def test_a_move_made_elsewhere_is_a_conflict(store):
    """Of two who saw the same value the second loses, even where the value came back to what it saw."""
    one, other = Refs(store), Refs(store)
    one.compare_and_set("x", None, A, "1")
    assert other.get("x") == A
    one.compare_and_set("x", A, B, "2")
    one.compare_and_set("x", B, A, "3")
    with pytest.raises(ConflictError, match="moved by another process: read it and retry"):
        other.compare_and_set("x", A, C, "late")
    assert other.get("x") == A
    other.compare_and_set("x", A, C, "retried")
    assert one.get("x") == C


def test_starting_twice_is_a_conflict(store):
    """Two processes cannot both start `runs/1`."""
    Refs(store).compare_and_set("runs/1", None, A, "start")
    with pytest.raises(ConflictError):
        Refs(store).compare_and_set("runs/1", None, A, "start")


PROCESSES, UPDATES = 4, 100


def count_up(folder: Path) -> int:
    """Raise the number that the ref stands for, UPDATES times; count the conflicts met."""
    refs, conflicts, done = Refs(Store.on_disk(folder)), 0, 0
    while done < UPDATES:
        old = refs.get("counter")
        number = int(old, 16) if old else 0
        try:
            refs.compare_and_set("counter", old, Digest(f"{number + 1:064x}"), "count")
        except ConflictError:
            conflicts += 1
        else:
            done += 1
    return conflicts


def test_no_update_of_four_processes_is_lost(tmp_path):
    """400 updates by 4 processes that retry on conflict count up to 400, one by one, in bounded time."""
    began = monotonic()
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        pool.map(count_up, [tmp_path] * PROCESSES, chunksize=1)
    assert monotonic() - began < 20
    numbers = [int(move.target, 16) for move in Refs(Store.on_disk(tmp_path)).log("counter")]
    assert numbers == list(range(1, PROCESSES * UPDATES + 1))


def test_the_log_keeps_every_move(refs):
    """The reflog says where the ref pointed, since when (UTC, to the second) and why, oldest first."""
    for number, (old, new) in enumerate([(None, A), (A, B), (B, A)]):
        refs.compare_and_set("x", old, new, f"move {number}: größer")
    moves = refs.log("x")
    assert [(move.target, move.why) for move in moves] == [
        (A, "move 0: größer"),
        (B, "move 1: größer"),
        (A, "move 2: größer"),
    ]
    assert all(move.when.endswith("+00:00") and "T" in move.when for move in moves)


def test_no_ref_has_no_log(refs):
    """The log of a ref that never was is an error that names it."""
    with pytest.raises(NotFoundError, match="there is no ref 'x'"):
        refs.log("x")


@pytest.mark.parametrize("last", [9, 99, 99_999_999, 100_000_000])
def test_generations_stay_in_order(refs, store, last):
    """The tenth and the hundred-millionth move are the latest, though as text their names sort before."""
    store.create(f"refs/x.ref/{last:08d}", [json.dumps({"target": A, "when": "t", "why": "old"}).encode()])
    refs.compare_and_set("x", A, B, "next")
    refs.compare_and_set("x", B, C, "and next")
    assert refs.get("x") == C
    fresh = Refs(store)
    assert fresh.get("x") == C
    assert [move.target for move in fresh.log("x")] == [A, B, C]
    assert store.exists(f"refs/x.ref/{last + 2}" if last >= 10**7 else f"refs/x.ref/{last + 2:08d}")


def test_a_name_may_be_the_beginning_of_another(refs):
    """`a`, `a/b`, `ab` and `a.b` are four refs that do not meet, on disk either."""
    targets = {name: Digest(f"{number:064x}") for number, name in enumerate(["a", "a/b", "a/b/c", "ab", "a.b", "a-1"])}
    for name, target in targets.items():
        refs.compare_and_set(name, None, target, name)
    assert {name: refs.get(name) for name in targets} == targets
    assert refs.names() == sorted(targets)
    assert refs.names("a/") == ["a/b", "a/b/c"]
    assert [move.why for move in refs.log("a")] == ["a"]


LEAVES = ["..", "../x", "a/../b", "a/..", "/etc/x", "/", "a//b", "a/", "%2e%2e"]
HIDES = [".hidden", "a/.b", "-x", "x#1", "a.ref", "a.ref/b"]
NEEDS_QUOTES = ["", "Main", "ä", "a b", "a\n", "a\\b", "a:b"]


@pytest.mark.parametrize("name", [*LEAVES, *HIDES, *NEEDS_QUOTES])
@pytest.mark.parametrize("verb", ["get", "compare_and_set", "log"])
def test_bad_names_are_refused(refs, store, name, verb):
    """Names that leave the folder, hide, need quoting or look like the store's own are refused by every verb."""
    given_ = {"get": (), "compare_and_set": (None, A, "why"), "log": ()}[verb]
    with pytest.raises(VersionsError, match="is no ref name: use lower-case letters"):
        getattr(refs, verb)(name, *given_)
    assert store.paths("") == []
    assert not is_ref_name(name)


@given(st.from_regex(r"\A[a-z0-9.][a-z0-9._/-]{0,12}\Z"))
def test_a_name_that_is_allowed_works(name):
    """Whatever passes the rule can be set, read and listed under exactly that name."""
    refs = Refs(Store.in_memory())
    if is_ref_name(name):
        refs.compare_and_set(name, None, A, "why")
        assert refs.get(name) == A
        assert refs.names() == [name]


@pytest.mark.parametrize("name", ["my.reference", "v1.2", "a.refs/b", "x_y-z", "0"])
def test_dots_and_digits_are_letters(refs, name):
    """Only a part that ends in `.ref` is kept back."""
    refs.compare_and_set(name, None, A, "why")
    assert refs.names() == [name]


@pytest.mark.parametrize("written", [b"", b"{", b"[]", b"3", b'{"target": "x"}', b"\xff"])
def test_a_corrupt_move_is_refused_with_a_way_back(refs, store, written):
    """A move that cannot be read - a power cut can leave it empty - is named, and so is the file to delete."""
    refs.compare_and_set("x", None, A, "good")
    store.create("refs/x.ref/00000002", [written])
    for verb in (refs.get, refs.log):
        with pytest.raises(CorruptObjectError, match=r"move 2 of ref 'x' is corrupt: .*delete it to go back"):
            verb("x")


def test_a_ref_points_only_to_what_is_here(store):
    """What is missing is refused before the move; a deletion needs nothing."""
    asked, here = [], {A}
    refs = Refs(store, lambda id_: asked.append(id_) is None and id_ in here)
    refs.compare_and_set("x", None, A, "made")
    with pytest.raises(NotFoundError, match=f"'x' cannot point to {B[:12]}"):
        refs.compare_and_set("x", A, B, "moved")
    assert refs.get("x") == A
    refs.compare_and_set("x", A, None, "deleted")
    assert asked == [A, B]


def test_files_that_are_no_moves_are_passed_over(store, refs):
    """What a file manager leaves between the generations is not taken for one."""
    refs.compare_and_set("x", None, A, "good")
    store.create("refs/x.ref/notes.txt", [b"x"])
    store.create("refs/readme", [b"x"])
    assert refs.get("x") == A
    assert refs.names() == ["x"]
    assert len(refs.log("x")) == 1
