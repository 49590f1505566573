"""The `fedloom` command: its verbs, and how errors become sentences and exit codes.

Heavy modules are imported inside the commands, so that `fedloom --help` answers at once.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated, NoReturn

import click
import typer
import typer.core

from fedloom._version import __version__
from fedloom.cli.commands import basic, branches, interop, merging, remotes, trust, upkeep
from fedloom.errors import EXIT_INTERRUPTED, FedloomError

_EXIT_CODES = """
Exit codes: 0 done · 1 failed · 2 a file or option is wrong · 3 refused by plan, contract or gate · 4 not found ·
5 conflict · 6 done, but at least one round was partial · 130 interrupted
"""

typer.core.HAS_RICH = False  # its framed help takes longer to import than everything else `--help` needs

app = typer.Typer(
    name="fedloom",
    help="DevOps for federated learning: describe a federation in one file, run it, prove what happened.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _options(*, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


for _topic in (basic, branches, merging, trust, interop, remotes, upkeep):
    _topic.register(app)


def main() -> None:
    """Run the command line; errors meant for a person end in one sentence and their exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(standalone_mode=False)
    except FedloomError as error:
        _complain(str(error))
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = EXIT_INTERRUPTED
    sys.exit(code)


def _interrupt(*_: object) -> NoReturn:
    """End after SIGTERM as cleanly as after Ctrl-C, also where the shell has SIGINT ignored."""
    raise KeyboardInterrupt


def _complain(text: str) -> None:
    lines = text.splitlines()
    typer.echo(f"error: {lines[0]}" if len(lines) == 1 else f"{len(lines)} errors:", err=True)
    for line in lines if len(lines) > 1 else ():
        typer.echo(f"  {line}", err=True)
