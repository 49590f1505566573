"""Commands of upkeep: fsck, gc, erase."""

from __future__ import annotations

from typing import Annotated

import typer

from fedloom.cli.commands.options import HERE, AsJson, Project


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (fsck,):
        app.command()(command)


def fsck(
    project: Project = HERE,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Look whether objects are there; do not read them.")] = False,
    json: AsJson = False,
) -> None:
    """Check the whole repository: every stored object, every ref, and everything they lead to."""
    from fedloom.cli.upkeep import check_repository

    raise typer.Exit(check_repository(project, quick=quick, as_json=json))
