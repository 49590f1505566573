"""A site's table read by the contract, pure: text becomes numbers, and what does not fit is counted.

Rules: a cell that is missing or does not fit becomes NaN; counts per column are all that is ever said about cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isinf
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedloom.pipeline.contract import Column, Contract

Table: TypeAlias = Mapping[str, Sequence[str | None]]
"""Contract column name → one text cell per row; None where the site has no value."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many cells of a column are missing, unreadable as what the contract says, or out of its range."""

    missing: int = 0
    unreadable: int = 0
    out_of_range: int = 0


@dataclass(frozen=True, slots=True)
class Columns:
    """A table of float64 columns: numbers, or code indices; NaN where there is no good value."""

    rows: int
    values: Mapping[str, NDArray[np.float64]]
    counts: Mapping[str, Counts]
    absent: tuple[str, ...]


def read_columns(contract: Contract, table: Table) -> Columns:
    """Read every contract column that the table has."""
    present = [column for column in contract.columns if column.name in table]
    read = {column.name: _read(column, table[column.name]) for column in present}
    return Columns(
        rows=max((len(cells) for cells in table.values()), default=0),
        values={name: values for name, (values, _) in read.items()},
        counts={name: counts for name, (_, counts) in read.items()},
        absent=tuple(column.name for column in contract.columns if column.name not in table),
    )


def _read(column: Column, cells: Sequence[str | None]) -> tuple[NDArray[np.float64], Counts]:
    missing = list(cells).count(None)
    values = _codes(column, cells) if column.codes else _numbers(cells)
    if column.whole and not column.codes:
        values = np.where(values == np.rint(values), values, np.nan)
    unreadable = int(np.isnan(values).sum()) - missing
    low = -np.inf if column.minimum is None else column.minimum
    high = np.inf if column.maximum is None else column.maximum
    outside = np.zeros(len(values), bool) if column.codes else (values < low) | (values > high)
    return np.where(outside, np.nan, values), Counts(missing, unreadable, int(outside.sum()))


def _codes(column: Column, cells: Sequence[str | None]) -> NDArray[np.float64]:
    index: dict[str | None, float] = {code: float(i) for i, code in enumerate(column.codes)}
    return np.array([index.get(cell, np.nan) for cell in cells], np.float64)


def _numbers(cells: Sequence[str | None]) -> NDArray[np.float64]:
    """Read each different cell once: a column has far fewer of them than rows."""
    read = {cell: _number(cell) for cell in set(cells)}
    return np.fromiter(map(read.__getitem__, cells), np.float64, len(cells))


def _number(cell: str | None) -> float:
    if cell is None or "_" in cell:  # to Python `1_0` is ten; to a steward it is a slip
        return float("nan")
    try:
        value = float(cell)
    except ValueError:
        return float("nan")
    return float("nan") if isinf(value) else value
