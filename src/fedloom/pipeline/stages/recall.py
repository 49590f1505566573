"""recall: the hub asks a site for an update it sent in an earlier round and kept; only where its receipt promised it.

Rules: the update is asked for by its id and must have that id; it leaves through the outbox like any other message.
The hub uses it and forgets it: a promise is that the site keeps the bytes, not the hub.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fedloom.engine.wire import Message
from fedloom.errors import NotFoundError, SiteDataError, WireError
from fedloom.pipeline.context import HubContext, SiteContext
from fedloom.pipeline.exchange import Exchange, prefixed, taken, task
from fedloom.pipeline.stages.stage import renamed
from fedloom.values import Digest, Tensors, layout
from fedloom.versions.objects import Entry, encode_tree, named

VERB = "recall"


def recall_site(context: SiteContext, asked: Message) -> Message:
    """Find an update this site kept."""
    id_ = Digest(bytes(asked.tensors["update"]).hex())
    update = context.kept.find(id_) if context.kept else None
    if update is None:
        raise SiteDataError(f"this site does not keep its update {id_[:12]} (any more)")
    return Message(asked.verb, asked.round, {}, prefixed("model", update))


def recall(context: HubContext, commit: Digest, site: str) -> Tensors:
    """Give the update of a site in a round, asking the site for it where it promised to keep it; nothing is stored.

    Raises NotFoundError when there is no such receipt, or the site cannot give it; WireError when it gives another.
    """
    repository = context.repository
    receipts = _entries(context, commit, "receipts")
    if site not in receipts:
        raise NotFoundError(f"commit {commit[:12]} has no receipt of {site}: it did not take part in that round")
    wanted = receipts[site]
    if wanted.keep == "stored":
        return repository.tensors(wanted.id)
    if wanted.keep == "opaque":
        todo = "set `keep_updates: sites` or `hub` before a run to be able to; for this one use another --method"
        raise NotFoundError(f"the update of {site} in {commit[:12]} was kept by nobody: {todo}")
    expects = renamed("model", layout(repository.model(commit)))
    asked = Message(VERB, 0, {}, {"update": np.frombuffer(bytes.fromhex(wanted.id), np.uint8)})
    exchange = Exchange(context.engine, task(asked), [site], expects)
    for _, reply in exchange:
        update = taken("model", reply.tensors)
        if encode_tree(named(update)).id != wanted.id:
            raise WireError(
                f"site {site} sent another update than the one it promised in {commit[:12]}: ask its steward"
            )
        return update
    raise NotFoundError(f"the update of {site} in {commit[:12]}: {exchange.outcomes[0][2]}")


def _entries(context: HubContext, commit: Digest, part: str) -> Mapping[str, Entry]:
    entry = context.repository.part(commit, part)
    return context.repository.tree(entry.id) if entry else {}
