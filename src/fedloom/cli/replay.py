"""`fedloom verify --replay`: how a replayed round looks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from fedloom.cli.opening import chosen, open_repository
from fedloom.cli.output import console, print_json
from fedloom.cli.trust import Demands, print_verdict, verified
from fedloom.errors import EXIT_FAILED, EXIT_OK
from fedloom.local.replay import Replayed, environment_changes, replay


@dataclass(frozen=True, slots=True)
class Again:
    """How much to do again, and whether by a learner that is not the project's."""

    whole_run: bool
    run_its_code: bool


def verify_and_replay(folder: Path, name: str | None, demands: Demands, again: Again, *, as_json: bool) -> int:
    """Verify a commit; where that holds, do its round (or run) again and say whether it came out bit for bit.

    The exit code says whether both hold. As JSON it is one value; `replay` is null where there was none.
    """
    verdict = verified(folder, name, demands)
    if not as_json:
        print_verdict(console(), verdict)
    rounds, changes = _replayed(folder, name, again) if verdict.ok else ([], [])
    same = verdict.ok and all(one.same for one in rounds)
    if as_json:
        told = {"same": same, "environment": changes, "rounds": [{**asdict(r), "same": r.same} for r in rounds]}
        print_json({"verify": verdict.as_json(), "replay": told if verdict.ok else None})
    elif verdict.ok:
        _print(console(), rounds, changes)
    return EXIT_OK if same else EXIT_FAILED


def _replayed(folder: Path, name: str | None, again: Again) -> tuple[list[Replayed], list[str]]:
    repository = open_repository(folder)
    commit = chosen(repository, name)
    rounds = replay(folder, commit, lambda _: None, whole_run=again.whole_run, run_its_code=again.run_its_code)
    return rounds, environment_changes(repository, commit)


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
