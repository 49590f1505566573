"""Erasure: the bytes are gone from everywhere, nothing else is lost, and what happened is told to whoever asks."""

import os
import time
from dataclasses import replace

import pytest

from fedloom.errors import ConflictError, GateError, NotFoundError, SpecError, VersionsError
from fedloom.values import Digest
from fedloom.versions import leases, objects, tombstones
from fedloom.versions.content import Content
from fedloom.versions.objects import Entry
from fedloom.versions.remotes import addresses, sync
from fedloom.versions.store import Store
from fedloom.versions.upkeep.erase import choose_object, choose_path, choose_updates, erase
from fedloom.versions.upkeep.fsck import fsck
from fedloom.versions.upkeep.gc import gc
from fedloom.versions.verify import verify
from tests.versions.upkeep.repositories import (
    SITES,
    chain,
    commit,
    entry_at,
    folded,
    made_of,
    model,
    on_disk,
    rounds,
)

WHO = {"who": "ada", "why": "asked to"}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def content(folder):
    return on_disk(folder)


def bytes_of(folder):
    """Read everything that lies in a store's folder, drafts too."""
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def told(report):
    return [str(problem) for problem in report.problems]


def test_an_erased_tensor_says_so_in_one_sentence(content, folder):
    """Reading it is "not found" with who, when and why; fsck takes it for no loss, and gc goes on working."""
    made = chain(content, 3)
    id_ = entry_at(content, made[0], "model/head").id
    erased = erase(content, choose_path(content, "model/head", made[0]), **WHO)
    assert erased.objects == (id_,)
    again = on_disk(folder)
    with pytest.raises(
        NotFoundError, match=r"^object [0-9a-f]{12} was erased by ada, 20\d\d-\d\d-\d\d: asked to$"
    ) as e:
        again.model(made[0])
    assert e.value.exit_code == 4
    report = fsck(again)
    assert told(report) == []
    assert [absence.id for absence in report.absences] == [id_]
    assert len(made_of(again, made[1:])) == 2
    again.lease.release()
    content.lease.release()
    gc(again)
    assert verify(again, made[-1]).ok


@pytest.mark.parametrize("path", ["model/body", "model/head", "note", "model"])
def test_no_copy_of_the_bytes_is_left(content, folder, path):
    """Large or small, tensor or text, in bundles or in half-written files: the bytes are nowhere any more."""
    secret = b"a patient's name, said in plain text"
    first = commit(content, 1, note=content.add_blob(secret))
    made = commit(content, 2, first)
    content.refs.compare_and_set("heads/main", None, made, "made")
    choice = choose_path(content, path, first)
    stored = [bytes(content.database._stored(id_)[0]) for id_ in choice.objects]
    draft = folder / "objects" / "00" / "left#5"
    draft.parent.mkdir(exist_ok=True)
    draft.write_bytes(b"".join(stored))
    before = bytes_of(folder)
    assert all(data in before for data in stored)
    erase(content, choice, **WHO)
    after = bytes_of(folder)
    assert not any(data in after for data in stored)
    assert (secret in after) is (path != "note")
    assert len(on_disk(folder).model(made)) == 2
    assert fsck(on_disk(folder)).ok


def test_versions_stored_as_differences_to_an_erased_one_are_kept(content, folder):
    """They are stored anew before it goes, at no other commit's cost."""
    made = chain(content, 6)
    whole = made_of(content, made)
    keyframe = entry_at(content, made[0], "model/body").id
    assert sum(held.base == keyframe for held in content.database.held()) == 5
    erase(content, choose_object(content, keyframe), **WHO)
    again = on_disk(folder)
    assert made_of(again, made[1:]) == {id_: whole[id_] for id_ in made[1:]}
    assert [str(p) for p in fsck(again).problems] == []


@pytest.mark.parametrize("part", ["model/body", "model"])
def test_what_a_protected_ref_points_to_is_refused(content, part):
    """The model in use is not erased by accident; with force it is."""
    made = chain(content, 2)
    choice = choose_path(content, part)
    with pytest.raises(GateError, match="heads/main is protected"):
        erase(content, choice, **WHO)
    assert len(content.model(made[-1])) == 2
    assert tombstones.all_of(content.store) == {}
    erase(content, choice, **WHO, force=True)
    with pytest.raises(NotFoundError, match="erased by ada"):
        content.model(made[-1])
    assert fsck(content).ok


def test_an_unprotected_ref_is_not_in_the_way(content):
    """Only what is protected is."""
    chain(content, 2)
    content.settings.change(lambda before: replace(before, protected=()))
    erase(content, choose_path(content, "model/body"), **WHO)
    assert fsck(content).ok


def test_updates_of_a_site_go_and_every_model_stays(content, folder):
    """Models that were computed from them are stored first; afterwards nothing can compute them any more."""
    made = rounds(content, 4)
    whole = made_of(content, made)
    ids = [entry_at(content, id_, f"receipts/north/{name}").id for id_ in made[1:] for name in ("body", "head")]
    choice = choose_updates(content, "north")
    assert set(choice.objects) == set(ids)
    erased = erase(content, choice, **WHO)
    assert erased.materialized == tuple(made[1:])
    again = on_disk(folder)
    assert not any(again.has(id_) for id_ in ids)
    assert made_of(again, made) == whole
    report = fsck(again)
    assert told(report) == []
    assert {absence.reason[:17] for absence in report.absences} == {"erased by ada, 20"}
    assert all(entry_at(again, id_, "receipts/south/body").id in set(again.database.ids()) for id_ in made[1:])
    verdict = verify(again, made[-1])
    assert verdict.problems == ()
    with pytest.raises(NotFoundError, match="no update of 'north' is stored"):
        choose_updates(again, "north")


def test_an_update_that_is_also_a_model_stays(content):
    """With one site the round's model is its update: erasing that would lose the model."""
    root = commit(content, 0)
    made = folded(content, root, {"north": model(3)}, stored=True)
    content.refs.compare_and_set("heads/main", None, made, "made")
    assert model(3)["body"].tobytes() == content.model(made)["body"].tobytes()
    choice = choose_updates(content, "north")
    assert (len(choice.objects), choice.shared) == (0, 2)
    assert erase(content, choice, **WHO).objects == ()
    assert len(content.model(made)) == 2


def test_what_a_recipe_would_compute_again_is_refused(content):
    """Erasing only the result would erase nothing; what it is made of must go first, which stores it."""
    made = rounds(content, 2)
    content.settings.change(lambda before: replace(before, protected=()))
    content.part_tensors(made[1], "model")
    again = objects.encode_tensor(content.model(made[1])["body"])
    content.database.put(again)
    content.database.flush()
    choice = choose_path(content, "model/body", made[1])
    with pytest.raises(GateError, match="would be computed again"):
        erase(content, choice, **WHO)
    erase(content, choose_updates(content, "north"), **WHO)
    erase(content, choice, **WHO)
    with pytest.raises(NotFoundError):
        content.model(made[1])
    assert len(content.model(made[2])) == 2
    assert fsck(content).ok


def test_models_computed_from_an_erased_model_are_stored_first(content):
    """The first model goes; the rounds after it stay."""
    made = rounds(content, 3)
    whole = made_of(content, made)
    erased = erase(content, choose_path(content, "model", made[0]), **WHO)
    assert erased.materialized == (made[1],)
    assert made_of(content, made[1:]) == {id_: whole[id_] for id_ in made[1:]}
    assert told(fsck(content)) == []


@pytest.mark.parametrize("what", ["commit", "tree"])
def test_history_itself_is_not_erased(content, what):
    """Without commits and trees nothing could be checked any more."""
    made = chain(content, 2)
    id_ = made[0] if what == "commit" else content.commit(made[0]).tree
    with pytest.raises(VersionsError, match=f"is a {what}"):
        erase(content, choose_object(content, id_[:12]), **WHO)
    assert fsck(content).ok


def test_a_choice_that_fits_nothing_or_too_much_is_told(content):
    """Ids need four digits and one object; paths and sites are suggested."""
    chain(content, 1)
    update = Entry("tree", content.add_tree({"w": Entry("tensor", Digest("3" * 64))}).id, "promised")
    promised = commit(content, 3, receipts=content.add_tree({"north": update}))
    content.refs.compare_and_set("heads/other", None, promised, "made")
    for digits in ("", "0", "0000000"):
        with pytest.raises(NotFoundError):
            choose_object(content, digits)
    with pytest.raises(NotFoundError, match="did you mean 'model/head'"):
        choose_path(content, "model/hed")
    with pytest.raises(NotFoundError, match="did you mean 'north'"):
        choose_updates(content, "nort")
    with pytest.raises(NotFoundError, match="no update of 'north' is stored here"):
        choose_updates(content, "north")
    with pytest.raises(NotFoundError, match="not stored here"):
        choose_path(content, "receipts/north", "other")


@pytest.mark.parametrize("missing", ["who", "why"])
def test_who_and_why_must_be_said(content, missing):
    """They are all that is left."""
    chain(content, 2)
    with pytest.raises(SpecError, match="say who erases and why"):
        erase(content, choose_path(content, "model/head", "HEAD~1"), **{**WHO, missing: " \n"})
    assert tombstones.all_of(content.store) == {}


def test_nothing_is_erased_while_somebody_writes(content, folder):
    """A writer may be storing a difference to what would go."""
    made = chain(content, 2)
    writer = on_disk(folder)
    writer.add_blob(b"x")
    with pytest.raises(ConflictError, match="is writing"):
        erase(content, choose_path(content, "model/head", made[0]), **WHO)
    assert content.has(entry_at(content, made[0], "model/head").id)
    with leases.alone(content.store), pytest.raises(ConflictError, match="already"):
        erase(content, choose_path(content, "model/head", made[0]), **WHO)


def test_an_erasure_that_was_cut_off_is_told_and_finished_by_erasing_again(content):
    """The tombstone comes first, so bytes that are still here show; the first tombstone stands."""
    made = chain(content, 2)
    id_ = entry_at(content, made[0], "model/head").id
    tombstones.bury(content.store, id_, "ada", "asked to")
    (line,) = told(fsck(content))
    assert f"`fedloom erase {id_[:12]}`" in line
    erase(content, choose_object(content, id_[:12]), who="bob", why="again")
    assert fsck(content).ok
    assert tombstones.find(content.store, id_).who == "ada"
    erase(content, choose_object(content, id_[:12]), who="bob", why="once more")
    assert fsck(content).ok


def test_the_tombstone_travels(content, tmp_path):
    """Whoever clones or is pushed to hears of the erasure, and takes the history for whole."""
    made = chain(content, 3)
    erase(content, choose_path(content, "model/head", made[0]), **WHO)
    addresses.add(content, "copy", str(tmp_path / "copy"))
    sync.push(content, "copy")
    pushed = on_disk(tmp_path / "copy")
    clone = Content(Store.in_memory())
    sync.clone(clone, str(tmp_path / "copy"))
    for there in (pushed, clone):
        assert [(t.who, t.why) for t in tombstones.all_of(there.store).values()] == [("ada", "asked to")]
        assert told(fsck(there)) == []
        assert len(there.model(made[-1])) == 2


def test_it_works_on_an_object_store():
    """Bundles are written anew there as well."""
    content = Content(Store.in_memory())
    made = chain(content, 3)
    erase(content, choose_path(content, "model", made[0]), **WHO)
    assert told(fsck(content)) == []
    assert len(made_of(content, made[1:])) == 2


def test_a_draft_of_a_writer_that_is_gone_does_not_outlive_an_erasure(content, folder):
    """Half-written files may hold what is erased, however young they are."""
    made = chain(content, 2)
    draft = folder / "bundles" / "x#9"
    draft.write_bytes(b"secret")
    os.utime(draft, (time.time() - 1,) * 2)
    erase(content, choose_path(content, "model/head", made[0]), **WHO)
    assert not draft.exists()


def test_every_site_can_be_erased(content):
    """One after the other; all models stay."""
    made = rounds(content, 3)
    whole = made_of(content, made)
    for site in SITES:
        erase(content, choose_updates(content, site), **WHO)
    assert made_of(content, made) == whole
    assert told(fsck(content)) == []
