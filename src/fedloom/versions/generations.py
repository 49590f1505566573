"""A value with a history, moved by compare-and-set on any store: numbered files that are only ever created.

Rules: each move creates the next number; creating one is atomic on every store, so of two writers one loses with a
ConflictError and nothing is overwritten. The numbers before the last are the log.
"""

from __future__ import annotations

import json
from typing import Any

from fedloom.errors import ConflictError, CorruptObjectError
from fedloom.versions.store import Store


class Generations:
    """The JSON objects kept under one folder, oldest first; `noun` is what messages call the value."""

    def __init__(self, store: Store, folder: str, noun: str) -> None:
        self._store = store
        self._folder = folder
        self._noun = noun

    def latest(self) -> int:
        """Number of the current value; 0 when there is none yet."""
        return max(self.numbers(), default=0)

    def numbers(self) -> list[int]:
        """List the generations in order: by number, for from 10^8 on their names no longer sort."""
        return sorted(int(number) for number in self._store.names(self._folder) if number.isdecimal())

    def read(self, number: int) -> dict[str, Any]:
        """Read one generation; raises CorruptObjectError when it is not a JSON object."""
        try:
            value = json.loads(self._store.get(self._path(number)))
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise self.corrupt(number)
        return value

    def corrupt(self, number: int) -> CorruptObjectError:
        """Make the error that says how to get back from a generation that cannot be read."""
        todo = f"restore {self._path(number)} from a copy, or delete it to go back to the move before"
        return CorruptObjectError(f"move {number} of {self._noun} is corrupt: {todo}")

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:08d}"

    def create(self, number: int, value: dict[str, Any]) -> None:
        """Add the generation after `number - 1`; raises ConflictError when somebody else just did."""
        if not self._store.create(self._path(number), [json.dumps(value).encode()]):
            raise ConflictError(f"{self._noun} was moved by another process: read it and retry")
