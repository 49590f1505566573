"""Our side, in processes of its own: what a hub does when it commits a round, or reads one.

Each command prints one line of JSON. Milliseconds count from opening the repository to its end, in a process that has
just started and imported; what came back is compared bit by bit after the clock has stopped.

    ours.py commit FOLDER SECONDS CHECKPOINT…         # one after the other, until the time is up
    ours.py checkout FOLDER COMMIT CHECKPOINT BEGAN   # a whole model; BEGAN is when the parent started this process
    ours.py tensor FOLDER COMMIT CHECKPOINT NAME
    ours.py merge FOLDER BASE MERGED SITE…            # a round that keeps its updates, and its merge as a recipe
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from measuring import folder_bytes, timed
from safetensors.numpy import load_file

from fedloom.values import Contribution, Digest, Tensors, tensor_bytes
from fedloom.versions.merging.catalog import STRATEGIES
from fedloom.versions.objects import Commit, Entry, Input
from fedloom.versions.recipes import fold_recipe
from fedloom.versions.repository import Repository

HEAD = "heads/main"


def commit(folder: Path, model: Tensors, message: str, repository: Repository | None = None) -> Digest:
    """Commit a model onto the branch, stored as a difference to the one before."""
    repository = repository or Repository.at(folder)
    tip = repository.refs.get(HEAD)
    tree = repository.add_tree({"model": repository.add_tensors(model, entries(repository, tip))})
    kind = "round" if tip else "import"
    new = repository.add_commit(Commit(tree.id, (tip,) if tip else (), kind, message))
    repository.refs.compare_and_set(HEAD, tip, new, message)
    return new


def entries(repository: Repository, commit: Digest | None) -> Mapping[str, Entry]:
    """Read the tree of a commit's model; empty before the first."""
    part = repository.part(commit, "model") if commit else None
    return repository.tree(part.id) if part else {}


def require_equal(found: Tensors, expected: Tensors) -> None:
    """Stop where a model is not the expected one, bit by bit."""
    assert found.keys() == expected.keys(), "names differ"
    for name, array in expected.items():
        same = found[name].shape == array.shape and tensor_bytes(found[name]) == tensor_bytes(array)
        assert same, f"{name} did not come back bit by bit"


def commit_all(folder: Path, seconds: float, checkpoints: list[Path]) -> dict[str, Any]:
    """Commit one checkpoint after the other in one process, as a hub does."""
    repository, took, ids = Repository.at(folder), [], []
    until = time.monotonic() + seconds
    for number, path in enumerate(checkpoints, 1):
        model = load_file(path)
        ms, id_ = timed(lambda model=model, number=number: commit(folder, model, f"round {number}", repository))
        took.append(ms)
        ids.append(id_)
        if time.monotonic() > until:
            break
    return {"ms": took, "ids": ids}


def checkout(folder: Path, id_: Digest, expected: Path, began: float) -> dict[str, Any]:
    """Read one whole model, every hash checked."""
    ms, model = timed(lambda: Repository.at(folder).model(id_))
    process_ms = (time.time() - began) * 1e3
    require_equal(model, load_file(expected))
    return {"ms": ms, "process_ms": process_ms}


def one_tensor(folder: Path, id_: Digest, expected: Path, name: str) -> dict[str, Any]:
    """Read one tensor of a commit by name, its hash checked."""

    def read() -> np.ndarray:
        repository = Repository.at(folder)
        return repository.tensor(entries(repository, id_)[name].id)

    ms, array = timed(read)
    require_equal({name: array}, {name: load_file(expected)[name]})
    return {"ms": ms}


def merge(folder: Path, base: Path, merged: Path, sites: list[Path]) -> dict[str, Any]:
    """Commit a round whose updates are kept: its model is a recipe; give the bytes of each step."""
    repository = Repository.at(folder)
    tip = commit(folder, load_file(base), "base", repository)
    base_bytes = folder_bytes(folder)
    like = entries(repository, tip)
    updates = {path.stem: repository.add_tensors(load_file(path), like) for path in sites}
    repository.database.flush()
    updates_bytes = folder_bytes(folder) - base_bytes

    def land() -> Digest:
        inputs = [Input(name, entry.id, 1.0) for name, entry in updates.items()]
        model = STRATEGIES["fedavg"]().merge(repository.model(tip), contributions(), {}).tensors
        parts = {"model": repository.name_tensors(model), "receipts": repository.add_tree(updates)}
        recipe = fold_recipe({"use": "fedavg"}, inputs)
        made = Commit(repository.add_tree(parts).id, (tip,), "round", "round", recipe=recipe)
        id_ = repository.add_commit(made)
        repository.refs.compare_and_set(HEAD, tip, id_, "round")
        return id_

    def contributions() -> Iterator[Contribution]:
        return (Contribution(name, repository.tensors(entry.id), 1.0) for name, entry in updates.items())

    before = folder_bytes(folder)
    ms, id_ = timed(land)
    merge_bytes = folder_bytes(folder) - before
    read_ms, found = timed(lambda: Repository.at(folder).model(id_))  # computed, and held to the ids in its tree
    require_equal(found, load_file(merged))
    return {
        "base": base_bytes,
        "updates": updates_bytes,
        "merge": merge_bytes,
        "merge_ms": ms,
        "computed_checkout_ms": read_ms,
    }


def main() -> None:
    """Do what the arguments say."""
    verb, folder, *rest = sys.argv[1:]
    at = Path(folder)
    match verb:
        case "commit":
            found = commit_all(at, float(rest[0]), [Path(path) for path in rest[1:]])
        case "checkout":
            found = checkout(at, Digest(rest[0]), Path(rest[1]), float(rest[2]))
        case "tensor":
            found = one_tensor(at, Digest(rest[0]), Path(rest[1]), rest[2])
        case "merge":
            found = merge(at, Path(rest[0]), Path(rest[1]), [Path(path) for path in rest[2:]])
        case _:
            sys.exit(__doc__)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
