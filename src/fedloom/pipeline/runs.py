"""Runs as the repository knows them: refs `runs/N`, their own commits, and how each ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fedloom.values import Digest
from fedloom.versions.content import Content
from fedloom.versions.objects import Commit

RUNS = "runs/"
_CLOSING = "run"


def closing(run: str) -> str:
    """Name the attestation that closes a run; runs of one seed share commits, so each closes for itself."""
    return f"{_CLOSING}/{run.removeprefix(RUNS)}"


def closed(repository: Content, commit: Digest, run: str | None = None) -> dict[str, Any] | None:
    """Read how a run ended at a commit; with no run named, the newest one that ended there. None when it did not."""
    place = f"attestations/{commit}/"
    types = [name[len(place) :] for name in repository.refs.names(f"{place}{_CLOSING}/")]
    wanted = [closing(run)] if run else sorted(types, key=lambda name: int(name.rsplit("/", 1)[-1]))[-1:]
    found = repository.attestation(commit, wanted[0]) if wanted else None
    return dict(found.body) if found else None


def run_commits(repository: Content, tip: Digest) -> Iterator[tuple[Digest, Commit]]:
    """Walk a run's own commits, newest first: its rounds and the commit it started with."""
    for id_, commit in repository.log(tip):
        yield id_, commit
        if commit.kind != "round":
            return


def run_numbers(repository: Content) -> list[int]:
    """List the numbers of all runs, in order."""
    found = [name[len(RUNS) :] for name in repository.refs.names(RUNS)]
    return sorted(int(number) for number in found if number.isdigit())
