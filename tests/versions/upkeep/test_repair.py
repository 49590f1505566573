"""Repair: what a remote has whole comes back, what nobody needs goes, and nothing else is touched."""

import shutil

import pytest

from fedloom.errors import ConflictError
from fedloom.versions.remotes import addresses, sync
from fedloom.versions.upkeep.fsck import fsck
from fedloom.versions.upkeep.repair import repair
from tests.versions.upkeep.repositories import chain, commit, entry_at, file_of, made_of, on_disk, spoil


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def content(folder):
    return on_disk(folder)


@pytest.fixture
def made(content, tmp_path):
    """A chain of commits that is also at a remote."""
    made = chain(content, 4)
    addresses.add(content, "copy", str(tmp_path / "copy"))
    sync.push(content, "copy")
    content.lease.release()
    return made


@pytest.mark.parametrize("at", [0, 5, 40, -1])
@pytest.mark.parametrize("number", [0, 2])
def test_corrupt_bytes_are_fetched_anew(content, folder, made, number, at):
    """Keyframe or difference, header or body: afterwards the repository is whole, bit by bit."""
    whole = made_of(content, made)
    spoil(file_of(folder, entry_at(content, made[number], "model/body").id), at)
    again = on_disk(folder)
    report = fsck(again)
    assert not report.ok
    repaired = repair(again, report)
    assert repaired.brought == {"copy": 1}
    assert (repaired.removed, repaired.left) == (0, 0)
    assert fsck(on_disk(folder)).ok
    assert made_of(on_disk(folder), made) == whole


def test_lost_bundles_come_back(content, folder, made):
    """What a missing commit leads to is brought with it, down to the root."""
    whole = made_of(content, made)
    for path in (folder / "bundles").iterdir():
        path.unlink()
    again = on_disk(folder)
    report = fsck(again)
    assert len(report.problems) == 1
    assert repair(again, report).brought["copy"] > 3 * len(made)
    assert fsck(on_disk(folder)).ok
    assert made_of(on_disk(folder), made) == whole


def test_a_corrupt_object_in_a_bundle_comes_back(content, folder, made):
    """The others in the same bundle stay."""
    (path,) = {path for path in (folder / "bundles").iterdir() if path.stat().st_size} & {
        folder / content.database._small._places[made[-1]][0]
    }
    spoil(path)
    again = on_disk(folder)
    report = fsck(again)
    assert [p.what for p in report.problems] == ["corrupt"]
    assert repair(again, report).brought == {"copy": 1}
    assert fsck(on_disk(folder)).ok


def test_corrupt_bytes_nobody_needs_are_removed(content, folder, made):
    """Whole objects that dangle stay: only garbage collection removes those."""
    dangling = commit(content, 99, made[-1])
    content.lease.release()
    path = file_of(folder, entry_at(content, dangling, "model/body").id)
    spoil(path)
    again = on_disk(folder)
    repaired = repair(again, fsck(again))
    assert (repaired.brought, repaired.removed) == ({}, 1)
    assert not path.exists()
    report = fsck(on_disk(folder))
    assert report.ok
    assert report.dangling == 4


def test_without_a_remote_that_has_it_nothing_is_removed(content, folder, made, tmp_path):
    """Corrupt bytes may still be worth something to somebody."""
    id_ = entry_at(content, made[0], "model/body").id
    path = file_of(folder, id_)
    spoil(path)
    for there in (file_of(tmp_path / "copy", id_),):
        there.unlink()
    spoiled = path.read_bytes()
    again = on_disk(folder)
    repaired = repair(again, fsck(again))
    assert repaired.left == 4
    assert path.read_bytes() == spoiled


def test_a_remote_that_is_corrupt_itself_gives_nothing(content, folder, made, tmp_path):
    """What arrives is held to its id before anything here is removed, and the other remote is asked."""
    whole = made_of(content, made)
    shutil.copytree(tmp_path / "copy", tmp_path / "second")
    addresses.add(content, "second", str(tmp_path / "second"))
    id_ = entry_at(content, made[0], "model/body").id
    for there in (folder, tmp_path / "copy"):
        spoil(file_of(there, id_))
    again = on_disk(folder)
    repaired = repair(again, fsck(again))
    assert repaired.brought == {"second": 1}
    assert [line.partition(":")[0] for line in repaired.unreachable] == ["copy"]
    assert made_of(on_disk(folder), made) == whole


def test_a_remote_that_is_gone_is_told(content, folder, made, tmp_path):
    """The report says which remote could not be asked, and why."""
    shutil.rmtree(tmp_path / "copy")
    spoil(file_of(folder, entry_at(content, made[0], "model/body").id))
    again = on_disk(folder)
    repaired = repair(again, fsck(again))
    assert repaired.left
    assert "no repository" in repaired.unreachable[0]


def test_nothing_is_repaired_while_somebody_writes(content, folder, made):
    """A writer may be storing a difference to what is removed for a moment."""
    spoil(file_of(folder, entry_at(content, made[0], "model/body").id))
    writer = on_disk(folder)
    writer.add_blob(b"x")
    again = on_disk(folder)
    with pytest.raises(ConflictError, match="is writing"):
        repair(again, fsck(again))
