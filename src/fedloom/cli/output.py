"""What all commands print with: the console, JSON, sizes and figures, tables of metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from shutil import get_terminal_size
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

FILE_WIDTH = 120
"""Columns to use where neither a terminal nor COLUMNS says how many there are."""


def console() -> Console:
    """Make the console all human output goes to."""
    out = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    if not out.is_terminal:
        out.width = get_terminal_size((FILE_WIDTH, 25)).columns
    return out


def print_json(value: Any) -> None:
    """Print one JSON value on one line."""
    print(json.dumps(value, default=_plain), flush=True)  # noqa: T201  the command's output


def bytes_text(count: float) -> str:
    """Write a number of bytes for a person."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def counted(number: int, noun: str) -> str:
    """Write a number of things.

    >>> counted(1, "site"), counted(2, "site"), counted(0, "round")
    ('1 site', '2 sites', '0 rounds')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def comparison_table(evaluation: Mapping[str, Any]) -> Table | None:
    """Lay the federated model beside its baselines, site by site; None when there was no evaluation."""
    if not evaluation:
        return None
    federated, local = evaluation["federated"], evaluation.get("local", {}).get("sites", {})
    pooled = evaluation.get("pooled", {})
    names = [name for name in ("accuracy", "auc", "rmse", "r2") if name in federated["pooled"]]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("held-out rows of")
    table.add_column("rows", justify="right")
    for name in names:
        for who in ("federated", *(("alone",) if local else ()), *(("pooled",) if pooled else ())):
            table.add_column(f"{name}\n{who}", justify="right")
    if local:
        table.add_column("")
    worse = evaluation.get("worse_off", [])
    for site, found in federated["sites"].items():
        columns = [
            found,
            *([local.get(site, {})] if local else []),
            *([pooled["sites"].get(site, {})] if pooled else []),
        ]
        mark = [Text("better off alone", style="yellow") if site in worse else ""] if local else []
        table.add_row(site, f"{found['rows']:.0f}", *_row(names, columns), *mark)
    everywhere = evaluation.get("local_everywhere", {}).get("mean", {})
    columns = [federated["pooled"], *([everywhere] if local else []), *([pooled["pooled"]] if pooled else [])]
    table.add_row("all sites", f"{federated['pooled']['rows']:.0f}", *_row(names, columns), style="bold")
    return table


def figure(value: float | None) -> str:
    """Write a metric; a dash where it is undefined."""
    return "–" if value is None else f"{value:.3f}"


def _row(names: list[str], columns: list[Mapping[str, float | None]]) -> list[str]:
    return [figure(found.get(name)) for name in names for found in columns]


def _plain(value: Any) -> Any:
    """Turn what JSON does not know (paths, sets) into what it does."""
    return sorted(value) if isinstance(value, frozenset | set) else str(value)
