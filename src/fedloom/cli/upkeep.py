"""`fedloom fsck`, `gc` and `erase`: what is whole, what can go, and what is gone for good."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from fedloom.cli.opening import open_repository
from fedloom.cli.output import bytes_text, console, print_json
from fedloom.errors import EXIT_FAILED, EXIT_OK
from fedloom.versions.upkeep.fsck import Report


def check_repository(folder: Path, *, quick: bool, as_json: bool) -> int:
    """Check a repository and print what was found; the exit code says whether it is whole."""
    repository = open_repository(folder)
    with _bar("checking") as bar:
        task = bar.add_task("objects", total=None)
        report = repository.fsck(
            quick=quick, progress=lambda done, known: bar.update(task, completed=done, total=known)
        )
    if as_json:
        print_json(report.as_json())
    else:
        out = console()
        for line in _report_lines(report):
            out.print(line)
    return EXIT_OK if report.ok else EXIT_FAILED


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
