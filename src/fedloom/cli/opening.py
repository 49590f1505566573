"""Which repository and which commit a command means."""

from __future__ import annotations

from pathlib import Path

from fedloom.errors import NotFoundError
from fedloom.pipeline.runs import RUNS, run_numbers
from fedloom.values import Digest
from fedloom.versions.history import is_ancestor
from fedloom.versions.repository import Repository


def open_repository(folder: Path) -> Repository:
    """Open the repository of a project folder; raises NotFoundError when it has none."""
    if not Repository.exists_at(folder):
        where = folder.resolve()
        raise NotFoundError(f"{where} has no history yet: `fedloom run` makes one, -C FOLDER looks elsewhere")
    return Repository.at(folder)


def newest(repository: Repository) -> str:
    """Name what is meant where nothing is named: the newest run, or the current branch once that holds the run."""
    numbers, branch = run_numbers(repository), f"heads/{repository.settings.read().branch}"
    tip = repository.refs.get(branch)
    if not numbers:
        if tip:
            return branch
        raise NotFoundError("there is no run yet: start one with `fedloom run`")
    run = f"{RUNS}{numbers[-1]}"
    target = repository.resolve(run)
    goes_on = tip is not None and tip != target and is_ancestor(target, tip, repository.commit)
    return branch if goes_on else run


def chosen(repository: Repository, name: str | None) -> Digest:
    """Find the commit that is meant: the tip of the current branch where nothing is named.

    What signs, verifies or ships must not slip to a run that no branch took; looking at things is `newest`'s.
    """
    branch = f"heads/{repository.settings.read().branch}"
    if name is None and repository.refs.get(branch) is None:
        raise NotFoundError(f"{branch} has no commit yet: name one, such as runs/1, or start a run with `fedloom run`")
    return repository.resolve(name or branch)
