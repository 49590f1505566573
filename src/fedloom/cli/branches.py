"""`fedloom branch`, `switch`, `tag` and `protect`: what there is, and what has become of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from fedloom.cli.opening import open_repository
from fedloom.cli.output import console, print_json
from fedloom.cli.tables import print_table
from fedloom.errors import SpecError
from fedloom.values import Digest
from fedloom.versions.refs import is_ref_name
from fedloom.versions.repository import Repository
from fedloom.versions.revisions import HEAD


def list_branches(folder: Path, *, as_json: bool) -> None:
    """Print all branches: the current one has a star."""
    repository = open_repository(folder)
    told: list[dict[str, Any]] = [
        {
            "branch": branch.name,
            "commit": branch.tip,
            "current": branch.current,
            "protected": branch.protected,
            **_commit(repository, branch.tip),
        }
        for branch in repository.branches()
    ]
    if as_json:
        print_json(told)
        return
    if not told:
        console().print("there is no branch yet: `fedloom run` makes one, and so does `fedloom branch NAME runs/1`")
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for one in told:
        name = Text(f"{'*' if one['current'] else ' '} {one['branch']}", style="bold green" if one["current"] else "")
        mark = Text("protected", style="yellow") if one["protected"] else ""
        table.add_row(name, Text(one["commit"][:12], "cyan"), mark, one["message"])
    print_table(console(), table)


def make_branch(folder: Path, name: str, start: str | None, *, as_json: bool) -> None:
    """Make a branch."""
    repository = open_repository(folder)
    _require_name(name, "branch")
    tip = repository.branch(name, start or HEAD)
    _tell({"branch": name, "commit": tip}, f"branch {name} made at {tip[:12]}", as_json=as_json)


def delete_branch(folder: Path, name: str, *, force: bool, as_json: bool) -> None:
    """Delete a branch and say how to get it back."""
    tip = open_repository(folder).delete_branch(name, force=force)
    back = f"`fedloom branch {name} {tip[:12]}` brings it back"
    _tell({"deleted": name, "commit": tip}, f"branch {name} deleted, it was at {tip[:12]}: {back}", as_json=as_json)


def switch_branch(folder: Path, name: str, start: str | None, *, create: bool, as_json: bool) -> None:
    """Make a branch the current one."""
    repository = open_repository(folder)
    if create:
        _require_name(name, "branch")
    tip = repository.switch(name, create=create, start=start or HEAD)
    at = f"at {tip[:12]}" if tip else "which has no commit yet"
    _tell({"branch": name, "commit": tip}, f"the current branch is {name}, {at}", as_json=as_json)


def list_tags(folder: Path, *, as_json: bool) -> None:
    """Print all tags."""
    repository = open_repository(folder)
    found = repository.tags()
    if as_json:
        print_json([{"tag": name, "commit": id_, **_commit(repository, id_)} for name, id_ in found.items()])
        return
    if not found:
        console().print("there is no tag yet: `fedloom tag NAME`")
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, id_ in found.items():
        table.add_row(Text(name, "bold yellow"), Text(id_[:12], "cyan"), _commit(repository, id_)["message"])
    print_table(console(), table)


def make_tag(folder: Path, name: str, start: str | None, *, as_json: bool) -> None:
    """Name a commit for good."""
    repository = open_repository(folder)
    _require_name(name, "tag")
    target = repository.tag(name, start or HEAD)
    _tell({"tag": name, "commit": target}, f"tag {name} names {target[:12]}", as_json=as_json)


def delete_tag(folder: Path, name: str, *, as_json: bool) -> None:
    """Delete a tag."""
    target = open_repository(folder).delete_tag(name)
    _tell({"deleted": name, "commit": target}, f"tag {name} deleted, it named {target[:12]}", as_json=as_json)


def list_protected(folder: Path, *, as_json: bool) -> None:
    """Print which refs are protected."""
    protected = list(open_repository(folder).settings.read().protected)
    if as_json:
        print_json(protected)
        return
    console().print("\n".join(protected) or "nothing is protected")


def protect_ref(folder: Path, name: str, *, remove: bool, as_json: bool) -> None:
    """Protect a ref, or take the protection away."""
    repository = open_repository(folder)
    ref = repository.unprotect(name) if remove else repository.protect(name)
    said = "is protected no longer" if remove else "is protected: it takes no open conflict and no unmeasured merge"
    _tell({"ref": ref, "protected": not remove}, f"{ref} {said}", as_json=as_json)


def _require_name(name: str, noun: str) -> None:
    """Refuse what can be no name as a mistake in what was typed."""
    if not is_ref_name(name):
        allowed = "lower-case letters, digits, '.', '_', '-' and '/', with no sign at the start of a part"
        raise SpecError(f"'{name}' is no name for a {noun}: use {allowed}")


def _commit(repository: Repository, id_: Digest) -> dict[str, str]:
    commit = repository.commit(id_)
    return {"kind": commit.kind, "message": commit.message.partition("\n")[0]}


def _tell(value: dict[str, Any], sentence: str, *, as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        console().print(sentence)
