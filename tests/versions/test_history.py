"""History: walking first parents."""

import pytest

from fedloom.errors import NotFoundError
from fedloom.values import Digest
from fedloom.versions.history import first_parents
from fedloom.versions.objects import Commit


def fake_id(name: str) -> Digest:
    return Digest(name.rjust(64, "0"))


def reader(parents: dict[str, str]):
    """Read commits from a table of names to the names of their parents, and note what was read."""
    commits = {
        fake_id(name): Commit(fake_id("f"), tuple(map(fake_id, of)), "round", name) for name, of in parents.items()
    }
    seen = []

    def read(id_: Digest) -> Commit:
        seen.append(id_)
        return commits[id_]

    return read, seen


def test_the_walk_goes_from_the_tip_to_the_root():
    """Newest first, each with its id, the root last."""
    read, _ = reader({"c": "b", "b": "a", "a": ""})
    walked = list(first_parents(fake_id("c"), read))
    assert [commit.message for _, commit in walked] == ["c", "b", "a"]
    assert [id_ for id_, _ in walked] == [fake_id(name) for name in "cba"]


def test_only_first_parents_are_followed():
    """A branch that was merged in is not part of the line; its commits are not even read."""
    read, seen = reader({"d": "cb", "c": "a", "b": "a", "a": ""})
    assert [commit.message for _, commit in first_parents(fake_id("d"), read)] == ["d", "c", "a"]
    assert fake_id("b") not in seen


def test_the_walk_is_lazy():
    """Who looks at the tip reads one commit, however long the history."""
    read, seen = reader({"c": "b", "b": "a", "a": ""})
    next(first_parents(fake_id("c"), read))
    assert seen == [fake_id("c")]


def test_a_long_history_is_no_problem():
    """A run of 20,000 rounds is walked without recursion."""
    root = Commit(fake_id("f"), (), "import", "0")

    def read_long(id_: Digest) -> Commit:
        number = int(id_, 16)
        return Commit(fake_id("f"), (Digest(f"{number - 1:064x}"),), "round", str(number)) if number else root

    assert sum(1 for _ in first_parents(Digest(f"{20_000:064x}"), read_long)) == 20_001


def test_a_missing_commit_stops_the_walk_with_its_error():
    """What the reader raises reaches the caller, after the commits that are there."""

    def read(id_: Digest) -> Commit:
        if id_ == fake_id("b"):
            return Commit(fake_id("f"), (fake_id("a"),), "round", "b")
        raise NotFoundError(f"object {id_[:12]} is missing")

    walk = first_parents(fake_id("b"), read)
    assert next(walk)[1].message == "b"
    with pytest.raises(NotFoundError):
        next(walk)
