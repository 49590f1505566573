"""Commands of the main job: init, schema, plan, run, log, show, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedloom.cli.commands.options import HERE, AsJson, NameOrNewest, Project, Rounds, Seed, Sites


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (init, schema, plan, run, log, show, report):
        app.command()(command)


def init(folder: Annotated[Path, typer.Argument(help="Folder to create.")]) -> None:
    """Write a small, commented, working project."""
    from fedloom.cli.project import init_project

    init_project(folder)


def schema() -> None:
    """Print the JSON Schema of pipeline.yaml, for editors."""
    from fedloom.cli.project import print_schema

    print_schema()


def plan(
    project: Project = HERE, rounds: Rounds = None, seed: Seed = None, sites: Sites = "", *, json: AsJson = False
) -> None:
    """Show what will run, where, and what leaves each site; nothing runs."""
    from fedloom.cli.run import Overrides, print_plan

    raise typer.Exit(print_plan(project, Overrides.typed(rounds, seed, sites), as_json=json))


def run(  # noqa: PLR0913  each is an option
    project: Project = HERE,
    rounds: Rounds = None,
    seed: Seed = None,
    sites: Sites = "",
    *,
    start: Annotated[str | None, typer.Option("--from", help="Train on from this ref or commit.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the newest run where it stopped.")] = False,
    engine: Annotated[str, typer.Option(help="inprocess, or flower-sim (extra: flower).")] = "inprocess",
    workers: Annotated[int, typer.Option(min=1, help="Sites that work at the same time.")] = 2,
    processes: Annotated[bool, typer.Option("--processes", help="Workers are processes, not threads.")] = False,
    scenario: Annotated[Path | None, typer.Option(help="File of faults to inject, by round.")] = None,
    json: AsJson = False,
) -> None:
    """Run the pipeline; ends with the commit id and where the model is."""
    from fedloom.cli.run import Overrides, RunOptions, run_pipeline

    options = RunOptions(engine, workers, "processes" if processes else "threads", scenario, start, resume, json)
    raise typer.Exit(run_pipeline(project, Overrides.typed(rounds, seed, sites), options))


def log(
    name: NameOrNewest = None,
    project: Project = HERE,
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


def show(name: NameOrNewest = None, project: Project = HERE, *, json: AsJson = False) -> None:
    """Show one round: who took part, what it measured, what it was made from."""
    from fedloom.cli.history import print_commit

    print_commit(project, name, as_json=json)


def report(
    name: NameOrNewest = None,
    project: Project = HERE,
    html: Annotated[Path, typer.Option("--html", help="File to write.")] = Path("report.html"),
) -> None:
    """Write a readable report of a run as one HTML file."""
    from fedloom.cli.history import write_report

    write_report(project, name, html)
