"""Icechunk's side, run by the Python of the peers' environment: nothing of fedloom is imported here.

A model is one group of zarr arrays, one chunk a tensor. `tuned` skips tensors that did not change and compresses with
byte shuffle; `plain` writes all of them with zarr's own settings. Each command prints one line of JSON.

    icechunk_worker.py commit FOLDER SECONDS plain|tuned CHECKPOINT…
    icechunk_worker.py checkout FOLDER SNAPSHOT CHECKPOINT BEGAN
    icechunk_worker.py tensor FOLDER SNAPSHOT CHECKPOINT NAME
    icechunk_worker.py race FOLDER WRITERS COMMITS
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import sys
import time

import icechunk
import numpy as np
import zarr
from safetensors.numpy import load_file
from zarr.codecs import BloscCodec


def timed(action):
    """Run once with the garbage collector off; give milliseconds and result (as in measuring.py)."""
    gc.disable()
    began = time.perf_counter()
    result = action()
    took = (time.perf_counter() - began) * 1e3
    gc.enable()
    return took, result


def opened(folder: str) -> icechunk.Repository:
    """Open a repository on the local disk, or make it."""
    return icechunk.Repository.open_or_create(icechunk.local_filesystem_storage(folder))


def commit_all(folder: str, seconds: float, how: str, paths: list[str]) -> dict:
    """Commit one checkpoint after the other in one process."""
    repository, took, ids, before = opened(folder), [], [], {}
    until = time.monotonic() + seconds
    for number, path in enumerate(paths, 1):
        model = load_file(path)

        def commit(model=model, before=before, number=number) -> str:
            session = repository.writable_session("main")
            group = zarr.open_group(session.store, mode="a")
            for name, array in model.items():
                if name not in group:
                    shuffle = BloscCodec(cname="zstd", clevel=5, shuffle="shuffle", typesize=array.itemsize)
                    codecs = {"compressors": [shuffle]} if how == "tuned" else {}
                    made = group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=array.shape, **codecs)
                    made[...] = array
                elif how == "plain" or name not in before or not np.array_equal(array, before[name]):
                    group[name][...] = array
            if not session.has_uncommitted_changes:
                return repository.lookup_branch("main")
            return session.commit(f"round {number}")

        ms, id_ = timed(commit)
        took.append(ms)
        ids.append(id_)
        before = model
        if time.monotonic() > until:
            break
    return {"ms": took, "ids": ids}


def checkout(folder: str, snapshot: str, expected: str, began: float) -> dict:
    """Read one whole model."""

    def read() -> dict:
        group = zarr.open_group(opened(folder).readonly_session(snapshot_id=snapshot).store, mode="r")
        return {name: array[...] for name, array in group.arrays()}

    ms, model = timed(read)
    process_ms = (time.time() - began) * 1e3
    wanted = load_file(expected)
    assert model.keys() == wanted.keys()
    assert all(model[name].tobytes() == wanted[name].tobytes() for name in wanted)
    return {"ms": ms, "process_ms": process_ms}


def one_tensor(folder: str, snapshot: str, expected: str, name: str) -> dict:
    """Read one tensor by name."""

    def read() -> np.ndarray:
        session = opened(folder).readonly_session(snapshot_id=snapshot)
        return zarr.open_array(session.store, path=name, mode="r")[...]

    ms, array = timed(read)
    assert array.tobytes() == load_file(expected)[name].tobytes()
    return {"ms": ms}


def race(folder: str, writers: int, commits: int) -> dict:
    """Let processes commit to one branch, each to an array of its own; count acknowledged ones that are not there."""
    repository = opened(folder)
    session = repository.writable_session("main")
    group = zarr.create_group(session.store)
    for writer in range(writers):
        group.create_array(f"w{writer}", shape=(16,), dtype="f4", chunks=(16,))
    session.commit("start")
    with multiprocessing.get_context("spawn").Pool(writers) as pool:
        done = pool.starmap(_write, [(folder, writer, commits) for writer in range(writers)])
    acknowledged = {id_ for ids in done for id_ in ids}
    there = {snapshot.id for snapshot in opened(folder).ancestry(branch="main")}
    return {"acknowledged": sum(map(len, done)), "lost": len(acknowledged - there)}


def _write(folder: str, writer: int, commits: int) -> list[str]:
    ids: list[str] = []
    while len(ids) < commits:
        session = opened(folder).writable_session("main")
        zarr.open_array(session.store, path=f"w{writer}")[...] = len(ids) + 1
        try:
            ids.append(session.commit(f"{writer} {len(ids)}", rebase_with=icechunk.ConflictDetector()))
        except icechunk.IcechunkError:
            continue  # not acknowledged: what it was based on is gone from the branch. Begin anew
    return ids


def main() -> None:
    """Do what the arguments say."""
    verb, folder, *rest = sys.argv[1:]
    if verb == "commit":
        found = commit_all(folder, float(rest[0]), rest[1], rest[2:])
    elif verb == "checkout":
        found = checkout(folder, rest[0], rest[1], float(rest[2]))
    elif verb == "tensor":
        found = one_tensor(folder, *rest)
    else:
        found = race(folder, int(rest[0]), int(rest[1]))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
