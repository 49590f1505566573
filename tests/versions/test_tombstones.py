"""Tombstones: written once, readable by everybody, and never a reason to fail."""

import pytest

from fedloom.errors import NotFoundError
from fedloom.values import Digest
from fedloom.versions import tombstones
from fedloom.versions.content import Content
from fedloom.versions.store import Store

ID = Digest("a" * 64)


@pytest.fixture
def store():
    return Store.in_memory()


def test_a_tombstone_says_who_when_and_why(store):
    """It reads as the end of a sentence."""
    tombstone = tombstones.bury(store, ID, "ada", "asked to")
    assert tombstones.find(store, ID) == tombstone
    assert tombstones.all_of(store) == {ID: tombstone}
    assert str(tombstone) == f"erased by ada, {tombstone.when[:10]}: asked to"


def test_the_first_tombstone_stands(store):
    """Who erases again changes nothing about who did it first."""
    first = tombstones.bury(store, ID, "ada", "asked to")
    assert tombstones.bury(store, ID, "bob", "again") == first


def test_what_was_not_erased_has_none(store):
    """An object that is missing is not erased."""
    assert tombstones.find(store, ID) is None
    with pytest.raises(NotFoundError, match="is missing"):
        Content(store).database.get(ID)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b'{"who": ["a"], "why": "x\\ny"}'])
def test_a_tombstone_that_cannot_be_read_still_is_one(store, data):
    """What it does not say is unknown; whoever reads the object is told in one line."""
    store.create(tombstones.path(ID), [data])
    with pytest.raises(NotFoundError, match="was erased by") as error:
        Content(store).database.get(ID)
    assert "\n" not in str(error.value)
