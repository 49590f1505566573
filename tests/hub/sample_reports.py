"""Reports made up for tests: any number of sites and rounds, any task, with or without baselines."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fedloom.engine.port import Status
from fedloom.hub.report.evidence import Lineage, Record, Report, Round
from fedloom.pipeline.participation import Outcome, Verdict
from fedloom.telemetry.metrics import unweighted
from fedloom.values import Digest, generator, sha256

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
CLASSES = {"loss": 0.45, "accuracy": 0.8, "auc": 0.85, "ece": 0.06}
NUMBERS = {"loss": 4.0, "rmse": 2.0, "mae": 1.4, "r2": 0.6}
FAULTS: tuple[Status, ...] = ("late", "failed")

Missing = Mapping[tuple[int, str], Status]


def sample(
    sites: int, rounds: int, *, figures: Mapping[str, float] = CLASSES, missing: Missing | None = None
) -> Report:
    """Make a finished run that passed its gate; `missing` says which (round, site) did not answer."""
    names = [f"site-{number:02}" for number in range(1, sites + 1)]
    done = tuple(_round(number, names, figures, missing or {}) for number in range(1, rounds + 1))
    metrics = {"pooled": done[-1].pooled, "sites": done[-1].sites}
    passed = {"passed": True, "rules": [{"rule": "loss <= 9", "value": metrics["pooled"].get("loss"), "holds": True}]}
    partial = any(one.verdict and one.verdict.status != "complete" for one in done)
    return Report(
        commit=done[-1].commit,
        message=f"sample: round {rounds}",
        facts={
            "pipeline": "sample",
            "metrics": metrics,
            "privacy": {"mechanism": "none", "epsilon": None},
            "codec": "exact",
            "learner": {"use": "linear", "kind": "logistic"},
            "strategy": {"use": "fedavg"},
            "seed": 1,
        },
        settings={"purpose": "Show what a report looks like.", "stages": {"evaluate": {}, "gate": {}}},
        lineage=Lineage(sites={name: {"adapter": sha256(name.encode()), "data": sha256(b"d")} for name in names}),
        rounds=done,
        gate=passed,
        closing={"status": "partial-allowed" if partial else "complete", "rounds": rounds, "ref": "runs/1"},
    )


def with_baselines(report: Report, worse: tuple[str, ...] = ()) -> Report:
    """Add an evaluation in which every site alone is 0.05 less accurate, but those in `worse` are that much better."""
    alone = {site: _shifted(found, 0.05 if site in worse else -0.05) for site, found in report.measured.items()}
    body: dict[str, Any] = {
        "federated": report.facts["metrics"],
        "pooled": {"pooled": dict(report.pooled)},
        "local": {"sites": alone, "unweighted": dict(unweighted(alone))},
        "local_everywhere": {"models": {site: dict(report.pooled) for site in alone}, "mean": dict(unweighted(alone))},
        "worse_off": list(worse),
    }
    return replace(report, evaluation=body)


def crowd(sites: int = 40, rounds: int = 200) -> Report:
    """Make a large run with bad days: some sites late or lost at random, one of them for long."""
    random = generator("crowd")
    at = [(number, f"site-{site:02}") for number in range(1, rounds + 1) for site in range(1, sites + 1)]
    missing: dict[tuple[int, str], Status] = {
        key: FAULTS[int(random.integers(2))] for key in at if random.random() < 0.02
    }
    missing |= {(number, "site-07"): "failed" for number in range(60, 120)}
    return with_baselines(sample(sites, rounds, missing=missing), ("site-03", "site-11", "site-29"))


def _round(number: int, names: list[str], figures: Mapping[str, float], missing: Missing) -> Round:
    random = generator("sample", number)
    per_site = {
        name: {"rows": 20.0 + 10 * at}
        | {key: _curve(key, value, number, at, random.normal()) for key, value in figures.items()}
        for at, name in enumerate(names)
    }
    outcomes = tuple(_outcome(name, missing.get((number, name)), len(names)) for name in names)
    verdict = Verdict("partial-allowed" if any(o.status != "answered" for o in outcomes) else "complete", outcomes)
    pooled = {"rows": sum(found["rows"] for found in per_site.values())} | {
        k: _curve(k, v, number, 0, 0.0) for k, v in figures.items()
    }
    sent = {outcome.site: 240 if outcome.status == "answered" else 0 for outcome in outcomes}
    record = Record(START, 1.5, "inprocess", sum(sent.values()) + 10, 500, sent)
    return Round(number, Digest(sha256(f"round {number}".encode())), verdict, pooled, per_site, record)


def _curve(key: str, value: float, number: int, site: int, noise: float) -> float:
    falling = key in ("loss", "ece", "rmse", "mae")
    moved = value * (1 + (0.6 if falling else -0.3) / number**0.7)
    return moved * (1 + (0.01 if falling else -0.004) * (site % 17)) + value * 0.006 * noise


def _outcome(name: str, status: Status | None, sites: int) -> Outcome:
    reasons = {"late": "no answer within 60 s", "failed": "connection lost"}
    return Outcome(name, status or "answered", 1 / sites, reasons.get(status or "", ""))


def _shifted(found: Mapping[str, float | None], by: float) -> dict[str, float | None]:
    return {name: value + by if name == "accuracy" and value is not None else value for name, value in found.items()}
