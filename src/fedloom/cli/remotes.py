"""`fedloom remote`, `clone`, `fetch`, `pull` and `push`: what travels, how far it is, what moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from rich.table import Table

from fedloom.cli.opening import open_repository
from fedloom.cli.output import bytes_text, console, counted, print_json
from fedloom.cli.tables import print_table
from fedloom.errors import SpecError
from fedloom.versions.remotes import addresses, sync
from fedloom.versions.remotes.sync import Pushing, RefMove, Synced
from fedloom.versions.remotes.transfer import Watch
from fedloom.versions.repository import Repository
from fedloom.versions.revisions import short_name


def add_remote(folder: Path, name: str, url: str, options: Sequence[str]) -> None:
    """Remember a remote."""
    address = Repository.at(folder).add_remote(name, url, _options(options))
    console().print(f"{name} is {address}")


def print_remotes(folder: Path, *, as_json: bool) -> None:
    """Print remotes, without their options: those may be secrets."""
    found = dict(open_repository(folder).remotes())
    if as_json:
        print_json(found)
        return
    if not found:
        console().print("no remotes yet: add one with `fedloom remote add NAME URL`")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("remote", "address"):
        table.add_column(heading)
    for name, url in found.items():
        table.add_row(name, url)
    print_table(console(), table)


def remove_remote(folder: Path, name: str) -> None:
    """Forget a remote."""
    open_repository(folder).remove_remote(name)
    console().print(f"forgot {name}; what was fetched from it stays")


def clone_repository(
    url: str, folder: Path | None, only: Sequence[str], options: Sequence[str], *, as_json: bool
) -> None:
    """Copy a repository, and say what is there now."""
    home, given = folder or Path(_last_part(url)), _options(options)
    repository = Repository.for_clone(url, home, given)
    synced = _watched(lambda watch: sync.clone(repository, url, only=only, options=given, watch=watch), as_json=as_json)
    _tell(synced, "received", as_json=as_json)
    if not as_json:
        branch = repository.settings.read().branch
        console().print(f"{home}/ is a clone, on branch {branch}: look at it with `fedloom log {branch} -C {home}`")


def fetch_from(folder: Path, remote: str, only: Sequence[str], *, as_json: bool) -> None:
    """Bring what is new."""
    repository = open_repository(folder)
    synced = _watched(lambda watch: repository.fetch(remote, only=only, watch=watch), as_json=as_json)
    _tell(synced, "received", as_json=as_json)


def pull_from(folder: Path, remote: str, only: Sequence[str], *, as_json: bool) -> None:
    """Bring what is new, and move the current branch to it."""
    repository = open_repository(folder)
    synced = _watched(lambda watch: repository.pull(remote, only=only, watch=watch), as_json=as_json)
    _tell(synced, "received", as_json=as_json)


def push_to(folder: Path, remote: str, what: Pushing, *, as_json: bool) -> None:
    """Send what is missing there."""
    repository = open_repository(folder)
    synced = _watched(lambda watch: repository.push(remote, what, watch), as_json=as_json)
    _tell(synced, "sent", as_json=as_json)


def summary(synced: Synced, verb: str) -> str:
    """Say in a line what travelled.

    >>> from fedloom.versions.remotes.transfer import Moved
    >>> summary(Synced(Moved(objects=42, bytes=18_200_000, raw=52_000_000)), "sent")
    '42 objects, 18.2 MB sent (0.35 of raw)'
    """
    moved = synced.moved
    share = f" ({moved.bytes / moved.raw:.2f} of raw)" if moved.objects and moved.raw else ""
    return f"{counted(moved.objects, 'object')}, {bytes_text(moved.bytes)} {verb}{share}"


def _tell(synced: Synced, verb: str, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {"objects": synced.moved.objects, "bytes": synced.moved.bytes, "raw": synced.moved.raw, **_said(synced)}
        )
        return
    out = console()
    out.print(summary(synced, verb) if synced.moved.objects or synced.refs else "up to date: 0 objects")
    for move in synced.refs:
        out.print(f"  {short_name(move.name)}: {_from_to(move)}")
    for note in synced.notes:
        out.print(f"  note: {note}")


def _said(synced: Synced) -> Mapping[str, object]:
    return {
        "refs": {move.name: {"old": move.old, "new": move.new} for move in synced.refs},
        "notes": list(synced.notes),
    }


def _from_to(move: RefMove) -> str:
    return f"{move.old[:12]} → {move.new[:12]}" if move.old else f"new, at {move.new[:12]}"


def _watched(verb: Callable[[Watch], Synced], *, as_json: bool) -> Synced:
    """Do a verb; on a terminal, one line says how far it is."""
    out = console()
    if as_json or not out.is_terminal:
        return verb(sync.quietly)
    with out.status("asking what is missing") as line:

        def watch(done: int, total: int, bytes_moved: int) -> None:
            line.update(f"{done} of {total} objects, {bytes_text(bytes_moved)}")

        return verb(watch)


def _options(given: Sequence[str]) -> dict[str, str]:
    """Read key=value pairs; what is wrong with one is said without its value, which may be a secret."""
    pairs = [text.partition("=") for text in given]
    if any(not (key and equals) for key, equals, _ in pairs):
        raise SpecError("--option is given as key=value, such as --option endpoint=https://host")
    return {key: value for key, _, value in pairs}


def _last_part(url: str) -> str:
    """Name a clone's folder as its address ends."""
    path = urlsplit(url).path if not addresses.is_folder(url) else url
    name = Path(path.rstrip("/")).name
    if not name or name == "..":
        raise SpecError("give the folder to make after the address")
    return name
