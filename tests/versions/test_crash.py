"""Nothing that was acknowledged is ever lost: not to kill -9, not to a power cut, not to a full disk."""

import os
import random
import shutil
import time
from datetime import timedelta

import pytest

from fedloom.errors import StorageError
from fedloom.versions.history import ancestors
from fedloom.versions.upkeep.erase import choose_object, erase
from fedloom.versions.upkeep.fsck import fsck
from fedloom.versions.upkeep.gc import gc
from tests.versions.crashing import MAIN, WORK, Children, acks, cut, reboot
from tests.versions.upkeep.repositories import on_disk

pytestmark = pytest.mark.slow
KILLS = 8


@pytest.fixture(scope="module")
def children():
    started = Children()
    yield started
    started.close()


def require_whole(content, acknowledged, allowed=()):
    """What was acknowledged is in the branch, with its model; and nothing is wrong beside."""
    report = fsck(content)
    assert [str(problem) for problem in report.problems if problem.what not in allowed] == []
    if acknowledged:
        tip = content.refs.get(MAIN)
        assert set(acknowledged) <= {id_ for id_, _ in ancestors([tip], content.commit)}
        for id_ in acknowledged[-1 if allowed else -2 :]:  # what an erased model was is gone, and so it should be
            assert len(content.model(id_)) == 2
    return report


@pytest.mark.parametrize("work", WORK)
def test_a_killed_process_loses_nothing(work, children, tmp_path):
    """Killed at many moments, each time a fresh process finds a whole repository and goes on with it."""
    folder, copy, moments = tmp_path / "store", tmp_path / "store-copy", random.Random(work)  # noqa: S311
    allowed = ("erased",) if work == "erasing" else ()
    for number in range(KILLS):
        pid = children.start(work, folder)
        time.sleep(moments.uniform(0.005, 0.25))
        children.kill(pid)
        done = acks(folder).read_text().split() if acks(folder).exists() else []
        content = on_disk(folder)
        require_whole(content, done, allowed)
        if copy.exists():
            assert [str(problem) for problem in fsck(on_disk(copy)).problems] == []
        if number % 2:
            WORK[work](content, lambda _id: None)
            require_whole(on_disk(folder), done, allowed)
            content.lease.release()
    assert done, "it was killed before anything was acknowledged: give it longer"


def test_writers_and_garbage_collection_at_once_lose_nothing(children, tmp_path):
    """Three processes commit what they find or not, one removes what dangles; then the writers are killed."""
    folder = tmp_path / "store"
    on_disk(folder)
    writers = [children.start("racing", folder) for _ in range(3)]
    until, removed = time.monotonic() + 5, []
    while time.monotonic() < until:
        removed.append(gc(on_disk(folder), grace=timedelta(microseconds=1), reflog=timedelta()).removed)
        time.sleep(0.005)
    for pid in writers:
        children.kill(pid)
    done = acks(folder).read_text().split()
    assert len(done) > 20
    assert sum(removed) > 20
    require_whole(on_disk(folder), done)
    content = on_disk(folder)
    assert all(len(content.model(id_)) == 2 for id_ in done)


def all_cuts(folder, work, how):
    """Do some work on copies of a repository, cut off at its first, second, ... write until it gets through."""
    at = 0
    while True:
        at += 1
        trial = folder.with_name("trial")
        for name in (trial, trial.with_name("trial-copy")):
            shutil.rmtree(name, ignore_errors=True)
        shutil.copytree(folder, trial)
        content, disk = cut(trial, at, how)
        done = []
        try:
            WORK[work](content, done.append)
        except StorageError as error:
            told = str(error)
        else:
            disk.switch_off()
            told = ""
        yield trial, done, told
        if not told:
            assert at > 3
            return


@pytest.fixture
def started(tmp_path, monkeypatch):
    """A repository with some history, differences and garbage; what flushing does is simulated from here on."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _descriptor: None)
    folder = tmp_path / "store"
    content, done = on_disk(folder), []
    for work in ("committing", "committing", "folding", "collecting"):
        WORK[work](content, done.append)
    content.lease.release()
    return folder, done


@pytest.mark.parametrize("how", ["lost", "cut", "late"])
@pytest.mark.parametrize("work", WORK)
def test_a_power_cut_at_any_write_loses_nothing(work, how, started):
    """Whatever was not flushed may be gone, half there or whole; what was acknowledged is whole, and work goes on."""
    folder, before = started
    allowed = ("erased",) if work == "erasing" else ()
    for trial, done, _ in all_cuts(folder, work, how):
        content = reboot(trial)
        require_whole(content, [*before, *done], allowed)
        WORK[work](content, done.append)
        for problem in require_whole(content, [*before, *done], allowed).problems:
            erase(content, choose_object(content, problem.id), who="ada", why="asked to", force=True)
        require_whole(on_disk(trial), done[-1:])
        content.lease.release()


@pytest.mark.parametrize("work", WORK)
def test_a_full_disk_is_told_in_one_sentence_and_loses_nothing(work, started):
    """Once there is space again, the same work gets through."""
    folder, before = started
    allowed = ("erased",) if work == "erasing" else ()
    for trial, done, told in all_cuts(folder, work, "full"):
        assert "the disk is full: free some space" in told or not told
        assert "\n" not in told
        content = reboot(trial)
        require_whole(content, [*before, *done], allowed)
        WORK[work](content, done.append)
        require_whole(on_disk(trial), [*before, *done], allowed)
        content.lease.release()
