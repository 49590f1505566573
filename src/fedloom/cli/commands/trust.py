"""Commands of trust: key, sign, trust, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedloom.cli.commands.options import HERE, AsJson, Project

Chosen = Annotated[
    str | None,
    typer.Argument(help="A ref (main, runs/3) or first digits of a commit id; the current branch when absent."),
]
Key = Annotated[Path, typer.Option("--key", help="File of the private key.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    keys = typer.Typer(no_args_is_help=True, help="Make keys to sign with.", rich_markup_mode=None)
    keys.callback()(_keys)
    keys.command()(create)
    app.add_typer(keys, name="key")
    for command in (sign, trust, verify):
        app.command()(command)


def _keys() -> None:
    """Make keys to sign with."""


def create(
    file: Annotated[Path, typer.Argument(help="File to write; an existing one is never overwritten.")],
    kind: Annotated[
        str, typer.Option(help="ed25519 to sign commits, p256 for `export bundle --model-signing`.")
    ] = "ed25519",
    public: Annotated[
        Path | None, typer.Option("--public", help="File for the public half, instead of FILE.pub.")
    ] = None,
    *,
    json: AsJson = False,
) -> None:
    """Make a private key that only you can read, and beside it the public half to hand out."""
    from fedloom.cli.trust import make_key

    make_key(file, public or file.with_name(f"{file.name}.pub"), kind, as_json=json)


def sign(
    key: Key,
    name: Chosen = None,
    project: Project = HERE,
    who: Annotated[str, typer.Option("--as", help="A name for readers; the name in `trust` when absent.")] = "",
    *,
    json: AsJson = False,
) -> None:
    """Sign a commit, and with it all of its history."""
    from fedloom.cli.trust import sign_commit

    sign_commit(project, name, key, who, as_json=json)


def trust(
    name: Annotated[str | None, typer.Argument(help="Whose key it is: a person, a hub or a site.")] = None,
    file: Annotated[Path | None, typer.Argument(help="File of the public key.")] = None,
    project: Project = HERE,
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Trust this name no longer.")] = False,
    show: Annotated[bool, typer.Option("--list", help="List who is trusted.")] = False,
    json: AsJson = False,
) -> None:
    """Say whose signatures count here."""
    from fedloom.cli.trust import add_trust, list_trust, remove_trust

    if name and remove and not file:
        remove_trust(project, name)
    elif name and file and not remove and not show:
        add_trust(project, name, file)
    elif not name and not remove:
        list_trust(project, as_json=json)
    else:
        raise typer.BadParameter("give NAME and FILE, or NAME and --remove, or --list")


def verify(
    name: Chosen = None,
    project: Project = HERE,
    depth: Annotated[int | None, typer.Option(min=1, help="Generations to look at, 1 for the commit alone.")] = None,
    require: Annotated[list[str] | None, typer.Option(help="A trusted name that must have signed; repeatable.")] = None,
    *,
    signed: Annotated[bool, typer.Option("--signed", help="Somebody trusted must have signed.")] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Then train the round again from its seeds.")] = False,
    whole_run: Annotated[bool, typer.Option("--whole-run", help="With --replay: all rounds of its run.")] = False,
    run_its_code: Annotated[
        bool, typer.Option("--run-its-code", help="With --replay: also a learner that is not the one in this project.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Check a commit and its history: every hash, parent, statement and signature; models are computed anew."""
    from fedloom.cli.trust import Demands, verify_commit

    if whole_run and not replay:
        raise typer.BadParameter("--whole-run says how much to --replay: give both")
    demands = Demands(depth, tuple(require or ()), signed)
    if replay:
        from fedloom.cli.replay import Again, verify_and_replay

        raise typer.Exit(verify_and_replay(project, name, demands, Again(whole_run, run_its_code), as_json=json))
    raise typer.Exit(verify_commit(project, name, demands, as_json=json))
