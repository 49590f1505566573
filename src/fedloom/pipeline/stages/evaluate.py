"""evaluate: every round's model is measured at every site on its held-out rows; the last one beside baselines.

Two baselines: `local` trains each site alone (as long as the federation did) and measures it at home and at every
other site; `pooled` trains one model on all rows, which only a simulation can do. The comparison names the sites
that would be better off alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedloom.engine import wire
from fedloom.engine.wire import Message
from fedloom.errors import RoundFailedError
from fedloom.pipeline import features
from fedloom.pipeline.context import HubContext, SiteContext, training
from fedloom.pipeline.exchange import ERROR, Exchange, prefixed, taken, task
from fedloom.pipeline.participation import Verdict, judge, listed
from fedloom.pipeline.stages.stage import Artifacts, Draft, Leaving, SiteHalf, renamed
from fedloom.telemetry import metrics
from fedloom.telemetry.metrics import Metrics
from fedloom.values import Tensors, generator, layout

VERB = "evaluate"
LOCAL = "local"
POOLED = "*"
"""Whom a simulation asks for the pooled baseline; no site can have this name."""
EVALUATION = "evaluation"
"""Attestation that holds the comparison with the baselines."""
AT_A_TIME = 4
"""Local models held at the same time, so that memory does not grow with the sites."""

CROSS_LIMIT = 20
"""Up to this many sites, each local model is measured at every site; beyond, only at home (it grows as sites^2)."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One model, measured: rows of all sites pooled, and each site on its own."""

    pooled: Metrics = field(default_factory=dict)
    sites: Mapping[str, Metrics] = field(default_factory=dict)
    verdict: Verdict = field(default_factory=lambda: Verdict("complete", ()))
    bytes_up: int = 0
    bytes_down: int = 0

    def as_json(self) -> dict[str, Any]:
        """Turn into plain JSON, for a commit."""
        per_site = {site: dict(found) for site, found in self.sites.items()}
        return {
            "pooled": dict(self.pooled),
            "unweighted": dict(metrics.unweighted(self.sites)),
            "sites": per_site,
        }


class Evaluate:
    """The stage."""

    name = "evaluate"
    needs: Artifacts = ("model",)
    uses: Artifacts = ()
    makes: Artifacts = ("metrics",)

    def answers(self) -> Mapping[str, SiteHalf]:
        """Answer `evaluate` and `local`."""
        return {VERB: evaluate_site, LOCAL: train_alone}

    def leaving(self, draft: Draft) -> Iterator[Leaving]:
        """Leave score counts and sums every round; with baselines, a model trained alone too."""
        stats = metrics.statistics_layout(draft.task, draft.outputs)
        yield from Leaving.each_round(self.name, f"{draft.task} score counts and sums", VERB, stats, draft.spec.rounds)
        settings = draft.spec.stages.evaluate
        if settings and LOCAL in settings.baselines:
            specs = (*renamed("model", draft.model), *renamed("scaling", draft.scaling))
            yield Leaving.of(self.name, "baseline: model trained alone, its scaling", Message(LOCAL, 0), specs)
        extra = _baseline_evaluations(draft.spec.stages.evaluate, len(draft.spec.sites))
        if extra:
            yield Leaving.of(self.name, "baseline: score counts and sums", Message(VERB, 0), stats, extra)

    def run(self, context: HubContext) -> str:
        """Compare the run's last model with the baselines and attest the result."""
        assert context.run is not None
        repository, tip = context.repository, context.run.tip
        found = dict(repository.commit(tip).facts["metrics"])
        settings = context.spec.stages.evaluate
        names = settings.baselines if settings else ()
        body: dict[str, Any] = {"federated": found}
        if "pooled" in names:
            body["pooled"] = _pooled_baseline(context).as_json()
        if LOCAL in names:
            body.update(_local_baselines(context, found["sites"]))
        repository.attest(tip, EVALUATION, body)
        context.evaluation = body
        return summary(context.learner.task, body)


def measure(
    context: HubContext, model: Tensors, scaling: Tensors, number: int, sites: Sequence[str] | None = None
) -> Evaluation:
    """Measure a model at sites and pool the figures; nothing when the pipeline has no evaluate stage."""
    if context.spec.stages.evaluate is None:
        return Evaluation()
    asked = task(Message(VERB, number, {}, {**prefixed("model", model), **prefixed("scaling", scaling)}))
    expects = metrics.statistics_layout(context.learner.task, features.outputs(context.contract))
    exchange = Exchange(context.engine, asked, sites or context.sites, expects, context.spec.participation.deadline)
    total: Tensors = {}
    per_site: dict[str, Metrics] = {}
    for site, reply in exchange:
        per_site[site] = metrics.metrics(context.learner.task, reply.tensors)
        total = metrics.add(total, reply.tensors)
    verdict = judge(context.spec.participation, exchange.outcomes, context.rows)
    if verdict.status == "failed":
        raise RoundFailedError(f"evaluation in round {number} failed: {verdict.describe()}")
    pooled = metrics.metrics(context.learner.task, total)
    return Evaluation(pooled, per_site, verdict, exchange.total_up, exchange.total_down)


def primary(task_kind: str) -> str:
    """Name the metric that comparisons and summaries go by."""
    return "rmse" if task_kind == "regression" else "accuracy"


def summary(task_kind: str, body: Mapping[str, Any]) -> str:
    """Say in one sentence how the federated model stands beside its baselines."""
    names = ("rmse",) if task_kind == "regression" else ("accuracy", "auc")
    told = [f"federated {_figures(body['federated']['pooled'], names)}"]
    if "pooled" in body:
        told.append(f"pooled {_figures(body['pooled']['pooled'], names)}")
    if LOCAL in body and "worse_off" not in body:
        told.append("alone: not compared, a site is missing")
    if "local_everywhere" in body:
        told.append(f"alone on everybody {_figures(body['local_everywhere']['mean'], names)}")
    compared = f"{' / '.join(names)}: {', '.join(told)}"
    if "worse_off" not in body:
        return compared
    return f"{compared}; better off alone: {listed(body['worse_off']) or 'nobody'}"


def evaluate_site(context: SiteContext, asked: Message) -> Message:
    """Measure the model in the task on this site's held-out rows."""
    rows = context.examples("test", taken("scaling", asked.tensors))
    predicted = context.learner.predict(taken("model", asked.tensors), rows.features)
    return Message(asked.verb, asked.round, {}, metrics.statistics(context.learner.task, predicted, rows.labels))


def train_alone(context: SiteContext, asked: Message) -> Message:
    """Train from the initial model on this site's rows only, as many passes as the federation made."""
    spec, own = context.spec, features.scaling(features.moments(context.parts.train.features))
    rows = features.standardize(context.parts.train, own)
    start = context.learner.initial_parameters(
        rows.features.shape[1], features.outputs(context.contract), generator(spec.seed, "initial")
    )
    passes = int(asked.tensors["rounds"])
    model = context.learner.fit(start, rows, training(spec, 0.0, passes), generator(spec.seed, LOCAL, context.name))
    return Message(asked.verb, asked.round, {}, {**prefixed("model", model), **prefixed("scaling", own)})


def _baseline_evaluations(settings: Any, sites: int) -> int:
    if settings is None:
        return 0
    local = (sites if sites <= CROSS_LIMIT else 1) if LOCAL in settings.baselines else 0
    return local + ("pooled" in settings.baselines)


def _local_task(context: HubContext) -> Message:
    return Message(LOCAL, 0, {}, {"rounds": np.array(context.spec.rounds)})


def _pooled_baseline(context: HubContext) -> Evaluation:
    assert context.pooled is not None, "the plan refuses this baseline where nobody holds all rows"
    reply = wire.decode(context.pooled.handle(POOLED, wire.encode(_local_task(context))))
    if reply.verb == ERROR:
        raise RoundFailedError(f"the pooled baseline failed: {reply.body['reason']}. The run itself is committed")
    return measure(context, taken("model", reply.tensors), taken("scaling", reply.tensors), 0)


def _local_baselines(context: HubContext, federated: Mapping[str, Metrics]) -> dict[str, Any]:
    cross = len(context.sites) <= CROSS_LIMIT
    found: dict[str, Evaluation] = {}
    for start in range(0, len(context.sites), AT_A_TIME):
        models = _train_alone(context, context.sites[start : start + AT_A_TIME])
        found |= {site: measure(context, *models[site], 0, None if cross else [site]) for site in models}
        del models  # before the next are trained
    at_home = {site: dict(evaluation.sites[site]) for site, evaluation in found.items() if site in evaluation.sites}
    metric = primary(context.learner.task)
    body: dict[str, Any] = {"local": {"sites": at_home, "unweighted": dict(metrics.unweighted(at_home))}}
    everybody = set(context.sites)  # where a site is missing, figures of unequal rows are not set beside each other
    if everybody <= set(at_home) & set(federated):
        body["worse_off"] = sorted(s for s in at_home if _better(metric, at_home[s], federated[s]))
    if cross and all(everybody <= set(evaluation.sites) for evaluation in found.values()) and everybody <= set(found):
        everywhere = {site: dict(evaluation.pooled) for site, evaluation in found.items()}
        body["local_everywhere"] = {"models": everywhere, "mean": dict(metrics.unweighted(everywhere))}
    return body


def _train_alone(context: HubContext, sites: Sequence[str]) -> dict[str, tuple[Tensors, Tensors]]:
    """Let sites train alone; give each one's model and scaling."""
    assert context.run is not None
    specs = layout(context.repository.model(context.run.tip))
    expects = (*renamed("model", specs), *renamed("scaling", layout(context.scaling)))
    exchange = Exchange(context.engine, task(_local_task(context)), sites, expects)
    return {site: (taken("model", m.tensors), taken("scaling", m.tensors)) for site, m in exchange}


def _better(metric: str, one: Metrics, other: Metrics) -> bool:
    a, b = one.get(metric), other.get(metric)
    if a is None or b is None:
        return False
    return a > b if metrics.HIGHER_IS_BETTER[metric] else a < b


def _figures(found: Metrics, names: Sequence[str]) -> str:
    values = [found.get(name) for name in names]
    return " / ".join("–" if value is None else f"{value:.3f}" for value in values)
