"""`fedloom plan` and `fedloom run`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedloom.cli.output import bytes_text, console, print_json
from fedloom.cli.watching import exit_code, watcher
from fedloom.engine.inprocess import WorkerKind
from fedloom.engine.scenario import Scenario
from fedloom.errors import EXIT_OK, EXIT_REFUSED, SpecError, nearest
from fedloom.local.federation import ENGINES, Workers, plan_local, run_local
from fedloom.pipeline.plan import Plan
from fedloom.pipeline.spec import read_scenario
from fedloom.versions.repository import Repository


@dataclass(frozen=True)
class Overrides:
    """What is typed instead of the file's."""

    rounds: int | None
    seed: int | None
    sites: tuple[str, ...]

    @classmethod
    def typed(cls, rounds: int | None, seed: int | None, sites: str | None) -> Overrides:
        """Read the options; `sites` is a list by comma, None where the option was not given."""
        globs = tuple(glob.strip() for glob in (sites or "").split(",") if glob.strip())
        if sites is not None and not globs:
            raise SpecError("--sites names no site: give names or globs by comma, or leave it out for all")
        return cls(rounds, seed, globs)

    def plan(self, folder: Path) -> Plan:
        """Plan the project in a folder so."""
        return plan_local(folder, rounds=self.rounds, seed=self.seed, sites=self.sites)


@dataclass(frozen=True)
class RunOptions:
    """How to run, as typed."""

    engine: str
    workers: int
    kind: WorkerKind
    scenario: Path | None
    start: str | None
    resume: bool
    json: bool


def print_plan(folder: Path, overrides: Overrides, *, as_json: bool) -> int:
    """Print a plan; the exit code says whether it can run."""
    plan = overrides.plan(folder)
    if as_json:
        print_json(_plan_json(plan))
    else:
        _plan_tables(plan, console())
    return EXIT_REFUSED if plan.refusals else EXIT_OK


def run_pipeline(folder: Path, overrides: Overrides, options: RunOptions) -> int:
    """Run a pipeline while somebody watches."""
    if options.engine not in ENGINES:
        raise SpecError(f"no engine '{options.engine}'; {nearest(options.engine, ENGINES)}")
    if options.start and options.resume:
        raise SpecError("give either --from or --resume: a run that is resumed goes on from its own last round")
    plan = overrides.plan(folder)
    start = Repository.at(folder).resolve(options.start) if options.start else None
    faults = read_scenario(options.scenario, frozenset(plan.spec.sites)) if options.scenario else Scenario()
    for note in plan.notes:
        typer.echo(f"note: {note}", err=True)
    watch = watcher(as_json=options.json)
    workers = Workers(options.workers, options.kind)
    try:
        finished = run_local(
            plan,
            watch,
            engine=options.engine,
            workers=workers,
            scenario=faults,
            resume=options.resume,
            start=start,
        )
    except KeyboardInterrupt:
        watch.close()
        typer.echo("interrupted: every finished round is kept. Go on with `fedloom run --resume`", err=True)
        raise
    finally:
        watch.close()
    return exit_code(finished)


def _plan_json(plan: Plan) -> dict[str, object]:
    stages = [{"stage": s.name, "needs": s.needs, "uses": s.uses, "makes": s.makes} for s in plan.order]
    return {
        "pipeline": plan.spec.name,
        "rounds": plan.spec.rounds,
        "seed": plan.spec.seed,
        "sites": dict(sorted(plan.spec.sites.items())),
        "stages": stages,
        "model": {"parameters": _parameters(plan), "bytes": plan.model_bytes},
        "leaves_each_site": [asdict(line) for line in plan.leaving],
        "refused": plan.refusals,
        "notes": plan.notes,
    }


def _plan_tables(plan: Plan, out: Console) -> None:
    spec = plan.spec
    out.print(Text.assemble((spec.name, "bold"), f": {spec.purpose}"))
    out.print(f"{len(spec.sites)} sites: {', '.join(sorted(spec.sites))}")
    for note in plan.notes:
        out.print(Text(f"note: {note}", style="yellow"))
    out.print(f"{spec.rounds} rounds, seed {spec.seed}, {spec.learner.use} learner, {spec.strategy.use}")
    out.print(f"model: {_parameters(plan):,} parameters, {bytes_text(plan.model_bytes)}\n")
    stages = Table("stage", "needs", "makes", box=None, pad_edge=False, header_style="dim")
    for stage in plan.order:
        stages.add_row(stage.name, ", ".join((*stage.needs, *stage.uses)) or "–", ", ".join(stage.makes))
    out.print(stages)
    if plan.refusals:
        out.print(Text.assemble(("\nrefused", "bold red"), f", nothing will run: {len(plan.refusals)} reasons"))
        for reason in plan.refusals:
            out.print(f"  {reason}")
        return
    out.print("\nwhat leaves each site:")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("stage", "what"):
        table.add_column(heading, overflow="fold")
    for heading in ("values", "bytes", "times", "epsilon"):
        table.add_column(heading, justify="right")
    for line in plan.leaving:
        epsilon = "unbounded" if line.epsilon is None else f"{line.epsilon:g}"
        table.add_row(
            line.stage,
            line.what,
            f"{line.values:,}",
            f"{line.nbytes:,}",
            f"{line.times}" if line.times else "on request",
            epsilon,
        )
    out.print(table)
    total = sum(line.nbytes * line.times for line in plan.leaving)
    out.print(f"{bytes_text(total)} in all from each site, findings aside. No noise is added, so epsilon is unbounded:")
    out.print("the hub sees every site's model and score counts in the clear. Nothing has run.")


def _parameters(plan: Plan) -> int:
    return sum(spec.size for spec in plan.model)
