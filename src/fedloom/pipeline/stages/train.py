"""train: sites train from the base commit, the hub merges; each round is one commit.

A round in five steps: (1) send the base model, (2) fold the contributions in site order, (3) judge who took part,
(4) measure the merged model at the sites, (5) commit and move the run's ref. A process killed anywhere before the
end of step 5 leaves the history at the round before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import numpy as np

from fedloom.engine import wire
from fedloom.engine.wire import Message
from fedloom.errors import RoundFailedError, SiteDataError
from fedloom.pipeline import lineage
from fedloom.pipeline.context import HubContext, Run, SiteContext, training
from fedloom.pipeline.events import RoundFinished
from fedloom.pipeline.exchange import Exchange, prefixed, taken, task
from fedloom.pipeline.participation import Verdict, and_measured, judge
from fedloom.pipeline.stages.evaluate import Evaluation, measure
from fedloom.pipeline.stages.stage import ROWS, Artifacts, Draft, Leaving, SiteHalf, renamed
from fedloom.values import Contribution, Digest, Tensors, generator, layout
from fedloom.versions.merging.strategy import MergeResult
from fedloom.versions.objects import Commit, Entry, Tree, encode_tensor, encode_tree

VERB = "train"


class Train:
    """The stage."""

    name = "train"
    needs: Artifacts = ("data",)
    uses: Artifacts = ("scaling",)
    makes: Artifacts = ("model",)

    def answers(self) -> Mapping[str, SiteHalf]:
        """Answer `train`."""
        return {VERB: train_site}

    def leaving(self, draft: Draft) -> Iterator[Leaving]:
        """Leave the site's model after training and its number of training rows, every round."""
        specs = (*renamed("model", draft.model), ROWS)
        count = sum(spec.size for spec in draft.model)
        what = f"model after local training ({count:,} parameters), row count"
        yield from Leaving.each_round(self.name, what, VERB, specs, draft.spec.rounds)

    def run(self, context: HubContext) -> str:
        """Run the rounds that are left."""
        run = context.run
        assert run is not None, "the runner starts or resumes it"
        for number in range(run.round + 1, context.spec.rounds + 1):
            _round(context, run, number)
        return f"{context.spec.rounds} rounds, run {run.name}, commit {run.tip[:12]}"


@dataclass
class _Fold:
    """Hands contributions to the strategy one by one, keeping a receipt of each and nothing else."""

    exchange: Exchange
    receipts: list[dict[str, Any]] = field(default_factory=list)

    def __iter__(self) -> Iterator[Contribution]:
        for site, reply in self.exchange:
            tensors, weight = taken("model", reply.tensors), float(reply.tensors["rows"])
            self.receipts.append({"site": site, "update": _tree_id(tensors), "weight": weight})
            yield Contribution(site, tensors, weight)
            del reply, tensors


def _round(context: HubContext, run: Run, number: int) -> None:
    began, clock = datetime.now(UTC), monotonic()
    state = _part(context, run.tip, "optimizer")
    asked = task(Message(VERB, number, {}, _base(context, run.tip)))
    base = taken("model", wire.decode(asked.payload).tensors)  # (1) views of the task's bytes: one copy in memory
    expects = (*renamed("model", layout(base)), ROWS)
    exchange = Exchange(context.engine, asked, context.sites, expects, context.spec.participation.deadline)
    fold = _Fold(exchange)
    merged = _merge(context, base, fold, state)  # (2)
    verdict = judge(context.spec.participation, exchange.outcomes, context.rows)  # (3)
    if verdict.status == "failed" or merged is None:
        facts = {"run": run.name, "round": number, "verdict": verdict.as_json(), "at": began.isoformat()}
        context.recorder.record(f"failed/{run.tip}-{number}", facts)
        raise RoundFailedError(f"round {number} of {run.name} failed: {verdict.describe()}")
    down, up, seconds = exchange.total_down, exchange.bytes_up, exchange.seconds
    receipts = fold.receipts
    del base, asked, exchange, fold, state  # the base and the last reply are not needed while the result is measured
    evaluation = measure(context, merged.tensors, context.scaling, number)  # (4)
    verdict = and_measured(verdict, evaluation.verdict)
    commit = _commit(context, run, number, merged, receipts, verdict, evaluation)  # (5)
    spent, total_up, total_down = (
        monotonic() - clock,
        sum(up.values()) + evaluation.bytes_up,
        down + evaluation.bytes_down,
    )
    record = {
        "began": began.isoformat(timespec="milliseconds"),
        "seconds": spent,
        "engine": context.engine.name,
        "bytes_down": total_down,
        "bytes_up": total_up,
        "sites": {site: {"seconds": seconds[site], "bytes_up": up[site]} for site in seconds},
    }
    context.recorder.record(commit, record)
    context.repository.refs.compare_and_set(run.name, run.tip, commit, f"round {number}")
    run.tip, run.round, run.partial = commit, number, run.partial or verdict.status != "complete"
    context.emit(RoundFinished(number, commit, verdict, evaluation.pooled, total_up, total_down, spent))


def _merge(context: HubContext, base: Tensors, fold: _Fold, state: Tensors) -> MergeResult | None:
    """Merge; None when too few contributions came for the strategy (the verdict then says who is missing)."""
    try:
        return context.strategy.merge(base, fold, state)
    except ValueError as error:
        if len(fold.receipts) < context.strategy.minimum:
            return None
        raise RoundFailedError(f"the contributions cannot be merged: {error}") from None


def _commit(
    context: HubContext,
    run: Run,
    number: int,
    merged: MergeResult,
    receipts: list[dict[str, Any]],
    verdict: Verdict,
    evaluation: Evaluation,
) -> Digest:
    repository = context.repository
    parts = dict(repository.tree(repository.commit(run.tip).tree))  # inputs and preprocessing stay
    parts["model"] = repository.add_tensors(merged.tensors)
    parts["receipts"] = repository.add_json(receipts)
    if merged.state:
        parts["optimizer"] = repository.add_tensors(merged.state)
    facts = {
        **lineage.facts(context),
        "round": number,
        "participation": verdict.as_json(),
        "metrics": evaluation.as_json(),
    }
    tree = repository.add_tree(parts)
    return repository.add_commit(Commit(tree.id, (run.tip,), "round", f"{context.spec.name}: round {number}", facts))


def _base(context: HubContext, tip: Digest) -> dict[str, Any]:
    model, scaling = prefixed("model", context.repository.model(tip)), prefixed("scaling", context.scaling)
    return {**model, **scaling, "proximal_mu": np.array(context.strategy.proximal_mu)}


def _part(context: HubContext, tip: Digest, name: str) -> Tensors:
    entry = context.repository.part(tip, name)
    return context.repository.tensors(entry.id) if entry else {}


def _tree_id(tensors: Tensors) -> Digest:
    """Name an update by the id its tree would have, without storing it."""
    return encode_tree(Tree({name: Entry("tensor", encode_tensor(array).id) for name, array in tensors.items()})).id


def train_site(context: SiteContext, asked: Message) -> Message:
    """Train on this site's rows from the model in the task."""
    examples = context.examples("train", taken("scaling", asked.tensors))
    if len(examples) == 0:
        raise SiteDataError("no training rows are left: see `split` and `fit.missing` in the pipeline")
    model = context.learner.fit(
        taken("model", asked.tensors),
        examples,
        training(context.spec, float(asked.tensors["proximal_mu"])),
        generator(context.spec.seed, VERB, asked.round, context.name),
    )
    rows = np.array(float(len(examples)))
    return Message(asked.verb, asked.round, {}, {**prefixed("model", model), "rows": rows})
