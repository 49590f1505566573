"""What the tests of the examples share: a copy of an example, prepared and run the way a newcomer does it."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedloom.local.federation import Workers, plan_local, run_local
from fedloom.pipeline.events import RunFinished

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Example:
    """A copy of an example without anything a run wrote."""

    folder: Path

    def prepare(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run prepare.py in its own process."""
        command = [sys.executable, "prepare.py", *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)

    def run(self, rounds: int | None = None) -> RunFinished:
        """Plan and run the project with one worker, so that nothing competes for the two cores of CI."""
        plan = plan_local(self.folder, rounds=rounds)
        assert plan.refusals == ()
        return run_local(plan, lambda event: None, workers=Workers(1))


@pytest.fixture
def example(tmp_path):
    """Copy an example by name."""

    def copy(name):
        wanted = shutil.ignore_patterns("data", "models", ".fedloom", "__pycache__", "report.html")
        shutil.copytree(ROOT / "examples" / name, tmp_path / name, ignore=wanted)
        return Example(tmp_path / name)

    return copy
