"""Is every cell what the contract says: readable, in range, there where it is required."""

from __future__ import annotations

from collections.abc import Iterator

from fedloom.pipeline.checks.check import Finding
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
            kind = "are not in its code list: map them in the adapter under `codes`" if column.codes else "are no numbers"
            yield _finding("refuse", column.name, counts.unreadable, kind)
        if counts.out_of_range:
            low, high = column.minimum, column.maximum
            kind = f"are outside the contract's range [{low}, {high}]: check the unit, or list a sentinel as missing"
            yield _finding("refuse", column.name, counts.out_of_range, kind)
        if counts.missing and column.required:
            yield _finding("refuse", column.name, counts.missing, "are missing, and the contract requires them")
        elif counts.missing:
            yield _finding("note", column.name, counts.missing, f"of {columns.rows} are missing")


def _finding(severity: str, column: str, count: int, rest: str) -> Finding:
    level = "refuse" if severity == "refuse" else "note"
    return Finding("cells", level, column, count, f"column '{column}': {count} cells {rest}")
