from fedloom.pipeline.checks.cells import cells
from tests.pipeline.tables import CODE, LABEL, NUMBER, WHOLE, Column, contract, read
from tests.suites.check import CANARY, CheckSuite


def table(**columns):
    return {"age": ["30", "31"], "kind": ["p", "q"], "y": ["no", "yes"], "visits": ["1", "2"], **columns}


class TestCells(CheckSuite):
    check = cells
    contract = contract(NUMBER, CODE, LABEL, WHOLE)
    passing = table()
    failing = {  # noqa: RUF012  a table of cases
        "no number": (
            table(age=[CANARY, "1"]),
            "refuse",
            "column 'age': 1 cell that the contract cannot read as a number",
        ),
        "no whole number": (
            table(visits=["1.5", "2.5"]),
            "refuse",
            "2 cells that the contract cannot read as a whole number",
        ),
        "no code": (table(kind=[CANARY, "p"]), "refuse", "cannot read as one of its codes: map it in the adapter"),
        "out of range": (table(age=["-4711", "4711"]), "refuse", "2 cells outside the contract's range [0, 120]"),
        "a gap in a required column": (
            table(y=[None, CANARY]),
            "refuse",
            "'y': 1 cell without a value, and the contract",
        ),
        "a gap": (table(age=[None, "2"]), "note", "column 'age': 1 cell of 2 without a value"),
    }

    def test_counts_are_told_and_no_number_of_a_cell(self):
        """The count stands in the finding; the number that was out of range does not."""
        (found,) = self.findings(table(age=["-4711", "4711"]))
        assert found.count == 2
        assert "4711" not in found.message


def test_an_open_range_is_told_as_such():
    """A bound that is not set reads `any`."""
    found = list(
        cells(contract(Column("x", maximum=5), LABEL), read({"x": ["6"]}, Column("x", maximum=5), LABEL), None)
    )
    assert "range [any, 5]" in found[0].message
