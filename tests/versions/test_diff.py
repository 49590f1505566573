"""What differs between two commits: every entry of the tree once, settings by key, facts, tensors when asked."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.errors import NotFoundError
from fedloom.versions.diff import ValueChange, values_changed
from fedloom.versions.objects import Commit, Conflict, Entry, Input
from fedloom.versions.recipes import fold_recipe
from fedloom.versions.repository import Repository
from fedloom.versions.store import Store

W = np.arange(4, dtype=np.float32)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=2),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text("xyz", min_size=1, max_size=1), part, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def repository():
    return Repository(Store.in_memory())


def commit(repository, model, *, parts=None, kind="round", facts=None, recipe=None, parents=()):
    tree = {"model": repository.add_tensors(model), **(parts or {})}
    return repository.add_commit(Commit(repository.add_tree(tree).id, parents, kind, "m", facts or {}, recipe))


def changes(found):
    return {entry.path: entry.change for entry in found.entries}


def test_every_entry_is_told_once(repository):
    """Same, changed, added, removed and renamed entries, by path; a rename is one entry with both names."""
    old = commit(repository, {"same": W, "grows": W + 1, "gone": W + 2, "head/old": W + 3})
    new = commit(repository, {"same": W, "grows": W + 9, "fresh": W + 4, "head/new": W + 3})
    found = repository.diff(old, new)
    assert changes(found) == {
        "model/fresh": "added",
        "model/gone": "removed",
        "model/grows": "changed",
        "model/head/new": "renamed",
        "model/same": "same",
    }
    assert [entry.was for entry in found.entries if entry.change == "renamed"] == ["model/head/old"]
    assert found.counts() == {"model": {"same": 1, "changed": 1, "added": 1, "removed": 1, "renamed": 1}}
    assert found.differs
    json.dumps(found.as_json(), allow_nan=False)


def test_a_commit_does_not_differ_from_itself_nor_by_its_parents(repository):
    """Equal trees and facts: nothing differs, whatever came before."""
    old = commit(repository, {"w": W}, facts={"round": 1})
    new = commit(repository, {"w": W}, facts={"round": 1}, parents=(old,))
    for other in (old, new):
        found = repository.diff(old, other)
        assert not found.differs
        assert changes(found) == {"model/w": "same"}


def test_alike_entries_are_no_rename(repository):
    """Two all-zero biases under new names could each be either: removed and added."""
    zero = np.zeros(2, np.float32)
    old, new = commit(repository, {"a": zero, "b": zero}), commit(repository, {"c": zero, "d": zero})
    assert set(changes(repository.diff(old, new)).values()) == {"added", "removed"}


def test_a_rename_does_not_leave_its_part(repository):
    """A tensor of the model that turns up in the optimizer is another thing."""
    old = commit(repository, {"w": W})
    new = commit(repository, {}, parts={"optimizer": repository.add_tensors({"w": W})})
    assert changes(repository.diff(old, new)) == {"model/w": "removed", "optimizer/w": "added"}


def test_settings_are_compared_by_key_and_texts_by_line(repository):
    """JSON blobs by dotted key, lists of sites by name, other texts by line; bytes that are neither have changed."""

    def inputs(rate, sites, text, raw):
        blobs = {
            "pipeline": repository.add_json({"train": {"rate": rate, "epochs": 1}, "tags": ["a", rate]}),
            "sites": repository.add_json(sites),
            "contract": repository.add_blob(text),
            "raw": repository.add_blob(raw),
        }
        return {"inputs": repository.add_tree(blobs)}

    old = commit(repository, {}, parts=inputs(0.05, {"north": {"data": "x"}}, b"one: 1\ntwo\nthree\n", b"\xff\x00"))
    new = commit(repository, {}, parts=inputs(0.1, {"south": {"data": "x"}}, b"one: 1\nTWO\nthree\n", b"\xff\x01"))
    found = {entry.path: entry for entry in repository.diff(old, new).entries}
    assert found["inputs/pipeline"].values == (
        ValueChange("tags", "changed", ["a", 0.05], ["a", 0.1]),
        ValueChange("train.rate", "changed", 0.05, 0.1),
    )
    assert [(v.key, v.change) for v in found["inputs/sites"].values] == [
        ("north.data", "removed"),
        ("south.data", "added"),
    ]
    assert found["inputs/contract"].lines == ("-two", "+TWO")
    assert (found["inputs/raw"].change, found["inputs/raw"].lines) == ("changed", ())


def test_facts_are_compared_too(repository):
    """Kind, metrics, and participation by the name of the site, not by its place in the list."""

    def facts(auc, *sites):
        listed = [{"site": site, "status": status} for site, status in sites]
        return {"metrics": {"pooled": {"auc": auc}}, "participation": {"sites": listed}}

    old = commit(repository, {}, facts=facts(0.7, ("a", "answered"), ("b", "answered")))
    new = commit(repository, {}, facts=facts(0.8, ("b", "late"), ("a", "answered")), kind="merge")
    assert repository.diff(old, new).facts == (
        ValueChange("kind", "changed", "round", "merge"),
        ValueChange("metrics.pooled.auc", "changed", 0.7, 0.8),
        ValueChange("participation.sites.b.status", "changed", "answered", "late"),
    )


def test_an_open_conflict_is_told_with_its_problem(repository):
    """Also where both commits have it."""
    entry = repository.add_conflict(Conflict("model/w", "shape", None, (None, None)))
    old = commit(repository, {"w": W})
    tree = {"model": repository.add_tree({"w": entry})}
    new = repository.add_commit(Commit(repository.add_tree(tree).id, (old,), "merge", "m"))
    for base in (old, new):
        (only,) = repository.diff(base, new).entries
        assert (only.path, only.change, only.problem) == ("model/w", "conflict", "shape")
    (settled,) = repository.diff(new, old, tensors=True).entries
    assert (settled.change, settled.tensor) == ("changed", None)


def test_tensors_are_measured_only_when_asked(repository):
    """Changed ones, in the optimizer too; a change of one unit in the last place is one."""
    near = W.copy()
    near[2] = np.nextafter(W[2], np.float32(9))
    old = commit(repository, {"w": W, "same": W + 1}, parts={"optimizer": repository.add_tensors({"m": W})})
    new = commit(repository, {"w": near, "same": W + 1}, parts={"optimizer": repository.add_tensors({"m": W * 2})})
    assert all(entry.tensor is None for entry in repository.diff(old, new).entries)
    found = {entry.path: entry.tensor for entry in repository.diff(old, new, tensors=True).entries}
    assert found["model/same"] is None
    assert (found["model/w"].changed, found["model/w"].ulps, found["model/w"].share) == (1, 1, 0.25)
    assert found["optimizer/m"].relative == pytest.approx(1)


def test_tensors_that_a_recipe_computes_are_measured(repository):
    """A round whose model is not stored is computed, once for all of its tensors."""
    old = commit(repository, {"v": W, "w": W})
    update = repository.add_tensors({"v": W + 1, "w": W + 2})
    tree = {"model": repository.name_tensors({"v": W + 1, "w": W + 2}), "receipts": repository.add_tree({"a": update})}
    recipe = fold_recipe({"use": "fedavg"}, [Input("a", update.id, 1.0)])
    new = repository.add_commit(Commit(repository.add_tree(tree).id, (old,), "round", "m", {}, recipe))
    found = repository.diff(old, new, tensors=True)
    assert {entry.path: entry.tensor.max_abs for entry in found.entries} == {"model/v": 1.0, "model/w": 2.0}
    assert [change.key for change in found.facts] == ["recipe"]


def test_bytes_that_nobody_here_has_are_left_unmeasured(repository):
    """A promised tensor has changed, and how is not known; one that should be here is missed."""
    tree = repository.add_tree({"w": Entry("tensor", "a" * 64, "promised")})
    old = commit(repository, {"w": W})
    new = repository.add_commit(Commit(repository.add_tree({"model": tree}).id, (old,), "round", "m"))
    (only,) = repository.diff(old, new, tensors=True).entries
    assert (only.change, only.tensor) == ("changed", None)
    lost = repository.add_commit(
        Commit(repository.add_tree({"model": repository.name_tensors({"w": W + 1})}).id, (), "round", "m")
    )
    with pytest.raises(NotFoundError, match="missing from the repository"):
        repository.diff(old, lost, tensors=True)


def test_receipts_are_left_out(repository):
    """They differ in every round, and say nothing of the model."""
    sides = [
        commit(
            repository, {"w": W}, parts={"receipts": repository.add_tree({"a": Entry("tree", digit * 64, "opaque")})}
        )
        for digit in "ab"
    ]
    assert not repository.diff(*sides).differs


@given(JSON, JSON)
def test_values_differ_exactly_where_their_keys_do(old, new):
    """Nothing differs from itself; what was added one way was removed the other; equal JSON has no difference."""
    there, back = list(values_changed(old, new)), list(values_changed(new, old))
    assert list(values_changed(old, old)) == []
    turned = {"added": "removed", "removed": "added", "changed": "changed"}
    assert [(c.key, turned[c.change], c.new, c.old) for c in there] == [(c.key, c.change, c.old, c.new) for c in back]
    if not there and old and new:
        assert old == new


def test_true_is_not_one():
    """JSON tells them apart, Python does not."""
    assert list(values_changed({"a": True}, {"a": 1})) == [ValueChange("a", "changed", True, 1)]
