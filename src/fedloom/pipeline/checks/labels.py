"""Can the label be learned from: more than one class at the site."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fedloom.pipeline.checks.check import Finding, Severity
from fedloom.pipeline.columns import Columns
from fedloom.pipeline.contract import Contract
from fedloom.pipeline.spec import ContractStage


def labels(contract: Contract, columns: Columns, settings: ContractStage) -> Iterator[Finding]:
    """Refuse (or note, when the pipeline allows it) a site whose rows all have one class."""
    label = contract.label
    values = columns.values.get(label.name)
    if values is None or not label.codes:
        return
    found = np.unique(values[~np.isnan(values)])
    if len(found) == 1:
        severity: Severity = "refuse" if settings.single_class == "refuse" else "note"
        hint = "a model cannot learn from it alone; set `single_class: allow` in the contract stage if you mean it"
        message = f"label '{label.name}' has one class only of {len(label.codes)}: {hint}"
        yield Finding("labels", severity, label.name, 1, message)
