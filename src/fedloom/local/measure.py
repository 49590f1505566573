"""Measuring commits at every site of a project, and the verdict on one that recombines others.

Rules: candidate and parents are measured on the same held-out rows, each with its own preprocessing. The verdict is
attested on the candidate - `evaluation` and `gate`, as a run's - before anybody moves a protected ref to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedloom.errors import PlanError
from fedloom.local.federation import local_context, plan_local
from fedloom.pipeline.context import HubContext
from fedloom.pipeline.lineage import initial_model, scaling_of
from fedloom.pipeline.plan import Plan
from fedloom.pipeline.rules import Rule
from fedloom.pipeline.stages.contract import ContractCheck
from fedloom.pipeline.stages.evaluate import EVALUATION, Evaluation, measure, primary
from fedloom.pipeline.stages.gate import Gate, figures_of
from fedloom.telemetry.metrics import HIGHER_IS_BETTER, Metrics, worst
from fedloom.values import Digest, layout
from fedloom.versions.repository import Repository

_OF_A_RUN = ("participation", "worse_off")
_SHORT = 12


@dataclass(frozen=True)
class Measured:
    """What sites say of a candidate beside its parents, and whether it may take their place.

    rules: as in a gate's statement: `rule`, `value`, `holds`. evaluations: by commit, the candidate first.
    """

    metric: str
    candidate: Digest
    evaluations: Mapping[Digest, Evaluation]
    rules: tuple[Mapping[str, Any], ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether every rule holds."""
        return all(rule["holds"] for rule in self.rules)


def measure_commits(folder: Path, commits: Sequence[Digest], sites: Sequence[str] = ()) -> dict[Digest, Evaluation]:
    """Measure commits at the sites of the project in `folder`; gives what was found by commit.

    Raises PlanError when the project cannot measure them: no evaluate stage, or a model of other tensors.
    """
    context = local_context(_plan(folder, sites), lambda _: None)
    return context.engine.run(lambda: _measured(context, list(dict.fromkeys(commits))))


def _plan(folder: Path, sites: Sequence[str]) -> Plan:
    plan = plan_local(folder, sites=sites)
    plan.require()
    if plan.spec.stages.evaluate is None:
        raise PlanError("nothing can be measured without an `evaluate:` stage in pipeline.yaml: add it")
    return plan


def judge_candidate(folder: Path, sites: Sequence[str] = ()) -> Callable[[Digest, Sequence[Digest]], Measured]:
    """Give the judge of merges and reverts for a project: it measures, decides by `merge:` of the pipeline, attests.

    sites: whom to ask; all of the project's when empty.
    """

    def judge(candidate: Digest, parents: Sequence[Digest]) -> Measured:
        plan, repository = _plan(folder, sites), Repository.at(folder)
        head = repository.refs.get(f"heads/{repository.settings.read().branch}")
        against = list(dict.fromkeys([*parents, *([head] if head else [])]))  # a branch must not lose by what it takes
        evaluations = measure_commits(folder, [candidate, *against], sites)
        found = _judged(plan, candidate, against, evaluations)
        _attest(repository, found)
        return found

    return judge


def _measured(context: HubContext, commits: Sequence[Digest]) -> dict[Digest, Evaluation]:
    ContractCheck().run(context)
    wanted = layout(initial_model(context))
    found = {}
    for commit in commits:
        model = context.repository.model(commit)
        if layout(model) != wanted:
            raise PlanError(
                f"{commit[:_SHORT]} cannot be measured here: its model has other tensors than the learner's"
            )
        found[commit] = measure(context, model, scaling_of(context.repository, commit), 0)
    return found


def _judged(
    plan: Plan, candidate: Digest, parents: Sequence[Digest], evaluations: Mapping[Digest, Evaluation]
) -> Measured:
    wanted, task = plan.spec.merge, plan.learner.task
    metric = wanted.metric or primary(task)
    if metric not in HIGHER_IS_BETTER or any(metric not in found.pooled for found in evaluations.values()):
        raise PlanError(f"merge.metric: the sites report no '{metric}' for {task}")
    rules = [_not_worse(metric, wanted.epsilon, evaluations[candidate], [evaluations[parent] for parent in parents])]
    if wanted.floor is not None:
        rules.append(_floor(metric, wanted.floor, evaluations[candidate].sites))
    rules += _gate_rules(plan, evaluations[candidate])
    complete = all(found.verdict.status == "complete" for found in evaluations.values())
    rules.append({"rule": "every site measured", "value": "yes" if complete else "no", "holds": complete})
    return Measured(metric, candidate, evaluations, tuple(rules))


def _gate_rules(plan: Plan, candidate: Evaluation) -> list[dict[str, Any]]:
    """Hold the candidate to the figures the pipeline's own gate demands; those of a run alone do not apply."""
    texts = plan.spec.stages.gate.require if plan.spec.stages.gate else ()
    figures = figures_of({"federated": candidate.as_json()}, partial=False)
    rules = [rule for rule in map(Rule.parse, texts) if rule.figure not in _OF_A_RUN]
    return [{"rule": str(rule), "value": figures.get(rule.figure), "holds": rule.holds(figures)} for rule in rules]


def _not_worse(metric: str, epsilon: float, candidate: Evaluation, parents: Sequence[Evaluation]) -> dict[str, Any]:
    up, value = HIGHER_IS_BETTER[metric], candidate.pooled[metric]
    others = [figure for parent in parents if (figure := parent.pooled[metric]) is not None]
    if not others:
        return {"rule": f"{metric} is defined", "value": value, "holds": value is not None}
    bound = max(others) - epsilon if up else min(others) + epsilon
    rule = f"{metric} {'>=' if up else '<='} {bound:.4g} (best parent {'-' if up else '+'} {epsilon:g})"
    return {"rule": rule, "value": value, "holds": value is not None and (value >= bound if up else value <= bound)}


def _floor(metric: str, floor: float, sites: Mapping[str, Metrics]) -> dict[str, Any]:
    lowest = worst(sites, metric)
    if lowest is None:
        return {"rule": f"worst.{metric} within {floor:g}", "value": "undefined", "holds": False}
    up = HIGHER_IS_BETTER[metric]
    holds = lowest[1] >= floor if up else lowest[1] <= floor
    return {
        "rule": f"worst.{metric} {'>=' if up else '<='} {floor:g} ({lowest[0]})",
        "value": lowest[1],
        "holds": holds,
    }


def _attest(repository: Repository, found: Measured) -> None:
    own = found.evaluations[found.candidate].as_json()
    parents = {id_: one.as_json() for id_, one in found.evaluations.items() if id_ != found.candidate}
    repository.attest(found.candidate, EVALUATION, {"federated": own, "parents": parents})
    repository.attest(found.candidate, Gate.name, {"passed": found.passed, "rules": [dict(r) for r in found.rules]})
