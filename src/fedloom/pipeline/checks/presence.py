"""Is everything there: columns of the contract, and enough rows."""

from __future__ import annotations

from collections.abc import Iterator

from fedloom.pipeline.checks.check import Finding
from fedloom.pipeline.columns import Columns
from fedloom.pipeline.contract import Contract
from fedloom.pipeline.spec import ContractStage


def presence(contract: Contract, columns: Columns, settings: ContractStage) -> Iterator[Finding]:
    """Refuse a table that lacks columns or rows."""
    if not columns.values:
        hint = "check `delimiter`, `header` and `columns` in the adapter"
        message = f"none of the {len(columns.absent)} columns of contract {contract.id} is in the file: {hint}"
        yield Finding("presence", "refuse", "", 0, message)
        return
    for name in columns.absent:
        hint = "map it in the adapter under `columns`"
        yield Finding("presence", "refuse", name, 0, f"column '{name}' of contract {contract.id} is absent: {hint}")
    if columns.rows == 0:
        yield Finding("presence", "refuse", "", 0, "the file holds no rows")
    elif columns.rows < settings.min_rows:
        message = f"{columns.rows} rows, fewer than min_rows {settings.min_rows} of the contract stage"
        yield Finding("presence", "refuse", "", columns.rows, message)
