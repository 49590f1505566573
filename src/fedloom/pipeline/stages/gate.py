"""gate: rules on the figures of the run decide whether the model may be registered; the verdict is attested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fedloom.errors import GateError
from fedloom.pipeline.context import HubContext
from fedloom.pipeline.rules import Rule
from fedloom.pipeline.stages.stage import Artifacts, Draft, Leaving, SiteHalf
from fedloom.telemetry.metrics import HIGHER_IS_BETTER, worst


class Gate:
    """The stage."""

    name = "gate"
    needs: Artifacts = ("metrics",)
    uses: Artifacts = ()
    makes: Artifacts = ("verdict",)

    def answers(self) -> Mapping[str, SiteHalf]:
        """Ask the sites nothing."""
        return {}

    def leaving(self, draft: Draft) -> Iterator[Leaving]:  # noqa: ARG002  nothing leaves a site
        """Leave nothing."""
        return iter(())

    def run(self, context: HubContext) -> str:
        """Check every rule; raises GateError that names each broken one and the figure it met."""
        assert context.run is not None
        assert context.spec.stages.gate is not None
        figures = figures_of(context.evaluation, partial=context.run.partial)
        rules = [Rule.parse(text) for text in context.spec.stages.gate.require]
        broken = [rule for rule in rules if not rule.holds(figures)]
        body = {
            "passed": not broken,
            "rules": [{"rule": str(r), "value": figures.get(r.figure), "holds": r not in broken} for r in rules],
        }
        context.repository.attest(context.run.tip, self.name, body)
        if broken:
            told = "; ".join(f"{rule} (it is {_shown(figures.get(rule.figure))})" for rule in broken)
            where = f"The model is kept as {context.run.name}, commit {context.run.tip[:12]}, and not registered"
            raise GateError(f"the gate refused the model: {told}. {where}")
        return f"{len(rules)} of {len(rules)} rules hold"


def figures_of(evaluation: Mapping[str, Any], *, partial: bool) -> dict[str, float | str | None]:
    """Collect every figure a rule may name from an evaluation."""
    found = evaluation["federated"]
    figures: dict[str, float | str | None] = {"participation": "partial-allowed" if partial else "complete"}
    for name in HIGHER_IS_BETTER:
        figures[name] = found["pooled"].get(name)
        figures[f"unweighted.{name}"] = found["unweighted"].get(name)
        lowest = worst(found["sites"], name)
        figures[f"worst.{name}"] = lowest[1] if lowest else None
    if "worse_off" in evaluation:
        figures["worse_off"] = float(len(evaluation["worse_off"]))
    return figures


def _shown(value: float | str | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:.4g}" if isinstance(value, float) else value
