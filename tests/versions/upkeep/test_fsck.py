"""fsck: it finds whatever is wrong, says what to do, and takes nothing for wrong that may be so."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fedloom.values import Digest
from fedloom.versions import objects, tombstones
from fedloom.versions.content import Content
from fedloom.versions.objects import Commit, Conflict, Entry
from fedloom.versions.store import Store
from fedloom.versions.upkeep import reading
from fedloom.versions.upkeep.fsck import fsck
from tests.versions.upkeep.repositories import (
    SITES,
    chain,
    commit,
    entry_at,
    file_of,
    folded,
    model,
    on_disk,
    rounds,
    spoil,
)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def content(folder):
    return on_disk(folder)


def told(report):
    return [str(problem) for problem in report.problems]


@pytest.mark.parametrize("quick", [False, True])
def test_a_whole_repository_passes(content, quick):
    """Every object is counted, reachable, and nothing is told."""
    chain(content, 4)
    report = fsck(content, quick=quick)
    assert told(report) == []
    assert report.ok
    assert report.commits == 4
    assert report.refs == 1
    assert (report.objects, report.dangling, report.cut_off) == (report.reachable, 0, 0)
    assert report.objects == len(list(content.database.ids()))
    assert (report.bytes > 4 * 80_000) is not quick
    json.dumps(report.as_json())


def test_an_empty_repository_is_whole(content):
    """Where nothing was committed nothing is wrong."""
    assert fsck(content).ok


def test_what_no_ref_leads_to_dangles_and_is_no_problem(content):
    """A process that was killed before its ref moved leaves objects, and a whole repository."""
    made = chain(content, 2)
    commit(content, 77, made[-1])
    report = fsck(content)
    assert report.ok
    assert report.dangling == 5  # commit, tree, model, two tensors


@pytest.mark.parametrize("at", [0, 5, 100, -1])
def test_a_changed_byte_is_found_wherever_it_is(content, folder, at):
    """Every byte of a stored object counts: the problem names where it is needed and says what to do."""
    made = chain(content, 1)
    id_ = entry_at(content, made[0], "model/body").id
    spoil(file_of(folder, id_), at)
    report = fsck(on_disk(folder))
    assert [problem.what for problem in report.problems] == ["corrupt"]
    assert report.problems[0].id == id_
    assert f"commit {made[0][:12]} model/body" in told(report)[0]
    assert "fsck --repair" in told(report)[0]


def test_a_corrupt_keyframe_is_told_with_all_that_needs_it(content, folder):
    """Versions that are stored as differences are lost with their keyframe, and each is named."""
    made = chain(content, 3)
    spoil(file_of(folder, entry_at(content, made[0], "model/body").id))
    assert {p.where for p in fsck(on_disk(folder)).problems} == {f"commit {id_[:12]} model/body" for id_ in made}


def test_a_missing_object_is_found_also_by_a_quick_look(content, folder):
    """What refs lead to must be there."""
    made = chain(content, 2)
    file_of(folder, entry_at(content, made[1], "model/body").id).unlink()
    for quick in (False, True):
        report = fsck(on_disk(folder), quick=quick)
        assert [(p.what, p.where) for p in report.problems] == [("missing", f"commit {made[1][:12]} model/body")]


def test_a_lost_bundle_shows_in_what_it_held(content, folder):
    """Where a bundle is gone, the tip of each history in it is missing: nothing further can be told."""
    made = chain(content, 2)
    for path in (folder / "bundles").iterdir():
        path.unlink()
    report = fsck(on_disk(folder))
    assert [(p.what, p.id) for p in report.problems] == [("missing", made[1])]
    assert report.dangling == 2


def test_a_bundle_that_was_cut_off_and_is_needed_is_told(content, folder):
    """What a cut took is missing, and the bundle to restore is named."""
    chain(content, 1)
    (path,) = (folder / "bundles").iterdir()
    path.write_bytes(path.read_bytes()[:50])
    report = fsck(on_disk(folder))
    assert [p.what for p in report.problems] == ["missing"]
    assert path.name in report.problems[0].todo


def test_leftovers_of_a_power_cut_are_no_problem(content, folder):
    """Files cut off that nothing needs are counted; the next write heals them."""
    chain(content, 1)
    left = objects.encode_tensor(model(5)["body"])
    path = file_of(folder, left.id)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"fls")
    (folder / "bundles" / ("0" * 64)).write_bytes(b"flb\x01")
    report = fsck(on_disk(folder))
    assert report.ok
    assert report.cut_off == 2
    again = on_disk(folder)
    again.database.put(left)
    again.database.flush()
    assert fsck(on_disk(folder)).cut_off == 1


def test_corrupt_bytes_nobody_needs_are_in_the_way(content, folder):
    """A later commit of the same tensor would take them for whole, so they are a problem, which repair solves."""
    made = chain(content, 1)
    dangling = commit(content, 77, made[-1])
    spoil(file_of(folder, entry_at(content, dangling, "model/body").id))
    problem = fsck(on_disk(folder)).problems[0]
    assert (problem.what, problem.where) == ("corrupt", "")
    assert "nothing needs it" in str(problem)


def test_an_object_of_another_kind_than_named_is_found(content):
    """A tree may call a blob a tensor; whoever reads it would stumble."""
    blob = content.add_blob(b"text")
    tree = content.add_tree({"model": content.add_tree({"w": Entry("tensor", blob.id)})})
    id_ = content.add_commit(Commit(tree.id, (), "train", "forged"))
    content.refs.compare_and_set("heads/main", None, id_, "made")
    assert [(p.what, p.id) for p in fsck(content).problems] == [("kind", blob.id)]


def test_a_ref_to_something_that_is_no_commit_is_found(content):
    """Refs point to commits, and attestations to statements."""
    blob = content.add_blob(b"text")
    content.database.flush()
    content.refs.compare_and_set("heads/main", None, blob.id, "made")
    problem = fsck(content).problems[0]
    assert (problem.what, problem.where) == ("kind", "heads/main")


@pytest.mark.parametrize("what", ["refs/heads/main.ref", "settings"])
@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"target": null}'])
def test_a_move_that_cannot_be_read_is_found(content, folder, what, data):
    """Refs and settings are read move by move; the path to restore is named."""
    chain(content, 2)
    content.settings.change(lambda before: replace(before, only=("body",)))
    path = folder / what / "00000001"
    path.write_bytes(data)
    report = fsck(on_disk(folder))
    if what == "settings" and data.startswith(b'{"'):
        assert report.ok
    else:
        assert any(f"{what}/00000001" in line for line in told(report))


def test_a_gap_in_the_moves_of_a_ref_is_found(content, folder):
    """Moves are numbered without gaps, so a lost one shows."""
    made = chain(content, 3)
    for old, new in ((made[2], made[1]), (made[1], made[0])):
        content.refs.compare_and_set("heads/main", old, new, "back")
    (folder / "refs/heads/main.ref/00000002").unlink()
    assert [p.what for p in fsck(on_disk(folder)).problems] == ["ref"]
    assert "00000002" in told(fsck(on_disk(folder)))[0]


def test_where_a_ref_pointed_before_is_kept_too(content, folder):
    """What only an old move of a ref leads to must be there, until garbage collection has let go of it."""
    made = chain(content, 2)
    other = commit(content, 9)
    content.refs.compare_and_set("heads/main", made[-1], other, "elsewhere")
    file_of(folder, entry_at(content, made[0], "model/body").id).unlink()
    assert {p.what for p in fsck(on_disk(folder)).problems} == {"missing", "corrupt"}
    reading.let_go(content, reading.LONG_AGO.replace(year=9000))
    report = fsck(on_disk(folder))
    assert [p.where for p in report.problems if p.where] == []


def test_statements_are_checked(content, folder):
    """An attestation is looked for like anything a ref points to."""
    made = chain(content, 1)
    content.attest(made[0], "gate", {"passed": True})
    assert fsck(content).ok
    content.database.discard([content.refs.get(f"attestations/{made[0]}/gate")])
    assert [p.where for p in fsck(on_disk(folder)).problems] == [f"attestations/{made[0][:12]}/gate"]


def receipts(content, keep):
    update = {name: Entry("tensor", objects.encode_tensor(array).id) for name, array in model(3).items()}
    tree = content.add_tree(update).id if keep == "promised" else Digest("1" * 64)
    return content.add_tree({"north": Entry("tree", tree, keep)})


@pytest.mark.parametrize(("keep", "reason", "count"), [("promised", "promised by north", 2), ("opaque", "opaque", 1)])
def test_what_a_site_keeps_or_nobody_need_not_be_here(content, keep, reason, count):
    """Promised updates are counted per site, commitments as opaque."""
    id_ = commit(content, 1, receipts=receipts(content, keep))
    content.refs.compare_and_set("heads/main", None, id_, "made")
    report = fsck(content)
    assert told(report) == []
    assert report.absent == {reason: count}


def test_what_one_commit_excuses_another_may_demand(content, folder):
    """An object is promised in one tree and stored in another: then it must be here."""
    id_ = commit(content, 1, receipts=receipts(content, "promised"))
    demanding = commit(content, 3, id_)
    content.refs.compare_and_set("heads/main", None, demanding, "made")
    assert fsck(content).absent == {}
    body = entry_at(content, demanding, "model/body").id
    file_of(folder, body).unlink()
    report = fsck(on_disk(folder))
    assert [(p.what, p.id) for p in report.problems] == [("missing", body)]
    assert report.absent == {}


def test_models_that_recipes_compute_need_not_be_here(content):
    """A long chain of rounds is whole although no model but the first is stored."""
    made = rounds(content, 12)
    report = fsck(content)
    assert told(report) == []
    assert report.absent == {"computed by recipe": 24}
    assert len(content.model(made[-1])) == 2


def test_a_model_that_cannot_be_computed_is_missing(content, folder):
    """An update that is gone takes all later models with it, and each says why."""
    made = rounds(content, 3)
    gone = entry_at(content, made[2], "receipts/south/body").id
    file_of(folder, gone).unlink()
    again = on_disk(folder)
    report = fsck(again)
    where = {p.where for p in report.problems if "nor can it be computed" in p.told}
    assert where == {f"commit {id_[:12]} model/{name}" for id_ in made[2:] for name in ("body", "head")}
    assert any("what 'south' gave" in line for line in told(report))


def test_a_stored_model_does_not_need_its_recipe(content, folder):
    """Where the result is stored, only the receipts that are demanded may be missed."""
    root = commit(content, 0)
    id_ = folded(content, root, {site: model(index + 1) for index, site in enumerate(SITES)}, stored=True)
    content.refs.compare_and_set("heads/main", None, id_, "made")
    assert fsck(content).absent == {}
    file_of(folder, entry_at(content, id_, "receipts/south/body").id).unlink()
    assert [p.where for p in fsck(on_disk(folder)).problems] == [f"commit {id_[:12]} receipts/south/body"]


def test_tensors_outside_of_the_sparse_globs_are_not_fetched(content, folder):
    """In a sparse repository model tensors may be absent, and only those."""
    made = chain(content, 1)
    content.settings.change(lambda before: replace(before, only=("head*",)))
    file_of(folder, entry_at(content, made[0], "model/body").id).unlink()
    report = fsck(on_disk(folder))
    assert told(report) == []
    assert report.absent == {"not fetched": 1}


def test_an_erased_object_says_who_when_and_why(content, folder):
    """A tombstone is no loss; bytes that came back after it are."""
    made = chain(content, 1)
    id_ = entry_at(content, made[0], "model/body").id
    tombstones.bury(content.store, id_, "ada", "asked to")
    assert [p.what for p in fsck(content).problems] == ["erased"]
    file_of(folder, id_).unlink()
    report = fsck(on_disk(folder))
    assert told(report) == []
    (reason,) = report.absent
    assert reason.startswith("erased by ada, 20")
    assert reason.endswith(": asked to")


def test_what_others_say_was_erased_is_no_order_to_erase_it(content, folder):
    """A tombstone that came from elsewhere excuses an absence; it makes nothing of bytes that are here."""
    made = chain(content, 1)
    id_ = entry_at(content, made[0], "model/body").id
    tombstones.hear(content.store, id_, b'{"who": "eve", "when": "2026-01-01", "why": "x"}', "a push")
    assert fsck(content).ok
    file_of(folder, id_).unlink()
    report = fsck(on_disk(folder))
    assert report.ok
    assert list(report.absent) == ["erased, says a push, by eve, 2026-01-01: x"]


@pytest.mark.parametrize("what", ["commit", "tree"])
def test_no_tombstone_takes_the_place_of_history(content, what):
    """What names other objects cannot be erased: a tombstone there would hide whatever it names."""
    made = chain(content, 2)
    id_ = made[0] if what == "commit" else content.commit(made[0]).tree
    tombstones.bury(content.store, id_, "ada", "asked to")
    content.database.discard([id_])
    assert [(p.what, p.id) for p in fsck(content).problems] == [("missing", id_)]


def test_sides_of_a_conflict_need_not_be_here(content):
    """The commits a conflict came from name its sides; the conflict itself must be here."""
    absent = Entry("tensor", Digest("2" * 64))
    conflict = content.add_conflict(Conflict("model/w", "contested", None, (absent, absent)))
    tree = content.add_tree({"model": content.add_tree({"w": conflict})})
    id_ = content.add_commit(Commit(tree.id, (), "merge", "open"))
    content.refs.compare_and_set("merging/main", None, id_, "made")
    report = fsck(content)
    assert told(report) == []
    assert list(report.absent.values()) == [1]


def test_merged_heads_that_are_no_parents_are_walked(content, folder):
    """A recipe may read commits that are no parents; what is missing of them is told."""
    picked = commit(content, 5)
    base = commit(content, 1)
    recipe = objects.Recipe("merge/1", {"bases": []}, (objects.Input("picked", picked, 1.0),))
    tree = content.commit(base).tree
    id_ = content.add_commit(Commit(tree, (base,), "merge", "picked", {}, recipe))
    content.refs.compare_and_set("heads/main", None, id_, "made")
    assert fsck(content).dangling == 0
    file_of(folder, entry_at(content, picked, "model/body").id).unlink()
    assert [p.where for p in fsck(on_disk(folder)).problems] == [f"commit {picked[:12]} model/body"]


def test_it_works_on_any_store():
    """An object store has no folders, and is checked alike."""
    content = Content(Store.in_memory())
    made = chain(content, 3)
    assert fsck(content).ok
    content.database.discard([entry_at(content, made[0], "model/head").id])
    assert [p.what for p in fsck(content).problems] == ["missing"]


def test_it_tells_how_far_it_is(content):
    """Progress ends with all objects done."""
    chain(content, 40)
    heard = []
    fsck(content, progress=lambda done, known: heard.append((done, known)))
    count = len(list(content.database.ids()))
    assert heard[-1] == (count, count)
    assert heard == sorted(heard)


def test_zero_bytes_for_a_tensor_without_elements_are_whole(content):
    """Empty tensors are objects like any others."""
    tree = content.add_tree({"model": content.add_tensors({"none": np.zeros((0, 4), np.float32)})})
    id_ = content.add_commit(Commit(tree.id, (), "train", "empty"))
    content.refs.compare_and_set("heads/main", None, id_, "made")
    assert fsck(content).ok
