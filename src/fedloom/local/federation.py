"""A whole federation on this machine: wires files, sites, engine and repository together for one run.

Rules: this is the only place that chooses adapters for a local run. Sites are still only reached through bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from fedloom.engine.inprocess import InProcessEngine, WorkerKind
from fedloom.engine.port import Engine
from fedloom.engine.scenario import Scenario
from fedloom.errors import FedloomError, SpecError
from fedloom.hub.export import export_model
from fedloom.learners.learner import Examples
from fedloom.pipeline.build import build_learner, code_digests, code_sources
from fedloom.pipeline.context import HubContext, SiteContext
from fedloom.pipeline.contract import read_contract
from fedloom.pipeline.events import Emit, RunFinished
from fedloom.pipeline.features import Parts
from fedloom.pipeline.plan import Plan, make_plan
from fedloom.pipeline.runner import run
from fedloom.pipeline.spec import FILE, PipelineSpec, read_spec
from fedloom.pipeline.stages.evaluate import POOLED
from fedloom.site.agent import SiteAgent
from fedloom.site.dataset import CsvData
from fedloom.site.kept import KeptUpdates
from fedloom.site.outbox import Outbox
from fedloom.telemetry.recorder import Recorder
from fedloom.values import Buffer, Digest
from fedloom.versions.content import Content
from fedloom.versions.repository import FOLDER, Repository
from fedloom.versions.store import Store

ENGINES = ("inprocess", "flower-sim")


@dataclass(frozen=True)
class Workers:
    """How many sites work at a time, and whether as threads or processes."""

    count: int = 2
    kind: WorkerKind = "threads"


@dataclass(frozen=True)
class PooledRows(SiteContext):
    """A site that holds the rows of all others: what the pooled baseline trains on."""

    members: tuple[SiteContext, ...] = ()

    @cached_property
    def parts(self) -> Parts:
        """All training rows as one table, in the order of the sites; nothing held out."""
        rows = [member.parts.train for member in self.members]
        features, labels = (
            np.concatenate([r.features for r in rows]),
            np.concatenate([r.labels for r in rows]),
        )
        return Parts(Examples(features, labels), Examples(features[:0], labels[:0]))


@dataclass(frozen=True)
class LocalSites:
    """The handler of a local engine: every site of a project, opened when first asked. Picklable: it holds a path."""

    folder: Path
    spec: PipelineSpec

    def handle(self, site: str, task: Buffer) -> Buffer:
        """Answer a task at one site; `pooled` is the site that holds all rows."""
        return (self._pooled if site == POOLED else self._agents[site]).answer(task)

    @cached_property
    def _agents(self) -> Mapping[str, SiteAgent]:
        contract = read_contract(self.folder / self.spec.contract)
        learner = build_learner(self.spec, read_spec(self.folder / FILE)[1], self.folder)
        # How many threads BLAS adds with decides the last bits of a sum. One everywhere, whatever the engine or the
        # machine would choose; after the learner is loaded, so that its libraries are reached as well.
        threadpool_limits(limits=1)
        return {
            name: SiteAgent(
                SiteContext(
                    name, self.spec, contract, learner, CsvData(self.folder / path, contract), self._kept(name)
                ),
                Outbox(site_folder(self.folder, name) / "outbox.jsonl"),
            )
            for name, path in self.spec.sites.items()
        }

    @cached_property
    def _pooled(self) -> SiteAgent:
        members = tuple(self._agents[name].context for name in sorted(self._agents))
        first = members[0]
        context = PooledRows("pooled", self.spec, first.contract, first.learner, first.data, members=members)
        return SiteAgent(context, Outbox(None))

    def _kept(self, name: str) -> KeptUpdates:
        return KeptUpdates(Content(Store.on_disk(site_folder(self.folder, name))))

    def __getstate__(self) -> dict[str, object]:
        """Carry the path and the settings to a worker process, not the opened sites."""
        return {"folder": self.folder, "spec": self.spec}


def site_folder(folder: Path, site: str) -> Path:
    """Where a site of a local project keeps its journal and, if it does, its updates."""
    return folder / FOLDER / "sites" / site


def plan_local(folder: Path, *, rounds: int | None = None, seed: int | None = None, sites: Sequence[str] = ()) -> Plan:
    """Plan a project whose sites are all on this machine; looks whether their files are there, not into them."""
    asked: dict[str, Any] = {"rounds": rounds, "seed": seed, "sites": sites, "pools_rows": True}
    plan = make_plan(folder, **asked)
    more = [problem for name in sorted(plan.spec.sites) for problem in _site_problem(plan, name)]
    return make_plan(folder, **asked, more=more) if more else plan


def run_local(
    plan: Plan,
    emit: Emit,
    *,
    engine: str = "inprocess",
    workers: Workers | None = None,
    scenario: Scenario | None = None,
    resume: bool = False,
    start: Digest | None = None,
) -> RunFinished:
    """Run a plan on this machine; raises FedloomError, and leaves what was committed before.

    start: the commit to go on from, instead of from the learner's initial model.
    """
    plan.require()
    making = _engine(engine, LocalSites(plan.folder, plan.spec), plan, workers or Workers(), scenario or Scenario())
    return run(plan, local_context(plan, emit, making, start=start), resume=resume)


def local_context(plan: Plan, emit: Emit, engine: Engine | None = None, *, start: Digest | None = None) -> HubContext:
    """Wire what the hub half of a stage needs for a project on this machine; the in-process engine by default."""
    folder, handler = plan.folder, LocalSites(plan.folder, plan.spec)
    repository = Repository.at(folder)
    return HubContext(
        spec=plan.spec,
        contract=plan.contract,
        learner=plan.learner,
        strategy=plan.strategy,
        code=code_digests(plan.spec, folder),
        sources=code_sources(plan.spec, folder),
        start=start,
        engine=engine or _engine(ENGINES[0], handler, plan, Workers(), Scenario()),
        repository=repository,
        recorder=Recorder(repository.store),
        emit=emit,
        export=_exporter(repository, folder, plan),
        pooled=handler,
    )


def _engine(name: str, handler: LocalSites, plan: Plan, workers: Workers, scenario: Scenario) -> Engine:
    if name == "inprocess":
        return InProcessEngine(handler, workers.count, workers.kind, scenario=scenario)
    if scenario.rounds:
        raise SpecError(f"a scenario needs the in-process engine; '{name}' cannot inject faults")
    from fedloom.engine.flower.hub_side import FlowerEngine

    return FlowerEngine(handler, sorted(plan.spec.sites), home=plan.folder / FOLDER / "flower")


def _exporter(repository: Repository, folder: Path, plan: Plan) -> Callable[[Digest], Path]:
    return lambda commit: export_model(repository, commit, folder / "models" / f"{plan.spec.name}.safetensors")


def _site_problem(plan: Plan, name: str) -> list[str]:
    data = CsvData(plan.folder / plan.spec.sites[name], plan.contract)
    try:
        path = data.path
    except FedloomError as error:
        return [f"site {name}: {error}"]
    return [] if path.is_file() else [f"site {name}: no file {path}: correct `source` in {data.adapter_path}"]
