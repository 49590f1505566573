"""Which repository and which commit a command means."""

from __future__ import annotations

from pathlib import Path

from fedloom.errors import NotFoundError
from fedloom.pipeline.runs import RUNS, run_numbers
from fedloom.values import Digest
from fedloom.versions.repository import Repository


def open_repository(folder: Path) -> Repository:
    """Open the repository of a project folder; raises NotFoundError when it has none."""
    if not Repository.exists_at(folder):
        where = folder.resolve()
        raise NotFoundError(f"{where} has no history yet: `fedloom run` makes one, -C FOLDER looks elsewhere")
    return Repository.at(folder)


def chosen(repository: Repository, name: str | None) -> Digest:
    """Find the commit that is meant: the tip of the current branch, or of the newest run, when nothing is named."""
    if name:
        return repository.resolve(name)
    if tip := repository.refs.get(f"heads/{repository.settings.read().branch}"):
        return tip
    numbers = run_numbers(repository)
    if not numbers:
        raise NotFoundError("there is no commit yet: start a run with `fedloom run`")
    return repository.resolve(f"{RUNS}{numbers[-1]}")
