"""contract.yaml: what a row must look like at every site. A subset of the Open Data Contract Standard 3.1.

Per property we read `name`, `logicalType` (number, integer, string), `required`, `logicalTypeOptions.minimum` and
`.maximum`, and of `customProperties`: `role` (feature, label, split; feature when absent), `codes` (a code list
makes the column categorical) and `unit` (UCUM). Whatever else the standard allows may stand there too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fedloom.pipeline.source import Source, read_yaml, validate
from fedloom.values import Digest, sha256

Role = Literal["feature", "label", "split"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `codes` makes it categorical: a value is the index of its code."""

    name: str
    role: Role = "feature"
    codes: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    required: bool = False
    unit: str = ""
    whole: bool = False
    """Whether only whole numbers fit."""


@dataclass(frozen=True)
class Contract:
    """A federation's data contract, and the digest of the file it was read from."""

    id: str
    version: str
    columns: tuple[Column, ...]
    digest: Digest
    text: bytes

    @cached_property
    def features(self) -> tuple[Column, ...]:
        """Columns a learner sees."""
        return tuple(column for column in self.columns if column.role == "feature")

    @cached_property
    def label(self) -> Column:
        """The column to predict."""
        return next(column for column in self.columns if column.role == "label")

    def column(self, name: str) -> Column | None:
        """Find a column by name."""
        return next((column for column in self.columns if column.name == name), None)


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Custom(_Open):
    property: str
    value: Any


class _Options(_Open):
    minimum: float | None = None
    maximum: float | None = None


class _Property(_Open):
    name: str = Field(min_length=1)
    logicalType: Literal["number", "integer", "string"]  # noqa: N815  the standard's spelling
    required: bool = False
    logicalTypeOptions: _Options = Field(default_factory=_Options)  # noqa: N815  the standard's spelling
    customProperties: tuple[_Custom, ...] = ()  # noqa: N815  the standard's spelling

    def custom(self, name: str, default: Any = None) -> Any:
        return next((item.value for item in self.customProperties if item.property == name), default)


class _Object(_Open):
    name: str
    properties: tuple[_Property, ...] = Field(min_length=2)


class _ContractFile(_Open):
    apiVersion: str = Field(pattern=r"^v3\.")  # noqa: N815  the standard's spelling
    kind: Literal["DataContract"]
    id: str
    version: str
    status: str
    schema_: tuple[_Object, ...] = Field(alias="schema", min_length=1, max_length=1)


def read_contract(path: Path) -> Contract:
    """Read a data contract; raises SpecError with every complaint at once."""
    source = read_yaml(path)
    model = validate(_ContractFile, source)
    properties = model.schema_[0].properties
    columns = tuple(_column(source, index, item) for index, item in enumerate(properties))
    for role in ("label", "split"):
        found = [column.name for column in columns if column.role == role]
        if (role == "label" and len(found) != 1) or len(found) > 1:
            wanted = "exactly one column" if role == "label" else "at most one column"
            raise source.error(("schema",), f"{wanted} must have role {role}; found {found or 'none'}")
    if not any(column.role == "feature" for column in columns):
        raise source.error(("schema",), "at least one column must be a feature to learn from")
    names = [column.name for column in columns]
    for name in names:
        if names.count(name) > 1:
            raise source.error(("schema",), f"column '{name}' is described twice: keep one")
    text = path.read_bytes()
    return Contract(model.id, model.version, columns, sha256(text), text)


def _column(source: Source, index: int, item: _Property) -> Column:
    place = ("schema", 0, "properties", index)
    role, codes = item.custom("role", "feature"), item.custom("codes", [])
    if role not in ("feature", "label", "split"):
        raise source.error(place, f"role '{role}' of '{item.name}' is not allowed; use feature, label or split")
    if isinstance(codes, list) and any(isinstance(code, bool) or code is None for code in codes):
        raise source.error(place, f"codes of '{item.name}' hold an unquoted yes, no or null: put quotes around it")
    if not isinstance(codes, list) or len(set(map(str, codes))) != len(codes) or len(codes) == 1:
        raise source.error(place, f"codes of '{item.name}' must be a list of two or more different codes")
    if role == "split" and set(map(str, codes)) != {"train", "test"}:
        raise source.error(place, f"split column '{item.name}' needs the codes [train, test]")
    if item.logicalType == "string" and not codes:
        raise source.error(place, f"text column '{item.name}' needs `codes`, a list of its values, to be learned from")
    options = item.logicalTypeOptions
    if options.minimum is not None and options.maximum is not None and options.minimum > options.maximum:
        raise source.error(place, f"the minimum of '{item.name}' is above its maximum")
    return Column(
        item.name,
        role,
        tuple(str(code) for code in codes),
        options.minimum,
        options.maximum,
        item.required,
        str(item.custom("unit", "")),
        whole=item.logicalType == "integer",
    )
