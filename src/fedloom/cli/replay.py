"""`fedloom verify --replay`: how a replayed round looks."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from fedloom.cli.opening import chosen, open_repository
from fedloom.cli.output import console, print_json
from fedloom.errors import EXIT_FAILED, EXIT_OK
from fedloom.local.replay import Replayed, environment_changes, replay


def print_replay(folder: Path, name: str | None, *, whole_run: bool, run_its_code: bool, as_json: bool) -> int:
    """Do a round (or its whole run) again and say whether it came out bit for bit; the exit code says so too."""
    repository = open_repository(folder)
    commit = chosen(repository, name)
    rounds = replay(folder, commit, lambda _: None, whole_run=whole_run, run_its_code=run_its_code)
    same, changes = all(one.same for one in rounds), environment_changes(repository, commit)
    if as_json:
        print_json({"same": same, "environment": changes, "rounds": [{**asdict(r), "same": r.same} for r in rounds]})
    else:
        _print(console(), rounds, changes)
    return EXIT_OK if same else EXIT_FAILED


def _print(out: Console, rounds: list[Replayed], changes: list[str]) -> None:
    other = next((one for one in rounds if not one.same), None)
    if other is None:
        what = f"round {rounds[0].round}" if len(rounds) == 1 else f"{len(rounds)} rounds"
        last = rounds[-1]
        told = "the same commit" if last.again == last.commit else "bit for bit the same model; only facts differ"
        out.print(f"replayed {what}: {told}, {last.again}")
        return
    out.print(f"replayed round {other.round}: {', '.join(other.parts)} came out otherwise")
    out.print(f"  recorded {other.commit}")
    out.print(f"  replayed {other.again}")
    if found := other.difference:
        out.print(
            f"  first at byte {found.offset} of {found.path}: {found.recorded:#04x} then, {found.replayed:#04x} now"
        )
    for change in changes:
        out.print(f"  {change}")
