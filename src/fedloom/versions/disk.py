"""Values as files of one folder, written so that neither a killed process nor a power cut leaves half of one.

Rules: a file is written beside its name (`name#digits`, which no listing shows), and takes its name in one step when
it is whole. What is `durable` is on the disk before it has a name; the rest is, file and folder, after `sync`.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import time

from fedloom.values import Buffer
from fedloom.versions.parallel import WAITS, spread

_DRAFT = re.compile(r"#\d+$")
_PARTS_AT_ONCE = 512  # below IOV_MAX of every system
_SETTLED = 3600  # seconds; an older file has long been on the disk, a younger one's age need not be renewed


class Disk:
    """Files below one folder; every error is an OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._files: set[Path] = set()
        self._folders: set[Path] = set()  # whose list of names may not be on the disk
        self._anchored = {folder}  # whose own names are, in the folders above

    def create(self, path: str, parts: Iterable[Buffer], *, durable: bool) -> bool:
        """Write a new file; False when there is one of that name, which is then left as it is."""
        target = self._at(path)
        if os.path.lexists(target):
            return False
        draft = self._draft(target, parts, durable=durable)
        try:
            os.link(draft, target)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        self._written(target, durable=durable)
        return True

    def replace(self, path: str, parts: Iterable[Buffer]) -> None:
        """Write a file, in the place of one of that name if need be."""
        target = self._at(path)
        draft = self._draft(target, parts, durable=True)
        try:
            draft.replace(target)
        except OSError:
            draft.unlink()
            raise
        self._written(target, durable=True)

    def get(self, path: str) -> bytes:
        """Read a file."""
        return self._at(path).read_bytes()

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """Read a part of a file; shorter where the file ends before."""
        with self._at(path).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), length, start)

    def peek(self, path: str, length: int) -> tuple[bytes, int]:
        """Read the first bytes of a file, and how many it has."""
        with self._at(path).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), length, 0), os.fstat(file.fileno()).st_size

    def exists(self, path: str) -> bool:
        """Whether there is a file of that name."""
        try:
            return stat.S_ISREG(self._at(path).stat().st_mode)
        except FileNotFoundError:
            return False

    def touch(self, path: str) -> bool:
        """Make a file count as used now, and as one that `sync` brings to the disk; False when there is none."""
        target = self._at(path)
        try:
            if time() - target.stat().st_mtime > _SETTLED:
                os.utime(target)
                return True
        except FileNotFoundError:
            return False
        self._written(target, durable=False)
        return True

    def delete(self, path: str) -> bool:
        """Remove a file; False when there is none. A power cut may bring it back until `sync`."""
        target = self._at(path)
        try:
            target.unlink()
        except FileNotFoundError:
            return False
        with self._lock:
            self._folders.add(target.parent)
        return True

    def listing(self, folder: str, *, deep: bool) -> Iterator[tuple[str, int, datetime]]:
        """Give path, size and time of change of the files in a folder, and in those below it when `deep`."""
        for entry in self._entries(folder):
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir():
                if deep:
                    yield from self.listing(path, deep=True)
            elif not _DRAFT.search(entry.name):
                with suppress(FileNotFoundError):  # removed since the folder was read
                    found = entry.stat()
                    yield path, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC)

    def names(self, folder: str) -> list[str]:
        """Give the names of the files directly in a folder."""
        return [entry.name for entry in self._entries(folder) if not (_DRAFT.search(entry.name) or entry.is_dir())]

    def sweep(self, folder: str, before: datetime) -> int:
        """Remove what killed processes left half written in a folder before a moment; gives the bytes freed."""
        freed = 0
        for entry in self._entries(folder):
            if entry.is_dir():
                freed += self.sweep(f"{folder}/{entry.name}", before)
            elif _DRAFT.search(entry.name):
                with suppress(FileNotFoundError):
                    found = entry.stat()
                    if datetime.fromtimestamp(found.st_mtime, UTC) < before:
                        Path(entry.path).unlink()
                        freed += found.st_size
        return freed

    def sync(self) -> None:
        """Bring everything written since the last call to the disk: files first, then the folders that name them."""
        with self._lock:
            files, folders = self._files, self._folders
            self._files, self._folders = set(), set()
        try:
            spread(_sync_file, sorted(files), WAITS)
            self._sync_folders(folders)
        except BaseException:
            with self._lock:
                self._files |= files
                self._folders |= folders
            raise

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._at(folder) if folder else self._folder) as entries:
                return list(entries)
        except FileNotFoundError:
            return []

    def _draft(self, target: Path, parts: Iterable[Buffer], *, durable: bool) -> Path:
        """Write a file beside its name; nothing of it stays where that fails."""
        draft = target.with_name(f"{target.name}#{secrets.randbelow(10**18)}")
        try:
            descriptor = _open(draft)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor = _open(draft)
        try:
            try:
                _write(descriptor, parts)
                if durable:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            draft.unlink()
            raise
        return draft

    def _written(self, target: Path, *, durable: bool) -> None:
        """Remember what `sync` has to do, or do it: a new name is safe once its folders are on the disk.

        Whoever made the folders, perhaps another process a moment ago, may not have brought them there.
        """
        with self._lock:
            folders = {target.parent}
            for folder in target.parents:
                if folder in self._anchored:
                    break
                folders.add(folder.parent)
            self._folders |= folders
            if not durable:
                self._files.add(target)
                return
            self._folders -= folders
        self._sync_folders(folders)

    def _sync_folders(self, folders: set[Path]) -> None:
        try:
            spread(_sync_folder, sorted(folders), WAITS)
        except BaseException:
            with self._lock:
                self._folders |= folders
            raise
        with self._lock:
            self._anchored |= {folder for folder in folders if folder.parent in folders}

    def _at(self, path: str) -> Path:
        if any(part in ("", ".", "..") for part in path.split("/")) or "\0" in path:
            raise OSError(f"'{path}' is no name of a value")
        return self._folder / path


def _open(draft: Path) -> int:
    return os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)


def _write(descriptor: int, parts: Iterable[Buffer]) -> None:
    views = [memoryview(part).cast("B") for part in parts if len(part)]
    first = 0
    while first < len(views):
        written = os.writev(descriptor, views[first : first + _PARTS_AT_ONCE])
        while first < len(views) and written >= len(views[first]):
            written -= len(views[first])
            first += 1
        if written:
            views[first] = views[first][written:]


def _sync_file(path: Path) -> None:
    """Bring a file's bytes to the disk; one that has been removed since needs it no more."""
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


def _sync_folder(path: Path) -> None:
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
