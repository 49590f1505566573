"""register: point a branch to the model that passed, and write it as a file other tools read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fedloom.pipeline.context import HubContext
from fedloom.pipeline.stages.stage import Artifacts, Draft, Leaving, SiteHalf
from fedloom.versions.branches import set_aside
from fedloom.versions.protection import move


class Register:
    """The stage."""

    name = "register"
    needs: Artifacts = ("model",)
    uses: Artifacts = ("verdict", "metrics")
    makes: Artifacts = ("release",)

    def answers(self) -> Mapping[str, SiteHalf]:
        """Ask the sites nothing."""
        return {}

    def leaving(self, draft: Draft) -> Iterator[Leaving]:  # noqa: ARG002  nothing leaves a site
        """Leave nothing."""
        return iter(())

    def run(self, context: HubContext) -> str:
        """Move the branch by compare-and-set and export the model."""
        assert context.run is not None
        assert context.spec.stages.register_ is not None
        repository = context.repository
        name = f"heads/{context.spec.stages.register_.ref or repository.settings.read().branch}"
        current, tip = repository.refs.get(name), context.run.tip
        aside = ""
        if current != tip:
            kept = set_aside(repository, name, tip)
            move(repository, name, current, tip, context.run.name)
            aside = f" (what it was is {kept})" if kept else ""
        context.model_file = str(context.export(tip))
        return f"{name} is now {tip[:12]}{aside}, model in {context.model_file}"
