"""What every data check must do; each check's test subclasses this."""

import pytest

from fedloom.pipeline.checks.check import DataCheck, Finding
from fedloom.pipeline.columns import Table, read_columns
from fedloom.pipeline.contract import Contract
from fedloom.pipeline.spec import ContractStage

CANARY = "CANARY-4711"


class CheckSuite:
    """Subclasses name the check, a contract, and tables: one that passes, and some that fail with what is told.

    `failing` tables hold CANARY in a cell wherever the check looks at cells.
    """

    check: DataCheck
    contract: Contract
    passing: Table
    failing: dict[str, tuple[Table, str, str]]
    """Case → (table, severity, words of the finding)."""
    settings = ContractStage()

    def findings(self, table: Table) -> list[Finding]:
        check = type(self).__dict__["check"]
        return list(check(self.contract, read_columns(self.contract, table), self.settings))

    def test_a_good_table_passes(self):
        """Nothing is said about a table that is as it must be."""
        assert self.findings(self.passing) == []

    def test_each_bad_table_is_told(self):
        """Each failing sample gives the finding that is expected, with its severity and a column of the contract."""
        assert self.failing
        names = {"", *(column.name for column in self.contract.columns)}
        for case, (table, severity, words) in self.failing.items():
            found = self.findings(table)
            assert [f for f in found if f.severity == severity and words in f.message], (case, found)
            for finding in found:
                assert finding.check == type(self).__dict__["check"].__name__
                assert finding.column in names
                assert finding.count >= 0

    def test_no_value_of_a_cell_is_in_a_finding(self):
        """Findings leave the site: names and counts, never what stands in a cell."""
        for table, _, _ in self.failing.values():
            assert CANARY not in repr(self.findings(table))

    @pytest.mark.parametrize("columns", ["all", "none"])
    def test_an_empty_table_is_no_crash(self, columns):
        """No rows, or no columns either: the check answers all the same."""
        table = {c.name: [] for c in self.contract.columns} if columns == "all" else {}
        assert isinstance(self.findings(table), list)
