"""Commands of upkeep: fsck, gc, erase."""

from __future__ import annotations

from typing import Annotated

import typer

from fedloom.cli.commands.options import HERE, AsJson, Project


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (fsck, gc, erase):
        app.command()(command)


def fsck(
    project: Project = HERE,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Look whether objects are there; do not read them.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Bring back from remotes what is missing or corrupt.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Check the whole repository: every stored object, every ref, and everything they lead to."""
    from fedloom.cli.upkeep import check_repository

    raise typer.Exit(check_repository(project, quick=quick, mend=repair, as_json=json))


def gc(
    project: Project = HERE,
    grace: Annotated[str, typer.Option(help="How long nothing must have led to an object: 0, 12h, 14d.")] = "14d",
    reflog: Annotated[
        str, typer.Option("--reflog-older-than", help="Where refs pointed before that is held no more: 0, 12h, 90d.")
    ] = "90d",
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed; change nothing.")] = False,
    json: AsJson = False,
) -> None:
    """Remove objects that nothing leads to: the first run condemns them, one after the grace removes them."""
    from fedloom.cli.upkeep import collect_garbage

    collect_garbage(project, grace, reflog, dry_run=dry_run, as_json=json)


def erase(  # noqa: PLR0913  each is an option
    name: Annotated[
        str | None, typer.Argument(help="An object's id or first digits; with --path, a commit (HEAD when absent).")
    ] = None,
    project: Project = HERE,
    path: Annotated[str, typer.Option("--path", help="What a commit has there and below: model/head.weight.")] = "",
    site: Annotated[str, typer.Option("--site", help="Whose updates; with --updates.")] = "",
    why: Annotated[str, typer.Option("--why", help="Why; kept in the tombstone for everybody to read.")] = "",
    who: Annotated[str, typer.Option("--who", help="Who erases; the user's name when absent.")] = "",
    *,
    updates: Annotated[bool, typer.Option("--updates", help="Every stored update of the site.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also what a protected ref's model needs.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; otherwise only say what would be erased.")] = False,
    json: AsJson = False,
) -> None:
    """Remove bytes for good and leave a tombstone that says who did it, when and why."""
    from fedloom.cli.upkeep import Erasure, erase_objects

    wanted = Erasure(name, path, site if updates else "", who, why, force=force, yes=yes)
    if bool(site) != updates or sum(map(bool, (path, site, name and not path))) != 1:
        raise typer.BadParameter("give an OBJECT, or --path PATH [COMMIT], or --site SITE --updates")
    raise typer.Exit(erase_objects(project, wanted, as_json=json))
