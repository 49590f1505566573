"""`fedloom diff`: what differs between two commits, for a person or as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedloom.cli.opening import chosen, open_repository
from fedloom.cli.output import console, counted, figure, print_json
from fedloom.cli.tables import print_table
from fedloom.versions.diff import Change, Diff, EntryChange, ValueChange

_MARKS: dict[Change, tuple[str, str]] = {
    "changed": ("~", "yellow"),
    "added": ("+", "green"),
    "removed": ("-", "red"),
    "renamed": (">", "cyan"),
    "conflict": ("!", "bold red"),
}
_LINES = 12
_WORDS = 60
_METRICS = ("accuracy", "auc", "rmse", "r2", "loss")
_TABLES = ("metrics", "participation")
"""Facts that are printed in a form of their own."""
_ID = re.compile(r"[0-9a-f]{64}")

Facts: TypeAlias = Mapping[str, Any]


def print_diff(folder: Path, old: str, new: str | None, *, tensors: bool, as_json: bool) -> None:
    """Print what differs from one commit to another, the current branch where no other is named."""
    repository = open_repository(folder)
    found = repository.diff(repository.resolve(old), chosen(repository, new), tensors=tensors)
    if as_json:
        print_json(found.as_json())
        return
    out = console()
    out.print(Text.assemble(("from ", "dim"), (found.old[:12], "cyan"), (" to ", "dim"), (found.new[:12], "cyan")))
    if not found.differs:
        out.print("nothing differs")
        return
    _print_facts(out, repository.commit(found.old).facts, repository.commit(found.new).facts, found.facts)
    for part, counts in found.counts().items():
        _print_part(out, found, part, counts)


def _print_facts(out: Console, old: Facts, new: Facts, changes: Sequence[ValueChange]) -> None:
    """Print what was told about both commits; metrics as a table, and participation as counts."""
    told = [change for change in changes if change.key.partition(".")[0] not in _TABLES]
    _print_values(out, "facts", told)
    if any(change.key.startswith("metrics.") for change in changes):
        _print_metrics(out, old.get("metrics", {}), new.get("metrics", {}))
    sides = [_took_part(side.get("participation")) for side in (old, new)]
    if sides[0] != sides[1]:
        out.print(f"\nparticipation: {sides[0]} → {sides[1]}")


def _took_part(participation: Facts | None) -> str:
    if not participation:
        return "none"
    count = sum(site["status"] == "answered" for site in participation["sites"])
    missing = [site["site"] for site in participation["sites"] if site["status"] != "answered"]
    without = f" without {', '.join(missing)}" if missing else ""
    return f"{participation['status']}, {count} of {counted(len(participation['sites']), 'site')}{without}"


def _print_metrics(out: Console, old: Facts, new: Facts) -> None:
    if not (old and new):
        out.print(f"\nmetrics: only the {'older' if old else 'newer'} commit holds them")
        return
    sides = [{**side.get("sites", {}), "all sites": side.get("pooled", {})} for side in (old, new)]
    names = [name for name in _METRICS if any(name in side["all sites"] for side in sides)]
    out.print()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("metrics", *names):
        table.add_column(heading, justify="left" if heading == "metrics" else "right")
    for row in dict.fromkeys([*sides[0], *sides[1]]):
        figures = [[side.get(row, {}).get(name) for side in sides] for name in names]
        style = "bold" if row == "all sites" else ""
        table.add_row(row, *(f"{figure(before)} → {figure(after)}" for before, after in figures), style=style)
    print_table(out, table)


def _print_part(out: Console, found: Diff, part: str, counts: dict[Change, int]) -> None:
    told = ", ".join(f"{count} {change}" for change, count in counts.items())
    out.print(f"\n{part}: {told}", style="bold" if set(counts) != {"same"} else "dim")
    shown = [entry for entry in found.entries if entry.path.partition("/")[0] == part and entry.change != "same"]
    for entry in shown:
        mark, style = _MARKS[entry.change]
        out.print(Text.assemble((f"  {mark} {entry.path}", style), _remark(entry)))
        _print_values(out, "", entry.values)
        _print_lines(out, entry.lines)
    if any(entry.tensor for entry in shown):
        print_table(out, _tensor_table(shown), dispensable=("max ulps", "max abs", "norm"))


def _remark(entry: EntryChange) -> str:
    if entry.was:
        return f", was {entry.was}"
    if entry.problem:
        return f": {entry.problem}"
    keeps = [side.keep for side in (entry.old, entry.new) if side and side.keep != "stored"]
    return f" ({keeps[-1]})" if keeps else ""


def _print_values(out: Console, title: str, values: Sequence[ValueChange]) -> None:
    if values and title:
        out.print(f"\n{title}: {len(values)} {'differs' if len(values) == 1 else 'differ'}", style="bold")
    indent = "  " if title else "      "
    for value in values:
        mark, style = _MARKS[value.change]
        key = f"{value.key}: " if value.key else ""
        out.print(Text.assemble((f"{indent}{mark} {key}", style), _values_text(value)))


def _values_text(value: ValueChange) -> str:
    if _are_lists_of_things(value.old, value.new):
        gone, come = (
            [part for part in one if part not in other]
            for one, other in ((value.old, value.new), (value.new, value.old))
        )
        return f"{len(gone)} gone, {len(come)} new, {len(value.new) - len(come)} as before"
    old, new = _short(value.old), _short(value.new)
    if value.change != "changed":
        return new if value.change == "added" else old
    step = f" ({value.new - value.old:+.4g})" if _is_number(value.old) and _is_number(value.new) else ""
    return f"{old} → {new}{step}"


def _are_lists_of_things(*values: Any) -> bool:
    return all(isinstance(value, list) and all(isinstance(part, dict) for part in value) for value in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    """Write a JSON value on one line; an id by its first digits."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(_short, value))[:_WORDS] or "an empty list"
    text = value if isinstance(value, str) else "nothing" if value is None else str(value)
    text = " ".join(text.split()) or "empty"
    if _ID.fullmatch(text):
        return text[:12]
    return text if len(text) <= _WORDS else f"{text[: _WORDS - 1]}…"


def _print_lines(out: Console, lines: Sequence[str]) -> None:
    for line in lines[:_LINES]:
        out.print(Text(f"      {line}", style="green" if line.startswith("+") else "red"))
    if (more := len(lines) - _LINES) > 0:
        out.print(f"      and {counted(more, 'more line')}", style="dim")


def _tensor_table(entries: Sequence[EntryChange]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("tensor")
    for heading in ("type", "shape"):
        table.add_column(heading)
    for heading in ("changed", "norm", "relative", "max abs", "max ulps", "cosine", "not finite"):
        table.add_column(heading, justify="right")
    for entry in entries:
        if entry.tensor is not None:
            table.add_row(entry.path, *_tensor_cells(entry))
    return table


def _tensor_cells(entry: EntryChange) -> Iterator[str]:
    found = entry.tensor
    assert found is not None, "only entries with figures have a row"
    yield found.new.dtype if found.new.dtype == found.old.dtype else f"{found.old.dtype} → {found.new.dtype}"
    shapes = ["×".join(map(str, side.shape)) or "scalar" for side in (found.old, found.new)]
    yield shapes[0] if shapes[0] == shapes[1] else f"{shapes[0]} → {shapes[1]}"
    yield "" if found.changed is None else f"{found.changed} ({found.share or 0:.1%})"
    yield from (_figure(value) for value in (found.norm, found.relative, found.max_abs))
    yield "" if found.ulps is None else str(found.ulps)
    yield "" if found.cosine is None else f"{found.cosine:.6f}"
    yield str(found.not_finite) if found.not_finite else ""


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
