"""Lost updates: processes that commit to one branch of a repository on a local disk, as fast as they can."""

from __future__ import annotations

import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fedloom.errors import ConflictError
from fedloom.values import Digest
from fedloom.versions.objects import Commit
from fedloom.versions.repository import Repository

REF = "heads/main"


@dataclass(frozen=True)
class Race:
    """What came of it: commits that were acknowledged, how many the branch does not have, moves that came too late."""

    acknowledged: int
    lost: int
    retries: int
    seconds: float


def race(writers: int, commits: int) -> Race:
    """Let `writers` processes make `commits` each, every one on top of what the branch is then."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        Repository.at(folder)
        began = time.perf_counter()
        with ProcessPoolExecutor(writers, multiprocessing.get_context("spawn")) as pool:
            done = list(pool.map(_write, [folder] * writers, range(writers), [commits] * writers))
        seconds = time.perf_counter() - began
        repository = Repository.at(folder)
        there = {id_ for id_, _ in repository.log(repository.resolve(REF))}
    acknowledged = [id_ for made, _ in done for id_ in made]
    lost = sum(id_ not in there for id_ in acknowledged)
    return Race(len(acknowledged), lost, sum(retries for _, retries in done), seconds)


def _write(folder: Path, writer: int, commits: int) -> tuple[list[Digest], int]:
    repository, made, retries = Repository.at(folder), [], 0
    while len(made) < commits:
        tip = repository.refs.get(REF)
        message = f"writer {writer}, commit {len(made)}"
        tree = repository.add_tree({"notes": repository.add_blob(message.encode())})
        new = repository.add_commit(Commit(tree.id, (tip,) if tip else (), "round" if tip else "import", message))
        try:
            repository.refs.compare_and_set(REF, tip, new, message)
        except ConflictError:
            retries += 1
            continue
        made.append(new)
    return made, retries


if __name__ == "__main__":
    print(race(4, int(sys.argv[1]) if len(sys.argv) > 1 else 250))
