from fedloom.pipeline.checks.catalog import CHECKS
from tests.pipeline.checks import test_cells, test_labels, test_presence
from tests.suites.check import CheckSuite


def test_every_check_has_its_suite():
    """Each name of the catalogue is tested by the shared suite, and named as its function is."""
    suites = (test_presence.TestPresence, test_cells.TestCells, test_labels.TestLabels)
    assert all(issubclass(suite, CheckSuite) for suite in suites)
    assert [suite.__dict__["check"] for suite in suites] == list(CHECKS.values())
    assert [check.__name__ for check in CHECKS.values()] == list(CHECKS)
