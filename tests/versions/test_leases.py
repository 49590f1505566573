"""Leases: of a writer and somebody who clears away, at least one sees the other; whoever is gone holds nothing."""

import gc
import json
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from fedloom.errors import ConflictError
from fedloom.versions import leases
from fedloom.versions.content import Content
from fedloom.versions.leases import CLEARING, FOLDER, Holder, Lease, alone, clearing, others
from fedloom.versions.store import Store

_AT = b'{"host": "a", "pid": 1, "since": "", "seen": "%s"}'


@pytest.fixture(params=["disk", "memory"])
def store(request, tmp_path):
    return Store.on_disk(tmp_path / "store") if request.param == "disk" else Store.in_memory()


@pytest.fixture
def own(store):
    return Lease(store)


def held(store, **changed):
    """Write a lease of somebody else."""
    now = datetime.now(UTC).isoformat()
    value = {"host": "elsewhere", "pid": 1, "since": now, "seen": now, **changed}
    store.create(f"{FOLDER}/1-x", [json.dumps(value).encode()])


def test_a_lease_is_taken_once_and_seen_by_others(store, own):
    """Many writes are one lease; its holder does not count as somebody else."""
    for _ in range(3):
        own.hold()
    assert len(store.names(FOLDER)) == 1
    assert others(store, own) == []
    (holder,) = others(store, Lease(store))
    assert holder.pid == os.getpid()
    assert str(holder) == f"process {os.getpid()}"


def test_a_lease_ends_when_released_and_can_be_taken_again(store, own):
    """Whoever is done says so."""
    own.hold()
    own.release()
    own.release()
    assert store.names(FOLDER) == []
    own.hold()
    assert len(store.names(FOLDER)) == 1


def test_a_lease_ends_with_what_held_it(store):
    """A repository that is no longer used holds nothing, also when nobody closed it."""
    forgotten = Lease(store)
    forgotten.hold()
    del forgotten
    gc.collect()
    assert store.names(FOLDER) == []


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_lease_ends_with_its_process(tmp_path, how):
    """At its end a process gives it back; of one that was killed it is stale, and is taken away."""
    code = (
        "import sys, time; from pathlib import Path; from fedloom.versions.leases import Lease\n"
        "from fedloom.versions.store import Store\n"
        "lease = Lease(Store.on_disk(Path(sys.argv[1]))); lease.hold(); print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    store = Store.on_disk(tmp_path)
    assert child.stdout.readline() == "held\n"
    assert [holder.pid for holder in others(store, Lease(store))] == [child.pid]
    if how == "kill":
        child.kill()
    child.communicate()
    assert len(store.names(FOLDER)) == (how == "kill")
    assert others(store, Lease(store)) == []
    assert store.names(FOLDER) == []


@pytest.mark.parametrize(("hours", "count"), [(1, 1), (23, 1), (25, 0)])
def test_a_lease_of_another_machine_is_stale_after_a_day(store, own, hours, count):
    """Nobody can tell from here whether its process still runs."""
    held(store, seen=(datetime.now(UTC) - timedelta(hours=hours)).isoformat())
    assert len(others(store, own)) == count
    assert len(store.names(FOLDER)) == count


def test_another_machine_is_named(store, own):
    """So that somebody can look there."""
    held(store)
    assert [str(holder) for holder in others(store, own)] == ["process 1 on elsewhere"]


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"host": 1}', b"\xff", _AT % b"today", _AT % b"2026-01-01"])
def test_a_lease_that_cannot_be_read_is_nobodys(store, own, data):
    """A power cut may leave one."""
    store.create(f"{FOLDER}/1-x", [data])
    assert others(store, own) == []
    assert store.names(FOLDER) == []


def test_a_lease_is_renewed_while_it_is_used(store, own, monkeypatch):
    """A writer of another machine must not look stale after a day of work."""
    own.hold()
    before = others(store, Lease(store))[0].seen
    now = time.monotonic()
    monkeypatch.setattr(leases.time, "monotonic", lambda: now + 4000)
    own.hold()
    (after,) = others(store, Lease(store))
    assert after.seen > before
    assert after.since < after.seen


def test_who_begins_while_somebody_clears_waits(store, own):
    """And shows its lease before it waits."""
    done = []
    with alone(store):
        assert clearing(store).pid == os.getpid()
        writer = threading.Thread(target=lambda: (own.hold(), done.append(True)))
        writer.start()
        time.sleep(0.2)
        assert len(store.names(FOLDER)) == 1
        assert done == []
    writer.join(5)
    assert done == [True]
    assert clearing(store) is None


def test_who_holds_a_lease_already_goes_on(store, own):
    """Whoever clears has seen it and removes nothing."""
    own.hold()
    with alone(store):
        own.hold()


def test_waiting_ends(store, own, monkeypatch):
    """After some minutes a writer is told rather than left hanging."""
    monkeypatch.setattr(leases, "_PATIENCE", 0.1)
    with alone(store), pytest.raises(ConflictError, match="clearing"):
        own.hold()


def test_only_one_clears(store):
    """The second is told; after the first it may."""
    with alone(store), pytest.raises(ConflictError, match="already"), alone(store):
        pass
    with alone(store):
        pass
    assert store.names(CLEARING) == []


def test_two_that_find_a_stale_mark_do_not_both_clear(store, monkeypatch):
    """One looks, and is about to remove the mark of a killed process, while the other does so and begins to clear."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    here = Holder.here()
    value = {"host": here.host, "pid": child.pid, "since": here.since, "seen": here.seen}
    store.create(f"{CLEARING}/1-x", [json.dumps(value).encode()])
    at_once: list[int] = []
    working = threading.Event()
    delete = store.delete

    def slow(path: str) -> bool:
        if threading.current_thread() is rival:
            working.wait(5)
        return delete(path)

    def work() -> None:
        try:
            with alone(store):
                at_once.append(1)
                working.set()
                time.sleep(0.3)
                at_once.append(-1)
        except ConflictError:
            pass

    monkeypatch.setattr(store, "delete", slow)
    rival = threading.Thread(target=work)
    rival.start()
    time.sleep(0.05)
    work()
    working.set()
    rival.join(5)
    sums = [sum(at_once[: end + 1]) for end in range(len(at_once))]
    assert max(sums, default=0) <= 1
    assert store.names(CLEARING) == []


def test_of_two_that_begin_at_once_one_clears(store):
    """Both are told to wait only if one has begun before."""
    done, told = [], []

    def work() -> None:
        try:
            with alone(store):
                done.append(True)
                time.sleep(0.5)
        except ConflictError as error:
            told.append(error)

    for _ in range(5):
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(done) >= 5
    assert len(done) + len(told) == 10


def test_who_clears_and_was_killed_is_in_nobodys_way(store, own):
    """Its mark is stale with its process."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    here = Holder.here()
    value = {"host": here.host, "pid": child.pid, "since": here.since, "seen": here.seen}
    store.create(f"{CLEARING}/1-x", [json.dumps(value).encode()])
    own.hold()
    with alone(store):
        pass


def test_a_forked_child_has_a_lease_of_its_own(tmp_path):
    """It neither uses nor gives back its parent's."""
    code = (
        "import os, sys; from pathlib import Path; from fedloom.versions.leases import Lease\n"
        "from fedloom.versions.store import Store\n"
        "store = Store.on_disk(Path(sys.argv[1])); lease = Lease(store); lease.hold()\n"
        "if os.fork() == 0:\n"
        "    lease.hold(); print(len(store.names('leases'))); sys.exit()\n"
        "os.wait(); print(len(store.names('leases')))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "1"]


def test_a_repository_that_was_let_go_of_holds_nothing(store):
    """Without waiting for a garbage collection of Python's: somebody may want to clear away right now."""
    content = Content(store)
    blob = content.add_blob(b"x")
    content.database.flush()
    content.refs.compare_and_set("tags/x", None, blob.id, "made")
    assert len(store.names(FOLDER)) == 1
    gc.disable()
    try:
        del content
        assert store.names(FOLDER) == []
    finally:
        gc.enable()
