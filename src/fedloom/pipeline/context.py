"""What a stage is given: at a site, the site's rows; at the hub, the engine, the repository and what stages made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from fedloom.engine.port import Engine, SiteHandler
from fedloom.learners.learner import Examples, Learner, Training
from fedloom.pipeline.columns import Columns
from fedloom.pipeline.contract import Contract
from fedloom.pipeline.events import Emit
from fedloom.pipeline.features import Parts, feature_names, identity, moments, split_rows, standardize
from fedloom.pipeline.features import scaling as scaling_of
from fedloom.pipeline.participation import Verdict
from fedloom.pipeline.spec import PipelineSpec, TrainStage
from fedloom.telemetry.recorder import Recorder
from fedloom.values import Digest, Tensors
from fedloom.versions.merging.strategy import MergeResult, MergeStrategy
from fedloom.versions.repository import Repository


class SiteData(Protocol):
    """A site's own data; nothing of it crosses but through the site's outbox."""

    def columns(self) -> Columns:
        """Read the table through the site's adapter, by the contract."""
        ...

    def digests(self) -> Mapping[str, Digest]:
        """Name what was read: `adapter` and `data`, each by the SHA-256 of its bytes."""
        ...


class Kept(Protocol):
    """The updates a site sent and keeps."""

    def keep(self, update: Tensors) -> None:
        """Keep one."""
        ...

    def find(self, id_: Digest) -> Tensors | None:
        """Find one by the id in its receipt; None when it is not here."""
        ...


@dataclass(frozen=True)
class SiteContext:
    """What the site half of a stage works with."""

    name: str
    spec: PipelineSpec
    contract: Contract
    learner: Learner
    data: SiteData
    kept: Kept | None = None
    """Where the site keeps the updates it sent, for a hub that asks for one later."""

    @cached_property
    def parts(self) -> Parts:
        """The site's rows, split into training and test, before standardisation."""
        fit = self.spec.stages.fit
        return split_rows(
            self.contract,
            self.data.columns(),
            self.spec.split,
            drop_missing=fit is None or fit.missing == "drop",
            seed=self.spec.seed,
            site=self.name,
        )

    def examples(self, part: Literal["train", "test"], scaling: Tensors) -> Examples:
        """Give rows as the learner sees them: standardised by `scaling`, or by the site's own mean and scale."""
        by = self._own_scaling if scope(self.spec) == "site" else scaling
        key = (part, by["mean"].tobytes(), by["scale"].tobytes())
        if self._seen.get(part, (None, None))[0] != key:
            self._seen[part] = (key, standardize(getattr(self.parts, part), by))
        return self._seen[part][1]

    @cached_property
    def _own_scaling(self) -> Tensors:
        return scaling_of(moments(self.parts.train.features))

    @cached_property
    def _seen(self) -> dict[str, tuple[tuple[str, bytes, bytes], Examples]]:
        return {}


@dataclass
class Run:
    """A run under way: its ref, where it stands, and the worst verdict of its rounds so far."""

    name: str
    tip: Digest
    round: int
    partial: bool = False
    unstored: MergeResult | None = None
    """The tip's model where its commit only names it; None where it is stored."""


@dataclass
class HubContext:
    """What the hub half of a stage works with; the lower fields are made by stages for later ones."""

    spec: PipelineSpec
    contract: Contract
    learner: Learner
    strategy: MergeStrategy
    code: Mapping[str, str]
    engine: Engine
    repository: Repository
    recorder: Recorder
    emit: Emit
    export: Callable[[Digest], Path]
    sources: Mapping[str, bytes] = field(default_factory=dict)
    """Files of the run's own code, by name; commits carry them."""

    start: Digest | None = None
    """The commit whose model and preprocessing training goes on from; None to begin anew."""

    pooled: SiteHandler | None = None
    """A site that holds all rows, for the pooled baseline; only a simulation has one."""

    site_inputs: dict[str, Mapping[str, Digest]] = field(default_factory=dict)
    rows: dict[str, float] = field(default_factory=dict)
    scaling: Tensors = field(init=False)
    moments: Tensors = field(default_factory=dict)
    """The sums the scaling was made from; merged branches pool them."""
    notes: list[dict[str, str]] = field(default_factory=list)
    """What the contract checks found worth knowing, by site; counts and names only."""

    fitted: Verdict | None = None
    """Who took part in the fit; None where it asked nobody."""
    run: Run | None = None
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    model_file: str = ""

    def __post_init__(self) -> None:
        """Scale nothing until a fit stage says how."""
        self.scaling = identity(len(feature_names(self.contract)))

    @property
    def sites(self) -> tuple[str, ...]:
        """Invited sites, in the order every fold follows."""
        return tuple(sorted(self.spec.sites))


def training(spec: PipelineSpec, proximal_mu: float, passes: int = 1) -> Training:
    """Say how a site trains; `passes` multiplies the epochs, for baselines that train in one go."""
    stage = spec.stages.train or TrainStage()
    return Training(stage.epochs * passes, stage.batch_size, stage.learning_rate, proximal_mu)


def scope(spec: PipelineSpec) -> str:
    """Say whose mean and scale standardise a site's rows: global, site or none."""
    return spec.stages.fit.standardize if spec.stages.fit else "none"
