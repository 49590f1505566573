"""One face for everything that keeps versions of a model: fedloom and its peers.

Rules: every side gets the same checkpoint files and gives back the same bits, compared outside the clock.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from measuring import folder_bytes

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Read:
    """What one checkout took: milliseconds of the reading, and of the whole process where that is another figure."""

    ms: float
    process_ms: float | None = None


class Tool(Protocol):
    """One way to keep versions of a model, with a history of its own in a folder."""

    def commit(self, checkpoints: Sequence[Path], seconds: float) -> list[float]:
        """Commit these, each once, until the time is up; give the milliseconds of each."""
        ...

    def checkout(self, number: int, expected: Path) -> Read:
        """Read the number-th commit (from 0) and compare it with the file it was made of."""
        ...

    def tensor(self, number: int, expected: Path, name: str) -> float | None:
        """Read one tensor of a commit; None where only whole files can be read."""
        ...

    def stored(self) -> int:
        """Bytes of the history on the disk."""
        ...

    def push(self) -> int | None:
        """Send to a remote on this disk what it lacks; give the bytes it grew by, None where there are no remotes."""
        ...


@dataclass
class Worker:
    """A library in processes of its own, that print JSON (ours.py, icechunk_worker.py)."""

    command: Sequence[str]
    folder: Path
    options: Sequence[str] = ()
    ids: list[str] = field(default_factory=list)

    def commit(self, checkpoints: Sequence[Path], seconds: float) -> list[float]:
        """Commit all in one process, as a hub does."""
        done = self._run("commit", str(seconds), *self.options, *map(str, checkpoints))
        self.ids += done["ids"]
        return [float(ms) for ms in done["ms"]]

    def checkout(self, number: int, expected: Path) -> Read:
        """Read in a fresh process."""
        done = self._run("checkout", self.ids[number], str(expected), repr(time.time()))
        return Read(done["ms"], done["process_ms"])

    def tensor(self, number: int, expected: Path, name: str) -> float | None:
        """Read one tensor in a fresh process."""
        return float(self._run("tensor", self.ids[number], str(expected), name)["ms"])

    def stored(self) -> int:
        """Weigh the whole folder."""
        return folder_bytes(self.folder)

    def push(self) -> int | None:
        """Ours is measured by pushing.py; icechunk has no remotes."""
        return None

    def _run(self, verb: str, *arguments: str) -> dict[str, Any]:
        return json_of([*self.command, verb, str(self.folder), *arguments])


def fedloom(folder: Path) -> Worker:
    """Make our side."""
    return Worker([sys.executable, str(HERE / "ours.py")], folder)


def json_of(command: Sequence[str]) -> dict[str, Any]:
    """Run a process and read its last line."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[1:3]}: {done.stderr.strip()[-800:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
