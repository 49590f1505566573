"""contract: every site checks its own table against the data contract; the hub hears counts and digests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict

import numpy as np

from fedloom.engine.wire import Message
from fedloom.errors import SiteDataError
from fedloom.pipeline.checks.catalog import CHECKS
from fedloom.pipeline.checks.check import Finding
from fedloom.pipeline.context import HubContext, SiteContext
from fedloom.pipeline.exchange import Exchange, task
from fedloom.pipeline.spec import ContractStage
from fedloom.pipeline.stages.stage import ROWS, Artifacts, Draft, Leaving, SiteHalf
from fedloom.values import Digest, TensorSpec

VERB = "contract"
_COUNTS = (ROWS, TensorSpec("training_rows", "F64", ()), TensorSpec("used_rows", "F64", ()))
_DIGESTS = ("adapter", "data")
_NO_DIGEST = "0" * 64


class ContractCheck:
    """The stage."""

    name = "contract"
    needs: Artifacts = ()
    uses: Artifacts = ()
    makes: Artifacts = ("data",)

    def answers(self) -> Mapping[str, SiteHalf]:
        """Answer `contract`."""
        return {VERB: check_site}

    def leaving(self, draft: Draft) -> Iterator[Leaving]:  # noqa: ARG002  the same for every pipeline
        """Leave the number of rows, two digests, and findings (names and counts) where there are any."""
        body = {"digests": dict.fromkeys(_DIGESTS, _NO_DIGEST), "findings": []}
        reply = Message(VERB, 0, body)
        yield Leaving.of(self.name, "row counts, digests of data and adapter; findings come on top", reply, _COUNTS)

    def run(self, context: HubContext) -> str:
        """Ask every site; stop when one refuses or cannot read its data."""
        exchange = Exchange(context.engine, task(Message(VERB, 0)), context.sites, _COUNTS)
        refused: list[str] = []
        held = used = 0
        for site, reply in exchange:
            context.rows[site] = float(reply.tensors["training_rows"])
            held += int(reply.tensors["rows"])
            used += int(reply.tensors["used_rows"])
            try:
                context.site_inputs[site] = {name: Digest(str(reply.body["digests"][name])) for name in _DIGESTS}
                findings = [Finding(**found) for found in reply.body["findings"]]
            except (KeyError, TypeError):
                refused.append(f"site {site}: its answer cannot be read: both ends must run the same fedloom")
                continue
            refused += [f"site {site}: {found.message}" for found in findings if found.severity == "refuse"]
            context.notes += [{"site": site, "note": f.message} for f in findings if f.severity == "note"]
        refused += [f"site {site}: {reason}" for site, status, reason in exchange.outcomes if status != "answered"]
        if refused:
            raise SiteDataError("\n".join(refused))
        contract = context.contract
        left_out = f", {used:,} of them complete enough to use" if used < held else ""
        told = f", {len(context.notes)} notes (`fedloom show`)" if context.notes else ""
        return (
            f"{len(context.sites)} sites hold {held:,} rows that fit {contract.id} {contract.version}{left_out}{told}"
        )


def check_site(context: SiteContext, asked: Message) -> Message:
    """Run every check on this site's table."""
    columns = context.data.columns()
    settings = context.spec.stages.contract or ContractStage()
    findings = [asdict(found) for check in CHECKS.values() for found in check(context.contract, columns, settings)]
    body = {"digests": dict(context.data.digests()), "findings": findings}
    usable = not any(found["severity"] == "refuse" for found in findings)
    train, test = (len(context.parts.train), len(context.parts.test)) if usable else (0, 0)
    counts = {"rows": columns.rows, "training_rows": train, "used_rows": train + test}
    return Message(asked.verb, asked.round, body, {name: np.array(float(n)) for name, n in counts.items()})
