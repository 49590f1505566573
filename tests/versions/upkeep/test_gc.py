"""Garbage collection: nothing that anything leads to is ever removed, and everything else goes after its grace."""

import os
import select
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.errors import ConflictError, NotFoundError, StorageError, VersionsError
from fedloom.versions import branches, database, leases
from fedloom.versions.content import Content
from fedloom.versions.objects import Attestation, Commit, decode_attestation, encode_attestation, kind_of
from fedloom.versions.store import Store
from fedloom.versions.upkeep.fsck import fsck
from fedloom.versions.upkeep.gc import gc
from tests.versions.crashing import cut, reboot
from tests.versions.upkeep.repositories import (
    chain,
    commit,
    entry_at,
    file_of,
    made_of,
    model,
    on_disk,
    rounds,
    spoil,
)

NOW = timedelta()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def content(folder):
    return on_disk(folder)


def size_of(folder):
    return sum(p.stat().st_size for name in ("objects", "bundles") for p in (folder / name).rglob("*") if p.is_file())


def test_what_refs_lead_to_stays_and_the_rest_goes(content, folder):
    """With no grace, one run removes all that dangles, and what is told as freed is what the disk got back."""
    made = chain(content, 4)
    before, whole = size_of(folder), made_of(content, made)
    commit(content, 99, made[-1])
    grown = size_of(folder)
    collected = gc(content, grace=NOW)
    assert (collected.removed, collected.waiting) == (5, 0)
    assert grown - size_of(folder) == collected.freed
    assert size_of(folder) <= before
    again = on_disk(folder)
    assert made_of(again, made) == whole
    report = fsck(again)
    assert report.ok
    assert report.dangling == 0
    assert report.objects == collected.kept


def test_the_first_run_condemns_and_a_later_one_removes(content):
    """Between the two lies the grace, in which somebody may still need what dangles."""
    made = chain(content, 1)
    commit(content, 99, made[-1])
    first = gc(content, grace=timedelta(seconds=0.2))
    assert (first.removed, first.condemned, first.waiting) == (0, 5, 5)
    assert fsck(content).dangling == 5
    too_early = gc(content, grace=timedelta(hours=1))
    assert (too_early.removed, too_early.condemned, too_early.waiting) == (0, 0, 5)
    time.sleep(0.2)
    assert gc(content, grace=timedelta(seconds=0.2)).removed == 5
    assert fsck(content).dangling == 0
    assert len(content.store.names("condemned")) == 1


def test_what_is_in_use_again_waits_the_whole_grace_again(content):
    """A condemned commit that a ref led to meanwhile is not removed as soon as that ref is gone."""
    made = chain(content, 1)
    dangling = commit(content, 99, made[-1])
    grace = timedelta(seconds=0.3)
    gc(content, grace=grace)
    content.refs.compare_and_set("heads/rescued", None, dangling, "made")
    time.sleep(0.3)
    assert gc(content, grace=grace).removed == 0
    content.refs.compare_and_set("heads/rescued", dangling, None, "gone")
    assert gc(content, grace=grace, reflog=NOW).condemned == 5
    assert fsck(content).ok


def test_a_dry_run_says_the_same_and_does_nothing(content, folder):
    """What would be freed is what the next run frees; no file changes."""
    made = chain(content, 2)
    commit(content, 99, made[-1])
    content.lease.release()
    files = sorted(folder.rglob("*"))
    dry = gc(content, grace=NOW, dry_run=True)
    assert sorted(folder.rglob("*")) == files
    assert replace(gc(content, grace=NOW), freed=0) == replace(dry, dry_run=False, freed=0)
    assert dry.freed > 0


def test_where_refs_pointed_holds_for_a_while(content):
    """The reflog keeps what a ref left, and lets go of it later; fsck knows that it did."""
    made = chain(content, 2)
    other = commit(content, 9)
    content.refs.compare_and_set("heads/main", made[-1], other, "elsewhere")
    assert gc(content, grace=NOW).removed == 0
    assert gc(content, grace=NOW, reflog=NOW).removed == 10
    report = fsck(content)
    assert [str(p) for p in report.problems] == []
    assert report.commits == 1
    assert gc(content, grace=NOW).removed == 0


def test_deleted_refs_hold_what_they_named(content):
    """A branch that was deleted by mistake can be had back."""
    made = chain(content, 2)
    content.refs.compare_and_set("heads/main", made[-1], None, "deleted")
    assert gc(content, grace=NOW).removed == 0
    assert gc(content, grace=NOW, reflog=NOW).removed == 10


@pytest.mark.parametrize("ref", ["tags/v1", "runs/3", "merging/main", "remotes/origin/heads/main"])
def test_every_kind_of_ref_holds(content, ref):
    """Tags, runs, merges under way and remembered branches hold commits like branches do."""
    chain(content, 2, ref)
    assert gc(content, grace=NOW, reflog=NOW).removed == 0


def test_statements_hold_themselves_and_not_their_commit(content):
    """What was stated about a commit stays readable; the commit itself needs a ref."""
    made = chain(content, 1)
    dangling = commit(content, 99)
    for id_ in (made[0], dangling):
        content.attest(id_, "gate", {"passed": True})
    stray = encode_attestation(Attestation(made[0], "gate", {"passed": False}))
    content.database.put(stray)
    content.database.flush()
    assert gc(content, grace=NOW).removed == 6
    assert content.attestation(made[0], "gate").body == {"passed": True}
    assert not content.has(stray.id)
    assert fsck(content).ok


def test_a_keyframe_stays_for_what_is_stored_as_a_difference_to_it(content, folder):
    """The version others are differences to stays, though no ref leads to it."""
    made = chain(content, 1)
    keyframe = entry_at(content, made[0], "model/body").id
    like = content.tree(content.part(made[0], "model").id)
    tree = content.add_tree({"model": content.add_tensors(model(1), like)})
    orphan = content.add_commit(Commit(tree.id, (), "train", "alone"))
    assert {held.base for held in content.database.held() if held.id != keyframe} >= {keyframe}
    content.refs.compare_and_set("heads/main", made[0], orphan, "elsewhere")
    gc(content, grace=NOW, reflog=NOW)
    assert file_of(folder, keyframe).exists()
    assert fsck(on_disk(folder)).ok


def test_updates_that_recipes_read_stay(content):
    """Models that are computed stay computable."""
    made = rounds(content, 5)
    whole = made_of(content, made)
    assert gc(content, grace=NOW, reflog=NOW).removed == 0
    assert made_of(content, made) == whole


@pytest.mark.parametrize("harm", ["tree", "ref"])
def test_nothing_is_removed_where_it_cannot_be_told_what_is_needed(content, folder, harm):
    """A tree that cannot be read may lead to anything."""
    made = chain(content, 3)
    commit(content, 99, made[-1])
    if harm == "ref":
        (folder / "refs/heads/main.ref/00000001").write_bytes(b"")
    else:
        content.database.discard([content.part(made[1], "model").id])
    before = sorted(path for path in folder.rglob("*") if path.is_file())
    with pytest.raises(VersionsError, match="fedloom fsck"):
        gc(content, grace=NOW)
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == before


def test_a_corrupt_tensor_is_no_reason_to_keep_garbage(content, folder):
    """A tensor leads nowhere, so what it is made of does not matter."""
    made = chain(content, 1)
    commit(content, 99, made[-1])
    spoil(file_of(folder, entry_at(content, made[0], "model/body").id))
    assert gc(on_disk(folder), grace=timedelta(hours=1)).waiting == 5


def test_while_somebody_writes_nothing_is_removed(content, folder):
    """What another writer has not yet pointed a ref to may be all that dangles."""
    made = chain(content, 1)
    commit(content, 99, made[-1])
    content.lease.release()
    writer = on_disk(folder)
    dangling = commit(writer, 98, made[-1])
    with pytest.raises(ConflictError, match="process"):
        gc(content, grace=NOW)
    collected = gc(content, grace=timedelta(microseconds=1))
    assert collected.writers
    assert collected.removed == 0
    writer.refs.compare_and_set("heads/other", None, dangling, "made")
    writer.lease.release()
    assert gc(content, grace=timedelta(microseconds=1)).removed == 5
    assert len(on_disk(folder).model(dangling)) == 2


def test_whoever_begins_to_write_waits_until_the_clearing_is_over(content, folder):
    """Otherwise what it finds here could be gone a moment later."""
    chain(content, 1)
    code = (
        "import sys, time; from tests.versions.upkeep.repositories import *; from pathlib import Path\n"
        "content = on_disk(Path(sys.argv[1])); print('ready', flush=True)\n"
        "content.add_blob(b'x'); print('wrote', flush=True)"
    )
    with leases.alone(content.store):
        child = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "ready\n"
        assert select.select([child.stdout], [], [], 0.3)[0] == []
    assert child.communicate(timeout=10)[0] == "wrote\n"


@pytest.mark.parametrize("how", ["branch", "move"])
def test_a_ref_that_is_made_meanwhile_waits_and_points_to_nothing_that_goes(content, folder, how):
    """Whoever makes one has written nothing yet, so that nobody knew of it: it is told that the commit is gone."""
    dangling = commit(content, 99, *chain(content, 1))
    content.lease.release()
    other = on_disk(folder)
    assert other.has(dangling)
    told = []

    def rescue() -> None:
        try:
            if how == "branch":
                branches.create(other, "rescue", dangling)
            else:
                other.refs.compare_and_set("heads/rescue", None, dangling, "made")
        except NotFoundError as error:
            told.append(str(error))

    with leases.alone(content.store):
        writer = threading.Thread(target=rescue)
        writer.start()
        writer.join(0.2)
        assert writer.is_alive()
        content.database.discard([dangling])
    writer.join(10)
    assert len(told) == 1
    assert other.refs.get("heads/rescue") is None
    assert other.refs.log("heads/main")


def test_who_points_a_ref_somewhere_keeps_it(content, folder):
    """From then on whoever clears away knows of it."""
    dangling = commit(content, 99, *chain(content, 1))
    content.lease.release()
    other = on_disk(folder)
    other.refs.compare_and_set("heads/rescue", None, dangling, "made")
    assert gc(content, grace=timedelta(microseconds=1)).writers == (f"process {os.getpid()}",)


def test_what_is_killed_half_way_leaves_no_history_with_holes(content, folder, tmp_path, monkeypatch):
    """At whatever write the power goes: what is still there and names others has them all; the next run ends it."""
    monkeypatch.setattr(database, "_APART", 4000)  # several steps
    made = chain(content, 2)
    lost = list(made)
    for seed in range(10, 12):
        note = content.add_blob(f"note {seed} ".encode() * 50)
        lost.append(commit(content, seed, lost[-1], note=content.add_tree({"below": note})))
    lost.append(commit(content, 14, lost[2], lost[3], kind="merge"))
    content.attest(lost[-1], "gate", {"passed": False})
    content.refs.compare_and_set(f"attestations/{lost[-1]}/gate", content.attest(lost[-1], "gate", {}), None, "gone")
    big = content.add_commit(replace(content.commit(lost[-1]), parents=(lost[-1],), message=noise(80_000)))
    content.add_commit(replace(content.commit(lost[-1]), parents=(big,)))
    content.lease.release()
    for at in count(1):
        copy = tmp_path / str(at)
        shutil.copytree(folder, copy)
        cut_off, disk = cut(copy, at, "late")
        with suppress(StorageError):
            gc(cut_off, grace=NOW, reflog=NOW)
        after = reboot(copy)
        assert holes(after) == []
        assert gc(after, grace=NOW, reflog=NOW).kept == 10
        assert set(after.commits_from("")) == set(made)
        if not disk.is_over:
            break
    assert at > 10


def noise(size: int) -> str:
    return np.random.default_rng(0).bytes(size).hex()


def holes(content: Content) -> list[str]:
    """List what is named by what is here, and is not here."""
    found = []
    for id_ in content.database.ids():
        match kind_of(content.database.get(id_)):
            case "commit":
                one = content.commit(id_)
                named = {f"parent of {one.message[:20]}": parent for parent in one.parents} | {"tree": one.tree}
            case "tree":
                named = {name: entry.id for name, entry in content.tree(id_).items()}
            case "attestation":
                named = {"subject": decode_attestation(content.database.get(id_)).subject}
            case _:
                continue
        found += [name for name, other in named.items() if not content.has(other)]
    return found


def test_two_do_not_clear_at_once(content):
    """The second is told who is at it."""
    chain(content, 1)
    with leases.alone(content.store), pytest.raises(ConflictError, match="already"):
        gc(content, grace=NOW)


def test_many_bundles_become_few(content, folder):
    """Each commit leaves a bundle; a run puts them together."""
    made = chain(content, 12)
    assert len(list((folder / "bundles").iterdir())) == 12
    gc(content)
    assert len(list((folder / "bundles").iterdir())) < 6
    assert fsck(on_disk(folder)).commits == len(made)


def test_half_written_files_of_killed_processes_are_swept(content, folder):
    """A draft of yesterday belongs to nobody; one of now may be somebody's."""
    chain(content, 1)
    old, new = folder / "objects" / "00" / "a#1", folder / "bundles" / "b#2"
    old.parent.mkdir(exist_ok=True)
    for path in (old, new):
        path.write_bytes(b"12345")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    assert gc(content).swept == 5
    assert not old.exists()
    assert new.exists()


def test_it_works_on_an_object_store():
    """Without folders and times, all alike."""
    content = Content(Store.in_memory())
    made = chain(content, 3)
    commit(content, 99, made[-1])
    assert gc(content, grace=NOW).removed == 5
    assert fsck(content).ok


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_on_any_graph_exactly_what_refs_reach_stays(data):
    """Random histories with random refs: what stays is the ancestors of the refs, with all their parts."""
    content = Content(Store.in_memory())
    made = []
    for number in range(data.draw(st.integers(1, 8))):
        parents = data.draw(st.lists(st.sampled_from(made), max_size=2, unique=True)) if made else []
        tree = content.add_tree({"model": content.add_tensors({"w": np.full(2, number % 4, np.float32)})})
        made.append(content.add_commit(Commit(tree.id, tuple(parents), "train", str(number))))
    tips = data.draw(st.lists(st.sampled_from(made), unique=True))
    for number, tip in enumerate(tips):
        content.refs.compare_and_set(f"heads/b{number}", None, tip, "made")
    expected, queue = set(), list(tips)
    while queue:
        id_ = queue.pop()
        if id_ not in expected:
            expected.add(id_)
            queue += content.commit(id_).parents
    parts = {p for id_ in expected for p in (content.commit(id_).tree, *_parts(content, id_))}
    gc(content, grace=NOW)
    assert set(content.database.ids()) == expected | parts


def _parts(content, id_):
    tree = content.part(id_, "model")
    return [tree.id, *(entry.id for entry in content.tree(tree.id).values())]
