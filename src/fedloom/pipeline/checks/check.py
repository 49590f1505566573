"""What a data check is: a table read by the contract goes in, findings come out.

Rules: a finding holds names, counts and a hint, never a value from a cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from fedloom.pipeline.columns import Columns
from fedloom.pipeline.contract import Contract
from fedloom.pipeline.spec import ContractStage

Severity = Literal["refuse", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a check found; `refuse` stops the run, `note` is only said."""

    check: str
    severity: Severity
    column: str
    count: int
    message: str


class DataCheck(Protocol):
    """A check on one site's table."""

    def __call__(self, contract: Contract, columns: Columns, settings: ContractStage) -> Iterator[Finding]:
        """Yield what is wrong or worth knowing."""
        ...
