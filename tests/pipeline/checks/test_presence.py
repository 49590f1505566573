from fedloom.pipeline.checks.presence import presence
from tests.pipeline.tables import contract, read
from tests.suites.check import CANARY, CheckSuite

ROW = {"age": ["30"] * 10, "kind": ["p"] * 10, "y": ["no"] * 10}


class TestPresence(CheckSuite):
    check = presence
    contract = contract()
    passing = ROW
    failing = {  # noqa: RUF012  a table of cases
        "a column less": (
            {"age": [CANARY] * 10, "y": ["no"] * 10},
            "refuse",
            "column 'kind' of contract made is absent",
        ),
        "no rows": ({name: [] for name in ROW}, "refuse", "the file holds no rows"),
        "too few": ({name: cells[:9] for name, cells in ROW.items()}, "refuse", "9 rows, fewer than min_rows 10"),
        "nothing": ({}, "refuse", "none of the 3 columns of contract made is in the file: check `delimiter`"),
    }


def test_each_absent_column_is_told_by_name():
    """Two columns less are two findings; rows that were not read are not said to be absent."""
    found = list(presence(contract(), read({"age": ["1"] * 20}), CheckSuite.settings))
    assert [finding.column for finding in found] == ["kind", "y"]
    assert [f.check for f in presence(contract(), read({}), CheckSuite.settings)] == ["presence"]
