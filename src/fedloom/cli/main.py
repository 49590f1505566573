"""The `fedloom` command: its verbs, and how errors become sentences and exit codes.

Heavy modules are imported inside the verbs, so that `fedloom --help` answers at once.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import click
import typer
import typer.core

from fedloom._version import __version__
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

Project = Annotated[Path, typer.Option("--project", "-C", help="Folder of the project.", show_default="here")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines, and nothing else.")]
NameOrNewest = Annotated[
    str | None, typer.Argument(help="A ref (main, runs/3) or first digits of a commit id; the newest run when absent.")
]
Rounds = Annotated[int | None, typer.Option("--rounds", min=1, help="Rounds, instead of the file's.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed, instead of the file's.")]
_HERE = Path()


@app.callback(invoke_without_command=True)
def _options(*, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="Folder to create.")]) -> None:
    """Write a small, commented, working project."""
    from fedloom.cli.project import init_project

    init_project(folder)


@app.command()
def schema() -> None:
    """Print the JSON Schema of pipeline.yaml, for editors."""
    from fedloom.cli.project import print_schema

    print_schema()


@app.command()
def plan(project: Project = _HERE, rounds: Rounds = None, seed: Seed = None, *, json: AsJson = False) -> None:
    """Show what will run, where, and what leaves each site; nothing runs."""
    from fedloom.cli.run import print_plan

    raise typer.Exit(print_plan(project, rounds, seed, as_json=json))


@app.command()
def run(
    project: Project = _HERE,
    rounds: Rounds = None,
    seed: Seed = None,
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the newest run where it stopped.")] = False,
    engine: Annotated[str, typer.Option(help="inprocess, or flower-sim (extra: flower).")] = "inprocess",
    workers: Annotated[int, typer.Option(min=1, help="Sites that work at the same time.")] = 2,
    processes: Annotated[bool, typer.Option("--processes", help="Workers are processes, not threads.")] = False,
    scenario: Annotated[Path | None, typer.Option(help="File of faults to inject, by round.")] = None,
    json: AsJson = False,
) -> None:
    """Run the pipeline; ends with the commit id and where the model is."""
    from fedloom.cli.run import RunOptions, run_pipeline

    options = RunOptions(engine, workers, "processes" if processes else "threads", scenario, resume, json)
    raise typer.Exit(run_pipeline(project, rounds, seed, options))


@app.command()
def log(
    name: NameOrNewest = None,
    project: Project = _HERE,
    *,
    refs: Annotated[bool, typer.Option("--refs", help="List branches and runs instead.")] = False,
    json: AsJson = False,
) -> None:
    """Show the history of a run, newest round first."""
    from fedloom.cli.history import print_log, print_refs

    if refs:
        print_refs(project, as_json=json)
    else:
        print_log(project, name, as_json=json)


@app.command()
def show(name: NameOrNewest = None, project: Project = _HERE, *, json: AsJson = False) -> None:
    """Show one round: who took part, what it measured, what it was made from."""
    from fedloom.cli.history import print_commit

    print_commit(project, name, as_json=json)


@app.command()
def report(
    name: NameOrNewest = None,
    project: Project = _HERE,
    html: Annotated[Path, typer.Option("--html", help="File to write.")] = Path("report.html"),
) -> None:
    """Write a readable report of a run as one HTML file."""
    from fedloom.cli.history import write_report

    write_report(project, name, html)


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
