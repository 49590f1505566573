"""Running a plan: its stages in order, each telling what it did; the run is closed by an attestation."""

from __future__ import annotations

from time import monotonic
from typing import Any

from fedloom.pipeline import lineage, runs
from fedloom.pipeline.context import HubContext, Run
from fedloom.pipeline.events import RunFinished, RunStarted, StageFinished
from fedloom.pipeline.plan import Plan
from fedloom.versions.merge_landing import require_none_under_way


def run(plan: Plan, context: HubContext, *, resume: bool = False) -> RunFinished:
    """Run every stage inside the engine; with `resume`, the newest run goes on where it stopped.

    Raises what the first failing stage raises; what was committed before stays.
    """
    plan.require()
    if settings := context.spec.stages.register_:
        require_none_under_way(context.repository, settings.ref or context.repository.settings.read().branch)
    return context.engine.run(lambda: _stages(plan, context, resume=resume))


def _stages(plan: Plan, context: HubContext, *, resume: bool) -> RunFinished:
    for stage in plan.order:
        began = monotonic()
        if stage.name == "fit" and (resume or context.start):
            continue  # the commits it goes on from hold what was fitted
        if stage.name == "train":
            context.run = lineage.resume(context) if resume else lineage.start(context)
            context.emit(_started(context, context.run))
        summary = stage.run(context)
        if stage.name != "train":
            context.emit(StageFinished(stage.name, summary, monotonic() - began))
    assert context.run is not None
    finished = _finished(context, context.run)
    body: dict[str, Any] = {"status": finished.status, "rounds": context.run.round, "ref": context.run.name}
    context.repository.attest(context.run.tip, runs.closing(context.run.name), body)
    context.emit(finished)
    return finished


def _started(context: HubContext, at: Run) -> RunStarted:
    spec = context.spec
    return RunStarted(at.name, spec.name, context.sites, spec.rounds, spec.seed, context.engine.name, at.round)


def _finished(context: HubContext, at: Run) -> RunFinished:
    status = "partial-allowed" if at.partial else "complete"
    return RunFinished(at.name, at.tip, status, context.evaluation, context.model_file)
