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
    project: Project = HERE, rounds: Rounds = None, seed: Seed = None, sites: Sites = None, *, json: AsJson = False
) -> None:
    """Show what will run, where, and what leaves each site; nothing runs."""
    from fedloom.cli.run import Overrides, print_plan

    raise typer.Exit(print_plan(project, Overrides.typed(rounds, seed, sites), as_json=json))


def run(  # noqa: PLR0913  each is an option
    project: Project = HERE,
    rounds: Rounds = None,
    seed: Seed = None,
    sites: Sites = None,
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
    graph: Annotated[
        bool, typer.Option("--graph", help="Draw it: what a REF reaches, or all branches, tags and runs.")
    ] = False,
    all_rounds: Annotated[bool, typer.Option("--all-rounds", help="Draw every round, without folding.")] = False,
    site: Annotated[str | None, typer.Option(help="Only rounds in which this site took part.")] = None,
    refs: Annotated[bool, typer.Option("--refs", help="List branches, tags and runs instead.")] = False,
    reflog: Annotated[
        str | None, typer.Option(help="List every move of this ref instead, also a deleted one's.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Show the history of a run, newest round first."""
    from fedloom.cli.history import print_log, print_reflog, print_refs, print_site
    from fedloom.cli.log_graph import print_graph

    if sum((graph, site is not None, refs, reflog is not None)) > 1 or (all_rounds and not graph):
        raise typer.BadParameter("give one of --graph (with --all-rounds), --site, --refs and --reflog")
    if reflog is not None:
        print_reflog(project, reflog, as_json=json)
    elif refs:
        print_refs(project, as_json=json)
    elif graph:
        print_graph(project, name, all_rounds=all_rounds, as_json=json)
    elif site is not None:
        print_site(project, name, site, as_json=json)
    else:
        print_log(project, name, as_json=json)


def show(name: NameOrNewest = None, project: Project = HERE, *, json: AsJson = False) -> None:
    """Show one commit: who took part, what it measured, what it was made from, who signed it."""
    from fedloom.cli.show import print_commit

    print_commit(project, name, as_json=json)


def report(
    name: NameOrNewest = None,
    project: Project = HERE,
    html: Annotated[Path, typer.Option("--html", help="File to write.")] = Path("report.html"),
) -> None:
    """Write a readable report of a run as one HTML file."""
    from fedloom.cli.history import write_report

    write_report(project, name, html)
