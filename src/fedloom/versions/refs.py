"""Refs: names that point to commits, moved by compare-and-set only.

Rules: each move creates the next generation `refs/<name>.ref/<number>`; creating a number is atomic on every
store, so of two writers one loses with a ConflictError and nothing is overwritten. The generations are the reflog.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import NamedTuple

from fedloom.errors import ConflictError, CorruptObjectError, NotFoundError, VersionsError
from fedloom.values import Digest
from fedloom.versions.store import Store

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")


class Move(NamedTuple):
    """One line of the reflog: where the ref pointed from then on, since when, and why."""

    target: Digest
    when: str
    why: str


class Refs:
    """All refs of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, tuple[int, Digest]] = {}

    def get(self, name: str) -> Digest | None:
        """Find where a ref points now; None when there is no such ref."""
        numbers = self._numbers(name)
        if not numbers:
            return None
        latest = numbers[-1]
        if self._known.get(name, (0,))[0] != latest:
            self._known[name] = latest, self._read(name, latest).target
        return self._known[name][1]

    def compare_and_set(self, name: str, old: Digest | None, new: Digest, why: str) -> None:
        """Point `name` from `old` (None: it must not exist) to `new`; raises ConflictError when it is elsewhere."""
        number, target = self._known.get(name, (0, None))
        if target != old or old is None:
            target = self.get(name)
            number = self._known.get(name, (0, None))[0]
        if target != old:
            raise ConflictError(f"ref '{name}' points to {_short(target)}, not {_short(old)}: read it and retry")
        move = {"target": new, "when": datetime.now(UTC).isoformat(timespec="seconds"), "why": why}
        if not self._store.create(f"{_folder(name)}/{number + 1:08d}", [json.dumps(move).encode()]):
            self._known.pop(name, None)
            raise ConflictError(f"ref '{name}' was moved by another process: read it and retry")
        self._known[name] = number + 1, new

    def names(self, prefix: str = "") -> list[str]:
        """List the refs whose name starts with `prefix`, sorted."""
        paths = (path for path in self._store.paths("refs") if ".ref/" in path)
        found = {path[len("refs/") :].rsplit(".ref/", 1)[0] for path in paths}
        return sorted(name for name in found if name.startswith(prefix))

    def log(self, name: str) -> list[Move]:
        """List every move of a ref, oldest first; raises NotFoundError when there is no such ref."""
        moves = [self._read(name, number) for number in self._numbers(name)]
        if not moves:
            raise NotFoundError(f"there is no ref '{name}': see `fedloom log --refs`")
        return moves

    def _numbers(self, name: str) -> list[int]:
        """List the generations in order: by number, for from 10^8 on their names no longer sort."""
        return sorted(int(number) for number in self._store.names(_folder(name)) if number.isdecimal())

    def _read(self, name: str, number: int) -> Move:
        path = f"{_folder(name)}/{number:08d}"
        try:
            return Move(**json.loads(self._store.get(path)))
        except (ValueError, TypeError):
            todo = f"restore {path} from a copy, or delete it to go back to the move before"
            raise CorruptObjectError(f"move {number} of ref '{name}' is corrupt: {todo}") from None


def is_ref_name(name: str) -> bool:
    """Whether a ref may have this name; '.ref' at the end of a part marks the store's own folders."""
    return _NAME.fullmatch(name) is not None and ".ref/" not in f"{name}/"


def _folder(name: str) -> str:
    if not is_ref_name(name):
        allowed = "lower-case letters, digits, '.', '_', '-' and '/'; no part may start with a sign or end in '.ref'"
        raise VersionsError(f"'{name}' is no ref name: use {allowed}")
    return f"refs/{name}.ref"


def _short(target: Digest | None) -> str:
    return target[:12] if target else "nothing"
