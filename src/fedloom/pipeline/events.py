"""What a run tells whoever watches it: plain values, no printing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from fedloom.pipeline.participation import Verdict
from fedloom.telemetry.metrics import Metrics
from fedloom.values import Digest


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run has its name; `resumed_at` is the last round of an interrupted run, 0 for a new one."""

    run: str
    pipeline: str
    sites: tuple[str, ...]
    rounds: int
    seed: int
    engine: str
    resumed_at: int = 0


@dataclass(frozen=True, slots=True)
class StageFinished:
    """A stage other than train is done; `summary` is one sentence."""

    stage: str
    summary: str
    seconds: float


@dataclass(frozen=True, slots=True)
class RoundFinished:
    """A round is committed. Bytes are what crossed the wire: `up` from the sites, `down` to them."""

    round: int
    commit: Digest
    verdict: Verdict
    metrics: Metrics
    bytes_up: int
    bytes_down: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The run is over; `status` is the worst verdict of any of its rounds.

    summary: the evaluation, {} without one. model: the file the model was written to, "" when none was registered.
    """

    run: str
    commit: Digest
    status: str
    summary: Mapping[str, Any]
    model: str


Event: TypeAlias = RunStarted | StageFinished | RoundFinished | RunFinished
Emit: TypeAlias = Callable[[Event], None]
