"""What happened, under a commit's id: clock times, seconds and bytes, which a commit's own bytes must not hold.

Rules: one record per commit, written once, beside the objects and outside every id.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from fedloom.errors import CorruptObjectError, NotFoundError
from fedloom.values import Buffer


class Storage(Protocol):
    """What the recorder needs of a store."""

    def create(self, path: str, parts: Iterable[Buffer]) -> bool:
        """Write once."""
        ...

    def get(self, path: str) -> bytes:
        """Read."""
        ...


class Recorder:
    """Writes and reads records."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def record(self, subject: str, facts: Mapping[str, Any]) -> None:
        """Keep `facts` (plain JSON) about `subject`, a commit's id; the first record stays."""
        self._storage.create(f"telemetry/{subject}.json", [json.dumps(facts, sort_keys=True).encode()])

    def read(self, subject: str) -> dict[str, Any]:
        """Read the record about a commit; {} when there is none (a commit that came from elsewhere)."""
        try:
            record: dict[str, Any] = json.loads(self._storage.get(f"telemetry/{subject}.json"))
        except NotFoundError:
            return {}
        except ValueError:
            todo = "restore it from a copy, or delete it"
            raise CorruptObjectError(f"the record telemetry/{subject}.json is not JSON: {todo}") from None
        return record
