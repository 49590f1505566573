"""Is every cell what the contract says: readable, in range, there where it is required."""

from __future__ import annotations

from collections.abc import Iterator

from fedloom.pipeline.checks.check import Finding, Severity
from fedloom.pipeline.columns import Columns
from fedloom.pipeline.contract import Contract
from fedloom.pipeline.spec import ContractStage


def cells(contract: Contract, columns: Columns, settings: ContractStage) -> Iterator[Finding]:  # noqa: ARG001  the protocol
    """Refuse unreadable and out-of-range cells, and gaps in required columns; note other gaps."""
    for column in contract.columns:
        if column.name not in columns.counts:
            continue
        counts = columns.counts[column.name]
        if counts.unreadable:
            number = "a whole number" if column.whole else "a number"
            readable = "one of its codes: map it in the adapter under `codes`" if column.codes else number
            yield _finding("refuse", column.name, counts.unreadable, f"that the contract cannot read as {readable}")
        if counts.out_of_range:
            low, high = _bound(column.minimum), _bound(column.maximum)
            outside = f"outside the contract's range [{low}, {high}]: check the unit, or list a sentinel as missing"
            yield _finding("refuse", column.name, counts.out_of_range, outside)
        if counts.missing and column.required:
            yield _finding("refuse", column.name, counts.missing, "without a value, and the contract requires one")
        elif counts.missing:
            yield _finding("note", column.name, counts.missing, f"of {columns.rows} without a value")


def _finding(severity: Severity, column: str, count: int, rest: str) -> Finding:
    return Finding(
        "cells", severity, column, count, f"column '{column}': {count} {'cell' if count == 1 else 'cells'} {rest}"
    )


def _bound(value: float | None) -> str:
    return "any" if value is None else f"{value:g}"
