"""Files written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fedloom.errors import StorageError
from fedloom.values import Buffer


def write_file(path: Path, parts: Iterable[Buffer]) -> Path:
    """Write a file, replacing an older one in one step; raises StorageError and leaves the older one when it fails."""
    scratch = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("wb") as file:
            for part in parts:
                file.write(part)
        scratch.replace(path)
    except OSError as error:
        with suppress(OSError):
            scratch.unlink()
        raise StorageError(
            f"cannot write {path}: {error.strerror}. The model itself is safe in the repository"
        ) from None
    return path
