"""Commands of lines of history: branch, switch, tag, protect, diff."""

from __future__ import annotations

from typing import Annotated

import typer

from fedloom.cli.commands.options import HERE, AsJson, Project

Start = Annotated[str | None, typer.Argument(help="A ref, an id, or REF~2; the current branch's tip when absent.")]
Delete = Annotated[bool, typer.Option("--delete", help="Delete it; the reflog keeps where it was.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (branch, switch, tag, protect, diff):
        app.command()(command)


def branch(
    name: Annotated[str | None, typer.Argument(help="Branch to make; all are listed when absent.")] = None,
    start: Start = None,
    project: Project = HERE,
    *,
    delete: Delete = False,
    force: Annotated[bool, typer.Option("--force", help="Delete it though nothing else has its commits.")] = False,
    json: AsJson = False,
) -> None:
    """List branches, make one, or delete one."""
    from fedloom.cli.branches import delete_branch, list_branches, make_branch

    if delete and name and not start:
        delete_branch(project, name, force=force, as_json=json)
    elif delete or force:
        raise typer.BadParameter("--delete takes one NAME, and --force goes with --delete")
    elif name:
        make_branch(project, name, start, as_json=json)
    else:
        list_branches(project, as_json=json)


def switch(
    name: Annotated[str, typer.Argument(help="Branch that `run`, `merge` and `revert` shall move.")],
    start: Start = None,
    project: Project = HERE,
    *,
    create: Annotated[bool, typer.Option("-c", "--create", help="Make the branch first.")] = False,
    json: AsJson = False,
) -> None:
    """Make a branch the current one."""
    from fedloom.cli.branches import switch_branch

    if start and not create:
        raise typer.BadParameter("START goes with -c, which makes a new branch")
    switch_branch(project, name, start, create=create, as_json=json)


def tag(
    name: Annotated[str | None, typer.Argument(help="Tag to make; all are listed when absent.")] = None,
    start: Start = None,
    project: Project = HERE,
    *,
    delete: Delete = False,
    json: AsJson = False,
) -> None:
    """List tags, name a commit for good, or delete a tag."""
    from fedloom.cli.branches import delete_tag, list_tags, make_tag

    if delete and name and not start:
        delete_tag(project, name, as_json=json)
    elif delete:
        raise typer.BadParameter("--delete takes one NAME")
    elif name:
        make_tag(project, name, start, as_json=json)
    else:
        list_tags(project, as_json=json)


def protect(
    name: Annotated[
        str | None, typer.Argument(help="Branch or tag; the protected refs are listed when absent.")
    ] = None,
    project: Project = HERE,
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Take the protection away.")] = False,
    json: AsJson = False,
) -> None:
    """Let a ref take no open conflict and no merge that its gate has not passed."""
    from fedloom.cli.branches import list_protected, protect_ref

    if name:
        protect_ref(project, name, remove=remove, as_json=json)
    elif remove:
        raise typer.BadParameter("--remove takes a NAME")
    else:
        list_protected(project, as_json=json)


def diff(
    old: Annotated[str, typer.Argument(help="The older commit: a ref, an id, or REF~2.")],
    new: Annotated[str | None, typer.Argument(help="The newer one; the current branch when absent.")] = None,
    project: Project = HERE,
    *,
    tensors: Annotated[bool, typer.Option("--tensors", help="Measure the change of every tensor.")] = False,
    json: AsJson = False,
) -> None:
    """Show what differs between two commits: model, settings by key, facts."""
    from fedloom.cli.diff import print_diff

    print_diff(project, old, new, tensors=tensors, as_json=json)
