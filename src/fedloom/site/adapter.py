"""A site's adapter: the YAML file, owned by its data steward, that maps the site's own file onto the contract."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from fedloom.errors import nearest
from fedloom.pipeline.contract import Contract
from fedloom.pipeline.source import read_yaml, validate


class ColumnMap(BaseModel):
    """How one contract column is found in the site's file."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    from_: str | None = Field(default=None, alias="from", description="the file's name for it, where it differs")
    codes: dict[str, str] = Field(default_factory=dict, description="the file's codes → the contract's codes")
    missing: tuple[str, ...] = Field(default=(), description="more words for `no value` in this column")


class Adapter(BaseModel):
    """Where a site's rows are and how they map onto the contract."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    source: str = Field(description="CSV file, relative to this one; .gz is read as well")
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    header: tuple[str, ...] | None = Field(default=None, description="column names, for a file without a header line")
    missing: tuple[str, ...] = Field(default=("", "NA", "?"), description="words that mean `no value`")
    columns: dict[str, ColumnMap] = Field(default_factory=dict, description="contract column → where it is found")
    notes: str = Field(default="", description="what the steward wants others to know")


def read_adapter(path: Path, contract: Contract) -> Adapter:
    """Read an adapter; raises SpecError with every complaint at once."""
    source = read_yaml(path)
    adapter = validate(Adapter, source)
    names = [column.name for column in contract.columns]
    for name in adapter.columns:
        if name not in names:
            raise source.error(
                ("columns", name), f"no column '{name}' in contract {contract.id}; {nearest(name, names)}"
            )
    return adapter
