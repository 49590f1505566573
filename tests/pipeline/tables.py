"""Contracts and tables made in memory, for tests of the pure half of the pipeline."""

from fedloom.pipeline.columns import Columns, Table, read_columns
from fedloom.pipeline.contract import Column, Contract
from fedloom.values import sha256

NUMBER = Column("age", minimum=0, maximum=120)
WHOLE = Column("visits", whole=True)
CODE = Column("kind", codes=("p", "q", "r"))
LABEL = Column("y", role="label", codes=("no", "yes"), required=True)
SPLIT = Column("part", role="split", codes=("train", "test"))


def contract(*columns: Column) -> Contract:
    """Make a contract of columns."""
    return Contract("made", "1", columns or (NUMBER, CODE, LABEL), sha256(b"made"), b"made")


def read(table: Table, *columns: Column) -> Columns:
    """Read a table by a contract of these columns."""
    return read_columns(contract(*columns), table)
