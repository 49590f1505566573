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
from fedloom.pipeline.stages import recall
from fedloom.pipeline.stages.evaluate import Evaluation, measure
from fedloom.pipeline.stages.stage import ROWS, Artifacts, Draft, Leaving, SiteHalf, renamed
from fedloom.values import Contribution, Digest, Tensors, generator, layout
from fedloom.versions.merging.strategy import MergeResult
from fedloom.versions.objects import Commit, Entry, Input, Recipe, encode_tree, named
from fedloom.versions.recipes import fold_recipe

VERB = "train"
MATERIALIZED = 8
"""Every so many rounds the merged model itself is stored, where a recipe would do: it bounds what a read computes."""


class Train:
    """The stage."""

    name = "train"
    needs: Artifacts = ("data",)
    uses: Artifacts = ("scaling",)
    makes: Artifacts = ("model",)

    def answers(self) -> Mapping[str, SiteHalf]:
        """Answer `train`, and `recall` for an update of an earlier round."""
        return {VERB: train_site, recall.VERB: recall.recall_site}

    def leaving(self, draft: Draft) -> Iterator[Leaving]:
        """Leave the site's model after training and its number of training rows, every round."""
        specs = (*renamed("model", draft.model), ROWS)
        count = sum(spec.size for spec in draft.model)
        what = f"model after local training ({count:,} parameters), row count"
        yield from Leaving.each_round(self.name, what, VERB, specs, draft.spec.rounds)
        if draft.spec.keep_updates == "sites":
            earlier = "an update it kept, each time the hub recalls one"
            yield Leaving.of(self.name, earlier, Message(recall.VERB, 0), renamed("model", draft.model), times=0)

    def run(self, context: HubContext) -> str:
        """Run the rounds that are left."""
        run = context.run
        assert run is not None, "the runner starts or resumes it"
        for number in range(run.round + 1, context.spec.rounds + 1):
            _round(context, run, number)
        return f"{context.spec.rounds} rounds, run {run.name}, commit {run.tip[:12]}"


@dataclass
class _Fold:
    """Hands contributions to the strategy one by one; keeps a receipt of each and, where policy lets it, the bytes."""

    exchange: Exchange
    context: HubContext
    like: Mapping[str, Entry]
    receipts: dict[str, Entry] = field(default_factory=dict)
    inputs: list[Input] = field(default_factory=list)

    def __iter__(self) -> Iterator[Contribution]:
        for site, reply in self.exchange:
            tensors, weight = taken("model", reply.tensors), float(reply.tensors["rows"])
            self.receipts[site] = self._receipt(tensors)
            self.inputs.append(Input(site, self.receipts[site].id, weight))
            yield Contribution(site, tensors, weight)
            del reply, tensors

    def _receipt(self, tensors: Tensors) -> Entry:
        keep = self.context.spec.keep_updates
        if keep == "hub":
            return self.context.repository.add_tensors(tensors, self.like)
        return Entry("tree", encode_tree(named(tensors)).id, "promised" if keep == "sites" else "opaque")

    def recipe(self) -> Recipe:
        """Say how the merged model follows from the receipts."""
        strategy = self.context.spec.strategy
        return fold_recipe({"use": strategy.use, **strategy.options}, self.inputs)


def _round(context: HubContext, run: Run, number: int) -> None:
    began, clock = datetime.now(UTC), monotonic()
    state = run.unstored.state if run.unstored else context.repository.part_tensors(run.tip, "optimizer")
    asked = task(Message(VERB, number, {}, _base(context, run)))
    base = taken("model", wire.decode(asked.payload).tensors)  # (1) views of the task's bytes: one copy in memory
    expects = (*renamed("model", layout(base)), ROWS)
    exchange = Exchange(context.engine, asked, context.sites, expects, context.spec.participation.deadline)
    fold = _Fold(exchange, context, _entries(context, run.tip, "model"))
    merged = _merge(context, base, fold, state)  # (2)
    verdict = judge(context.spec.participation, exchange.outcomes, context.rows)  # (3)
    if verdict.status == "failed" or merged is None:
        facts = {"run": run.name, "round": number, "verdict": verdict.as_json(), "at": began.isoformat()}
        context.recorder.record(f"failed/{run.tip}-{number}", facts)
        raise RoundFailedError(f"round {number} of {run.name} failed: {verdict.describe()}")
    down, up, seconds = exchange.total_down, exchange.bytes_up, exchange.seconds
    receipts, recipe = fold.receipts, fold.recipe()
    del base, asked, exchange, fold, state  # the base and the last reply are not needed while the result is measured
    evaluation = measure(context, merged.tensors, context.scaling, number)  # (4)
    verdict = and_measured(verdict, evaluation.verdict)
    commit = _commit(context, run, number, merged, receipts, recipe, verdict, evaluation)  # (5)
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
    run.unstored = None if _stores_model(context, number) else merged
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
    receipts: Mapping[str, Entry],
    recipe: Recipe,
    verdict: Verdict,
    evaluation: Evaluation,
) -> Digest:
    repository = context.repository
    parts = dict(repository.tree(repository.commit(run.tip).tree))  # inputs and preprocessing stay
    parts["model"] = _add(context, run, number, "model", merged.tensors)
    parts["receipts"] = repository.add_tree(receipts)
    if merged.state:
        parts["optimizer"] = _add(context, run, number, "optimizer", merged.state)
    facts = {
        **lineage.facts(context),
        "round": number,
        "participation": verdict.as_json(),
        "metrics": evaluation.as_json(),
    }
    tree = repository.add_tree(parts)
    message = f"{context.spec.name}: round {number}"
    return repository.add_commit(Commit(tree.id, (run.tip,), "round", message, facts, recipe))


def _add(context: HubContext, run: Run, number: int, part: str, tensors: Tensors) -> Entry:
    """Store what was merged; where the hub keeps every update its name is enough, but for every eighth round."""
    if not _stores_model(context, number):
        return context.repository.name_tensors(tensors)
    return context.repository.add_tensors(tensors, _entries(context, run.tip, part))


def _stores_model(context: HubContext, number: int) -> bool:
    due = number % MATERIALIZED == 0 or number == context.spec.rounds
    return context.spec.keep_updates != "hub" or due


def _base(context: HubContext, run: Run) -> dict[str, Any]:
    model = run.unstored.tensors if run.unstored else context.repository.model(run.tip)
    scaling = prefixed("scaling", context.scaling)
    return {**prefixed("model", model), **scaling, "proximal_mu": np.array(context.strategy.proximal_mu)}


def _entries(context: HubContext, commit: Digest, part: str) -> Mapping[str, Entry]:
    entry = context.repository.part(commit, part)
    return context.repository.tree(entry.id) if entry else {}


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
    if context.kept is not None and context.spec.keep_updates == "sites":
        context.kept.keep(model)
    rows = np.array(float(len(examples)))
    return Message(asked.verb, asked.round, {}, {**prefixed("model", model), "rows": rows})
