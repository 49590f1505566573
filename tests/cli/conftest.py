import pytest

from tests.projects import Cli


@pytest.fixture
def cli(monkeypatch, capfd):
    """The command line in this process: `cli("run", "-C", folder)` gives exit code, stdout and stderr."""
    monkeypatch.delenv("COLUMNS", raising=False)  # test runners set it for themselves
    return Cli(monkeypatch, capfd)
