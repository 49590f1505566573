"""A site's rows: a CSV file read through the site's adapter; only contract columns are kept.

Rules: messages name files, columns and counts; a cell's value never gets into one.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from os.path import normpath
from pathlib import Path

from fedloom.errors import SiteDataError
from fedloom.pipeline.columns import Columns, Table, read_columns
from fedloom.pipeline.contract import Contract
from fedloom.site.adapter import Adapter, ColumnMap, read_adapter
from fedloom.values import Digest, sha256


@dataclass(frozen=True)
class CsvData:
    """A CSV file behind an adapter file."""

    adapter_path: Path
    contract: Contract

    @property
    def path(self) -> Path:
        """Where the rows are."""
        return Path(normpath(self.adapter_path.parent / self._adapter.source))

    def columns(self) -> Columns:
        """Read the file by the contract; raises SiteDataError when it is missing, empty or no table."""
        return self._columns

    def digests(self) -> Mapping[str, Digest]:
        """Name adapter and data by the SHA-256 of their bytes."""
        return {"adapter": sha256(self.adapter_path.read_bytes()), "data": sha256(self._bytes)}

    @cached_property
    def _adapter(self) -> Adapter:
        return read_adapter(self.adapter_path, self.contract)

    @cached_property
    def _columns(self) -> Columns:
        return read_columns(self.contract, self._table())

    @cached_property
    def _bytes(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            raise SiteDataError(f"no file {self.path}: correct `source` in {self.adapter_path}") from None
        except OSError as error:
            raise SiteDataError(f"{self.path} cannot be read: {error.strerror}") from None

    def _table(self) -> Table:
        header, rows = self._rows()
        position = {name: index for index, name in enumerate(header)}
        maps = {column.name: self._adapter.columns.get(column.name, ColumnMap()) for column in self.contract.columns}
        for name, how in maps.items():
            if header.count(how.from_ or name) > 1:
                raise SiteDataError(f"{self.path} has two columns '{how.from_ or name}': rename one")
        found = {name: position.get(how.from_ or name) for name, how in maps.items()}
        return {
            name: self._cells(list(map(itemgetter(index), rows)), maps[name])
            for name, index in found.items()
            if index is not None
        }

    def _rows(self) -> tuple[list[str], list[list[str]]]:
        """Read header and rows; blank lines count as lines, and are no rows."""
        reader = csv.reader(io.StringIO(self._text(), newline=""), delimiter=self._adapter.delimiter)
        header, rows = list(self._adapter.header or ()), []
        try:
            for row in reader:
                if row and not header:
                    header = [name.strip() for name in row]
                elif row:
                    self._check_width(row, header, reader.line_num)
                    rows.append(row)
        except csv.Error:
            raise SiteDataError(
                f"{self.path}: line {reader.line_num} is no CSV: check quotes and `delimiter`"
            ) from None
        if not header or (self._adapter.header and not rows):
            raise SiteDataError(f"{self.path} is empty")
        return header, rows

    def _check_width(self, row: list[str], header: list[str], number: int) -> None:
        if len(row) != len(header):
            raise SiteDataError(
                f"{self.path}: line {number} has {len(row)} fields, and there are {len(header)} columns: "
                f"check `delimiter` in {self.adapter_path}"
            )

    def _cells(self, cells: list[str], how: ColumnMap) -> list[str | None]:
        absent = {*self._adapter.missing, *how.missing}
        stripped = {cell: cell.strip() for cell in set(cells)}  # a column has far fewer different cells than rows
        meant = {cell: None if word in absent else how.codes.get(word, word) for cell, word in stripped.items()}
        return list(map(meant.__getitem__, cells))

    def _text(self) -> str:
        try:
            data = gzip.decompress(self._bytes) if self.path.suffix == ".gz" else self._bytes
            return data.decode("utf-8-sig")
        except (UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
            raise SiteDataError(f"{self.path} is no readable UTF-8 CSV file ({type(error).__name__})") from None
