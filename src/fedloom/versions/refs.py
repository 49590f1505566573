"""Refs: names that point to commits, moved by compare-and-set only.

Rules: a ref's moves are generations under `refs/<name>.ref/`; the ones before the last are its reflog. A move without
a target is a deletion: the name is free, its past is kept. A ref is only pointed to what is here and will stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from fedloom.errors import ConflictError, NotFoundError, VersionsError
from fedloom.values import Digest
from fedloom.versions.generations import Generations
from fedloom.versions.store import Store

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")


class Move(NamedTuple):
    """One line of the reflog: where the ref pointed from then on (None: nowhere), since when, and why."""

    target: Digest | None
    when: str
    why: str


class Refs:
    """All refs of one store; `stays` says whether an object is here, and sees to it that nobody clears it away."""

    def __init__(self, store: Store, stays: Callable[[Digest], bool] = lambda _: True) -> None:
        self._store = store
        self._stays = stays
        self._known: dict[str, tuple[int, Digest | None]] = {}

    def get(self, name: str) -> Digest | None:
        """Find where a ref points now; None when there is no such ref."""
        generations = self._generations(name)
        latest = generations.latest()
        if not latest:
            return None
        if self._known.get(name, (0,))[0] != latest:
            self._known[name] = latest, self._move(generations, latest).target
        return self._known[name][1]

    def compare_and_set(self, name: str, old: Digest | None, new: Digest | None, why: str) -> None:
        """Point `name` from `old` (None: it must not exist) to `new` (None: delete it).

        Raises ConflictError when it is elsewhere, NotFoundError when what it is to point to is not here (any more).
        """
        if new is not None and not self._stays(new):
            raise NotFoundError(
                f"ref '{name}' cannot point to {_short(new)}, which is not here: fetch or make it again"
            )
        generations = self._generations(name)
        number, target = self._known.get(name, (0, None))
        if target != old or old is None:
            target = self.get(name)
            number = self._known.get(name, (0, None))[0]
        if target != old:
            raise ConflictError(f"ref '{name}' points to {_short(target)}, not {_short(old)}: read it and retry")
        move = {"target": new, "when": datetime.now(UTC).isoformat(timespec="seconds"), "why": why}
        try:
            generations.create(number + 1, move)
        except ConflictError:
            self._known.pop(name, None)
            raise
        self._known[name] = number + 1, new

    def names(self, prefix: str = "") -> list[str]:
        """List the refs whose name starts with `prefix`, sorted; deleted ones are left out."""
        folder = prefix.rpartition("/")[0]
        paths = self._store.paths(f"refs/{folder}" if folder else "refs")
        found = {path[len("refs/") :].rsplit(".ref/", 1)[0] for path in paths if ".ref/" in path}
        return sorted(name for name in found if name.startswith(prefix) and self.get(name))

    def log(self, name: str) -> list[Move]:
        """List every move of a ref, oldest first; raises NotFoundError when there never was such a ref."""
        generations = self._generations(name)
        moves = [self._move(generations, number) for number in generations.numbers()]
        if not moves:
            raise NotFoundError(f"there is no ref '{name}': see `fedloom log --refs`")
        return moves

    def _move(self, generations: Generations, number: int) -> Move:
        value = generations.read(number)
        try:
            return Move(value["target"], value["when"], value["why"])
        except KeyError:
            raise generations.corrupt(number) from None

    def _generations(self, name: str) -> Generations:
        return Generations(self._store, _folder(name), f"ref '{name}'")


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
