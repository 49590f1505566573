"""What a commit and its telemetry prove, collected into plain values.

Rules: reads only; whatever is missing is None or empty, never guessed. Times and bytes come from the recorder, which
no commit's id covers; everything else is covered by the commit's id or is a statement about it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import takewhile
from typing import Any

from fedloom.pipeline.participation import Outcome, Verdict
from fedloom.pipeline.runs import closed, run_commits
from fedloom.pipeline.stages.evaluate import EVALUATION
from fedloom.pipeline.stages.gate import Gate
from fedloom.telemetry.metrics import Metrics
from fedloom.telemetry.recorder import Recorder
from fedloom.values import Digest, sha256
from fedloom.versions.objects import Commit, Entry
from fedloom.versions.repository import Repository


@dataclass(frozen=True, slots=True)
class Record:
    """Clock times and bytes of one round."""

    began: datetime
    seconds: float
    engine: str
    bytes_up: int
    bytes_down: int
    site_bytes: Mapping[str, int]

    @property
    def ended(self) -> datetime:
        """When the round was committed."""
        return self.began + timedelta(seconds=self.seconds)


@dataclass(frozen=True, slots=True)
class Round:
    """One committed round."""

    number: int
    commit: Digest
    verdict: Verdict | None = None
    pooled: Metrics = field(default_factory=dict)
    sites: Mapping[str, Metrics] = field(default_factory=dict)
    record: Record | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt at a round that did not get what the policy demands, so that nothing was committed."""

    number: int
    verdict: Verdict
    at: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """What the result depends on, by digest. `contract` is the SHA-256 of the contract file itself."""

    parents: tuple[Digest, ...] = ()
    root: Digest | None = None
    contract: Digest | None = None
    code: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    sites: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """Everything a report shows about one commit.

    facts: the commit's own; settings: the pipeline's, as the run's root holds them. fitted: the verdict on fitting the
    preprocessing, where somebody was missing. evaluation, gate and closing: the bodies of the statements about this
    commit.
    """

    commit: Digest
    message: str
    facts: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    lineage: Lineage = field(default_factory=Lineage)
    rounds: tuple[Round, ...] = ()
    failures: tuple[Failure, ...] = ()
    fitted: Verdict | None = None
    evaluation: Mapping[str, Any] | None = None
    gate: Mapping[str, Any] | None = None
    closing: Mapping[str, Any] | None = None

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """Every site that was invited to a round or measured, in alphabetical order."""
        invited = {outcome.site for one in self.rounds if one.verdict for outcome in one.verdict.sites}
        return tuple(sorted(invited | set(self.measured)))

    @property
    def pooled(self) -> Metrics:
        """Figures of this commit's model on all sites' held-out rows; {} when nothing was measured."""
        found: Metrics = self.facts.get("metrics", {}).get("pooled", {})
        return found

    @property
    def measured(self) -> Mapping[str, Metrics]:
        """Figures of this commit's model, site by site."""
        found: Mapping[str, Metrics] = self.facts.get("metrics", {}).get("sites", {})
        return found

    @property
    def partial(self) -> tuple[Round, ...]:
        """Rounds that went on without somebody, in training or in measuring."""
        return tuple(one for one in self.rounds if one.verdict and one.verdict.status != "complete")

    @property
    def outcomes(self) -> list[Outcome]:
        """What became of every invitation to a round."""
        return [outcome for one in self.rounds if one.verdict for outcome in one.verdict.sites]


def collect(repository: Repository, recorder: Recorder, commit: Digest, run: str | None = None) -> Report:
    """Read everything a report shows about `commit`; raises NotFoundError when there is no such commit.

    run: which of the runs that share the commit is meant; with None, the newest that ended there.
    """
    history = list(run_commits(repository, commit))
    steps = list(takewhile(lambda step: step[1].kind == "round", history))
    tip = history[0][1]
    inputs = _inputs(repository, commit)
    return Report(
        commit=commit,
        message=tip.message,
        facts=tip.facts,
        settings=_json(repository, inputs, "pipeline"),
        lineage=_lineage(repository, inputs, tip.parents, history[-1][0]),
        rounds=tuple(_round(recorder, *step) for step in reversed(steps)),
        failures=tuple(_failures(recorder, history, run)),
        fitted=_incomplete(history[-1][1].facts.get("fit")),
        evaluation=_statement(repository, commit, EVALUATION),
        gate=_statement(repository, commit, Gate.name),
        closing=closed(repository, commit, run),
    )


def _inputs(repository: Repository, commit: Digest) -> Mapping[str, Entry]:
    part = repository.part(commit, "inputs")
    return repository.tree(part.id) if part else {}


def _json(repository: Repository, inputs: Mapping[str, Entry], name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(repository.blob(inputs[name].id)) if name in inputs else {}
    return found


def _lineage(repository: Repository, inputs: Mapping[str, Entry], parents: tuple[Digest, ...], root: Digest) -> Lineage:
    contract = inputs.get("contract")
    return Lineage(
        parents=parents,
        root=root,
        contract=sha256(repository.blob(contract.id)) if contract else None,
        code=_json(repository, inputs, "code"),
        environment=_json(repository, inputs, "environment"),
        sites=_json(repository, inputs, "sites"),
    )


def _statement(repository: Repository, commit: Digest, type_: str) -> Mapping[str, Any] | None:
    found = repository.attestation(commit, type_)
    return found.body if found else None


def _round(recorder: Recorder, id_: Digest, commit: Commit) -> Round:
    found = commit.facts.get("metrics", {})
    return Round(
        number=int(commit.facts["round"]),
        commit=id_,
        verdict=_verdict(commit.facts.get("participation")),
        pooled=found.get("pooled", {}),
        sites=found.get("sites", {}),
        record=_record(recorder.read(id_)),
    )


def _incomplete(fit: Mapping[str, Any] | None) -> Verdict | None:
    """Read who took part in the fit, where somebody was missing."""
    verdict = _verdict(fit)
    return verdict if verdict and verdict.status != "complete" else None


def _verdict(found: Mapping[str, Any] | None) -> Verdict | None:
    if not found:
        return None
    sites = tuple(Outcome(**outcome) for outcome in found["sites"])
    return Verdict(found["status"], sites, found.get("reason", ""))


def _record(found: Mapping[str, Any]) -> Record | None:
    if not found:
        return None
    return Record(
        began=datetime.fromisoformat(found["began"]).astimezone(UTC),
        seconds=float(found["seconds"]),
        engine=found["engine"],
        bytes_up=int(found["bytes_up"]),
        bytes_down=int(found["bytes_down"]),
        site_bytes={site: int(counted["bytes_up"]) for site, counted in found["sites"].items()},
    )


def _failures(recorder: Recorder, history: list[tuple[Digest, Commit]], run: str | None) -> Iterator[Failure]:
    """Find attempts that failed after each commit, oldest first; the train stage names their records so."""
    for id_, commit in reversed(history):
        number = int(commit.facts.get("round", 0)) + 1
        found = recorder.read(f"failed/{id_}-{number}")
        verdict = _verdict(found.get("verdict"))
        if verdict and run in (None, found.get("run")):
            yield Failure(number, verdict, found["at"])
