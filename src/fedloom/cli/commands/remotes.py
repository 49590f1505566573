"""Commands between repositories: remote, clone, fetch, pull, push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedloom.cli.commands.options import HERE, AsJson, Project

Remote = Annotated[str, typer.Argument(help="A remote's name; `origin`, or the only one there is, when absent.")]
Url = Annotated[str, typer.Argument(help="A folder, file://, s3://bucket/path (gs://, az://), or https:// of a hub.")]
Only = Annotated[
    list[str] | None, typer.Option("--only", help="Glob of tensor names, such as 'encoder.*'; repeatable.")
]
Options = Annotated[
    list[str] | None, typer.Option("--option", help="key=value for the remote, such as endpoint=…; repeatable.")
]
NO_REMOTE = ""


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    remotes = typer.Typer(no_args_is_help=True, help="Add, list and remove remotes.", rich_markup_mode=None)
    remotes.command("add")(add)
    remotes.command("list")(list_remotes)
    remotes.command("remove")(remove)
    app.add_typer(remotes, name="remote")
    for command in (clone, fetch, pull, push):
        app.command()(command)


def add(
    name: Annotated[str, typer.Argument(help="A short name for it, such as origin.")],
    url: Url,
    project: Project = HERE,
    options: Options = None,
) -> None:
    """Remember another repository under a name."""
    from fedloom.cli.remotes import add_remote

    add_remote(project, name, url, options or [])


def list_remotes(project: Project = HERE, *, json: AsJson = False) -> None:
    """List remotes and their addresses."""
    from fedloom.cli.remotes import print_remotes

    print_remotes(project, as_json=json)


def remove(name: Annotated[str, typer.Argument(help="The remote to forget.")], project: Project = HERE) -> None:
    """Forget a remote; what was fetched from it stays."""
    from fedloom.cli.remotes import remove_remote

    remove_remote(project, name)


def clone(
    url: Url,
    folder: Annotated[
        Path | None, typer.Argument(help="Folder to make; named as the address ends when absent.")
    ] = None,
    only: Only = None,
    options: Options = None,
    *,
    json: AsJson = False,
) -> None:
    """Copy a repository into a new folder; `origin` is where it came from."""
    from fedloom.cli.remotes import clone_repository

    clone_repository(url, folder, only or [], options or [], as_json=json)


def fetch(remote: Remote = NO_REMOTE, project: Project = HERE, only: Only = None, *, json: AsJson = False) -> None:
    """Bring what is new at a remote; your branches stay where they are."""
    from fedloom.cli.remotes import fetch_from

    fetch_from(project, remote, only or [], as_json=json)


def pull(remote: Remote = NO_REMOTE, project: Project = HERE, only: Only = None, *, json: AsJson = False) -> None:
    """Fetch, then move the current branch forward to where it is at the remote."""
    from fedloom.cli.remotes import pull_from

    pull_from(project, remote, only or [], as_json=json)


def push(
    remote: Remote = NO_REMOTE,
    refs: Annotated[
        list[str] | None, typer.Argument(help="Branches or tags; the current branch when absent.", metavar="[REF]...")
    ] = None,
    project: Project = HERE,
    only: Only = None,
    *,
    tags: Annotated[bool, typer.Option("--tags", help="Send the tags of all these commits too.")] = False,
    materialized: Annotated[
        bool, typer.Option("--materialized", help="Compute and send tensors that a recipe stands for.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Send branches to a remote, as far as it lacks them."""
    from fedloom.cli.remotes import push_to
    from fedloom.versions.remotes.sync import Pushing

    what = Pushing(tuple(refs or ()), tuple(only or ()), tags=tags, materialized=materialized)
    push_to(project, remote, what, as_json=json)
