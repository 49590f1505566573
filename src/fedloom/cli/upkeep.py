"""`fedloom fsck`, `gc` and `erase`: what is whole, what can go, and what is gone for good."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from getpass import getuser
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from fedloom.cli.opening import open_repository
from fedloom.cli.output import bytes_text, console, print_json
from fedloom.errors import EXIT_FAILED, EXIT_OK, PlanError, SpecError
from fedloom.versions.repository import Repository
from fedloom.versions.revisions import HEAD
from fedloom.versions.upkeep.erase import Choice, Erased, choose_object, choose_path, choose_updates
from fedloom.versions.upkeep.fsck import Report
from fedloom.versions.upkeep.gc import Collected
from fedloom.versions.upkeep.repair import Repaired

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True, slots=True)
class Erasure:
    """What a person asked to erase, and whether it was meant."""

    name: str | None
    path: str
    site: str
    who: str
    why: str
    force: bool
    yes: bool


def check_repository(folder: Path, *, quick: bool, mend: bool, as_json: bool) -> int:
    """Check a repository, mend it if asked to, and print what was found; the exit code says whether it is whole."""
    repository = open_repository(folder)
    report = _checked(repository, quick=quick)
    repaired = repository.repair(report) if mend and not report.ok else None
    if repaired is not None:
        report = _checked(repository, quick=quick)
    if as_json:
        print_json({**report.as_json(), **({"repaired": asdict(repaired)} if repaired else {})})
    else:
        out = console()
        for line in (*(_repaired_lines(repaired) if repaired else ()), *_report_lines(report)):
            out.print(line)
    return EXIT_OK if report.ok else EXIT_FAILED


def collect_garbage(folder: Path, grace: str, reflog: str, *, dry_run: bool, as_json: bool) -> None:
    """Collect garbage and print what was freed, what waits and what was in the way."""
    times = {"grace": _duration("--grace", grace), "reflog": _duration("--reflog-older-than", reflog)}
    collected = open_repository(folder).gc(**times, dry_run=dry_run)
    if as_json:
        print_json(collected.as_json())
        return
    out = console()
    for line in _collected_lines(collected, grace):
        out.print(line)


def erase_objects(folder: Path, wanted: Erasure, *, as_json: bool) -> int:
    """Erase what was asked for, or say what would be erased and how to go on."""
    repository = open_repository(folder)
    if not wanted.why.strip():
        raise SpecError("say why with --why TEXT: it is all that will be left")
    choice = _choice(repository, wanted)
    if not wanted.yes:
        here = sum(repository.has(id_) for id_ in choice.objects)
        todo = f"nothing was erased: add --yes to erase {choice.what}, {_count(here, 'object')}, for good"
        raise PlanError(todo)
    erased = repository.erase(choice, who=wanted.who or _user(), why=wanted.why, force=wanted.force)
    if as_json:
        print_json(erased.as_json())
        return EXIT_OK
    out = console()
    for line in _erased_lines(erased, choice, sorted(repository.settings.read().remotes), wanted.site):
        out.print(line)
    return EXIT_OK


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):
        raise SpecError("this system does not tell who you are: say it with --who NAME") from None


def _checked(repository: Repository, *, quick: bool) -> Report:
    with _bar("checking") as bar:
        task = bar.add_task("objects", total=None)
        return repository.fsck(quick=quick, progress=lambda done, known: bar.update(task, completed=done, total=known))


def _choice(repository: Repository, wanted: Erasure) -> Choice:
    if wanted.site:
        return choose_updates(repository, wanted.site)
    if wanted.path:
        return choose_path(repository, wanted.path, wanted.name or HEAD)
    return choose_object(repository, wanted.name or "")


def _duration(option: str, text: str) -> timedelta:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])|0", text.strip())
    if found is None:
        raise SpecError(f"{option}: '{text}' is no duration; write for example 0, 30m, 12h, 14d or 2w")
    return timedelta() if found[2] is None else timedelta(seconds=float(found[1]) * _SECONDS[found[2]])


def _repaired_lines(repaired: Repaired) -> Iterator[str]:
    for name, count in repaired.brought.items():
        yield f"brought {_count(count, 'object')} from {name}"
    if repaired.removed:
        yield f"removed {_count(repaired.removed, 'object')} that could not be read and nothing needs"
    for told in repaired.unreachable:
        yield f"could not ask {told}"


def _collected_lines(collected: Collected, grace: str) -> Iterator[str]:
    """Say what went and what did not, and why."""
    would = "would be " if collected.dry_run else ""
    if collected.writers:
        yield f"nothing {would}removed: {', '.join(collected.writers)} may need what no ref leads to yet"
    elif collected.removed:
        yield f"{_count(collected.removed, 'object')} {would}removed, {bytes_text(collected.freed)} {would}freed"
    else:
        yield f"nothing {'to remove' if collected.dry_run else 'was to be removed'}"
    if collected.waiting:
        waiting = f"{_count(collected.waiting, 'object')} ({bytes_text(collected.waiting_bytes)})"
        yield f"{waiting} that nothing leads to {'wait' if collected.waiting > 1 else 'waits'} for a run after {grace}"
    if collected.swept:
        yield f"{bytes_text(collected.swept)} of half-written files removed"
    yield f"{_count(collected.kept, 'object')} kept"


def _erased_lines(erased: Erased, choice: Choice, remotes: Sequence[str], site: str) -> Iterator[str]:
    """Say what is gone, what was done so that nothing else is lost, and where copies may still be."""
    yield f"erased {choice.what}: {_count(len(erased.objects), 'object')}, {bytes_text(max(0, erased.freed))} freed"
    if erased.materialized:
        yield f"stored {_count(len(erased.materialized), 'model')} before: they were computed from what is gone"
    if erased.shared:
        yield f"kept {_count(erased.shared, 'object')}: the same bytes are part of something else, such as a model"
    if site:
        yield f"what {site} keeps itself (here: .fedloom/sites/{site}) is {site}'s own, and was not touched"
    if remotes:
        yield f"copies at {', '.join(remotes)} stay until they are erased there too"


def _report_lines(report: Report) -> Iterator[Text | str]:
    """Say in a few lines what was checked, what need not be here, and what is wrong."""
    how = "found" if report.quick else f"({bytes_text(report.bytes)}) read and held to their ids"
    yield f"{_count(report.objects, 'object')} {how}; {_count(report.commits, 'commit')}, {_count(report.refs, 'ref')}"
    if report.dangling:
        yield f"{_count(report.dangling, 'object')} dangling: no ref leads there, `fedloom gc` can remove them"
    if report.cut_off:
        yield f"{_count(report.cut_off, 'file')} cut off by a power failure, and needed by nothing"
    if report.absent:
        told = ", ".join(f"{number} {reason}" for reason, number in report.absent.items())
        yield f"not here, and need not be: {told}"
    if report.ok:
        yield Text("whole", style="bold green")
        return
    yield Text(_count(len(report.problems), "problem"), style="bold red")
    yield from (f"  {problem}" for problem in report.problems)


def _bar(what: str) -> Progress:
    """Show progress on a terminal, on standard error, and leave nothing behind."""
    error = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("objects"))
    return Progress(*columns, console=error, transient=True, disable=not error.is_terminal)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
