"""What a repository remembers about itself: current branch, remotes, protected refs, trusted keys, what is fetched.

Rules: settings are generations like refs, so two processes never overwrite each other's, and an unknown field of a
newer fedloom is kept when an older one writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from fedloom.errors import ConflictError
from fedloom.versions.generations import Generations
from fedloom.versions.store import Store


@dataclass(frozen=True, slots=True)
class Settings:
    """One repository's settings.

    branch: what `run`, `merge` and `revert` move. remotes: name → URL. protected: refs that take a merge only with
    a passed gate. trusted: name → public key (PEM). only: globs of tensor names that `fetch` brings; empty for all.
    """

    branch: str = "main"
    remotes: Mapping[str, str] = field(default_factory=dict)
    protected: tuple[str, ...] = ("heads/main",)
    trusted: Mapping[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    unknown: Mapping[str, Any] = field(default_factory=dict)


class SettingsFile:
    """Reads and changes the settings of one store."""

    def __init__(self, store: Store) -> None:
        self._generations = Generations(store, "settings", "the settings")

    def read(self) -> Settings:
        """Read the current settings; the defaults where nobody changed any."""
        number = self._generations.latest()
        return self._at(number)

    def change(self, edit: Callable[[Settings], Settings]) -> Settings:
        """Apply `edit` to the current settings, again where another process was first; gives the new ones."""
        while True:
            number = self._generations.latest()
            before = self._at(number)
            after = edit(before)
            if after == before:
                return after
            value = asdict(after)
            value |= value.pop("unknown")
            try:
                self._generations.create(number + 1, value)
            except ConflictError:
                continue
            return after

    def _at(self, number: int) -> Settings:
        if not number:
            return Settings()
        value = self._generations.read(number)
        known = {item.name for item in fields(Settings)} - {"unknown"}
        given: dict[str, Any] = {
            name: tuple(part) if isinstance(part, list) else part for name, part in value.items() if name in known
        }
        return replace(Settings(**given), unknown={name: part for name, part in value.items() if name not in known})
