"""Lost updates: processes that move one ref of a repository on a local disk, as fast as they can."""

from __future__ import annotations

import hashlib
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fedloom.errors import ConflictError
from fedloom.values import Digest
from fedloom.versions.repository import Repository

REF = "heads/main"


@dataclass(frozen=True)
class Race:
    """What came of it: moves that were acknowledged, how many of them the ref does not know, tries that lost."""

    acknowledged: int
    lost: int
    retries: int
    seconds: float


def race(writers: int, moves: int) -> Race:
    """Let `writers` processes make `moves` each; a move is lost when it is not in the log just after what it replaced.

    A ref is moved without objects behind it: more moves a second than commits would make.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        Repository.at(folder)
        began = time.perf_counter()
        with ProcessPoolExecutor(writers, multiprocessing.get_context("spawn")) as pool:
            done = list(pool.map(_write, [folder] * writers, range(writers), [moves] * writers))
        seconds = time.perf_counter() - began
        targets = [move.target for move in Repository.at(folder).refs.log(REF)]
    steps = set(zip([None, *targets], targets, strict=False))
    acknowledged = [step for steps_of_one, _ in done for step in steps_of_one]
    lost = sum(step not in steps for step in acknowledged)
    return Race(len(acknowledged), lost, sum(retries for _, retries in done), seconds)


def _write(folder: Path, writer: int, moves: int) -> tuple[list[tuple[Digest | None, Digest]], int]:
    refs, made, retries = Repository.at(folder).refs, [], 0
    for number in range(moves):
        new = Digest(hashlib.sha256(f"{writer} {number}".encode()).hexdigest())
        while True:
            old = refs.get(REF)
            try:
                refs.compare_and_set(REF, old, new, f"writer {writer}")
            except ConflictError:
                retries += 1
                continue
            break
        made.append((old, new))
    return made, retries


if __name__ == "__main__":
    print(race(4, int(sys.argv[1]) if len(sys.argv) > 1 else 250))
