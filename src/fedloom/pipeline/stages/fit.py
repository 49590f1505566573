"""fit: mean and standard deviation of every feature over all sites, from three sums a site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fedloom.engine.wire import Message
from fedloom.errors import RoundFailedError
from fedloom.pipeline import features
from fedloom.pipeline.context import HubContext, SiteContext, scope
from fedloom.pipeline.exchange import Exchange, task
from fedloom.pipeline.participation import judge
from fedloom.pipeline.stages.stage import Artifacts, Draft, Leaving, SiteHalf
from fedloom.values import Layout, Tensors, TensorSpec

VERB = "fit"


class FederatedFit:
    """The stage."""

    name = "fit"
    needs: Artifacts = ("data",)
    uses: Artifacts = ()
    makes: Artifacts = ("scaling",)

    def answers(self) -> Mapping[str, SiteHalf]:
        """Answer `fit`."""
        return {VERB: sums_of_site}

    def leaving(self, draft: Draft) -> Iterator[Leaving]:
        """Leave count, sum and sum of squares per feature; nothing when every site scales for itself."""
        if scope(draft.spec) == "global":
            what = f"count, sum, sum of squares of {draft.width} features"
            yield Leaving.of(self.name, what, Message(VERB, 0), _moments(draft.width))

    def run(self, context: HubContext) -> str:
        """Add up the sums of all sites and keep mean and scale for every later stage."""
        width = len(features.feature_names(context.contract))
        if scope(context.spec) != "global":
            how = "standardised by each site on its own" if scope(context.spec) == "site" else "taken as they are"
            return f"{width} features, {how}"
        deadline = context.spec.participation.deadline
        exchange = Exchange(context.engine, task(Message(VERB, 0)), context.sites, _moments(width), deadline)
        total: Tensors = {}
        for _, reply in exchange:
            total = {"moments": total["moments"] + reply.tensors["moments"]} if total else dict(reply.tensors)
        verdict = judge(context.spec.participation, exchange.outcomes, context.rows)
        if verdict.status == "failed":
            raise RoundFailedError(f"fit: {verdict.describe()}")
        context.fitted = verdict
        context.scaling, context.moments = features.scaling(total), total
        without = f", without {verdict.describe()}" if verdict.missing else ""
        return f"{width} features standardised over {len(verdict.answered)} sites{without}"


def _moments(width: int) -> Layout:
    return (TensorSpec("moments", "F64", (3, width)),)


def sums_of_site(context: SiteContext, asked: Message) -> Message:
    """Sum this site's training rows."""
    return Message(asked.verb, asked.round, {}, features.moments(context.parts.train.features))
