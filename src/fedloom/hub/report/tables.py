"""The tables and pictures of a report, pure: rows for the template, none of them formatted.

Rules: nothing is judged here that the evaluation judged already; doubt about a figure is told beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from math import sqrt

from markupsafe import Markup

from fedloom.engine.port import Status
from fedloom.hub.report import charts
from fedloom.hub.report.evidence import Report
from fedloom.pipeline.stages.evaluate import primary
from fedloom.telemetry.metrics import HIGHER_IS_BETTER, Metrics

FIGURES: Mapping[str, tuple[str, str]] = {
    "accuracy": ("Accuracy", "share of test rows told right"),
    "auc": ("AUC", "how well scores rank the classes; 0.5 is chance"),
    "rmse": ("RMSE", "typical error, in the label's unit"),
    "mae": ("MAE", "mean absolute error, in the label's unit"),
    "r2": ("R\N{SUPERSCRIPT TWO}", "share of the label's variance explained"),
    "loss": ("Loss", "what training minimises, per row"),
    "ece": ("Calibration error", "how far stated probabilities are from what happened"),
}
"""The figures a report shows, in this order, with a label and what it means."""

CHARTED = ("loss", "accuracy", "auc", "rmse", "r2")
FEW_ROWS = 30
LARGE_ERROR = 0.05
"""A site is told to have few test rows below FEW_ROWS, or where its accuracy's standard error is above this."""
ONE_CLASS = "one class"
CHANCE = "within two standard errors"
BETTER_ALONE = "better off alone"
NOT_COMPARED = "cannot be compared"


@dataclass(frozen=True, slots=True)
class SiteRow:
    """One site beside its own model: figures federated and alone, and an honest judgement in words.

    error: standard error of the federated accuracy; difference: federated minus alone, by the primary figure.
    """

    name: str
    rows: int
    federated: Metrics
    alone: Metrics
    error: float | None
    difference: float | None
    judgement: str
    cautions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attendance:
    """How often one site answered; `share` is its share of all rows when last invited, None if not known."""

    site: str
    counts: Mapping[Status, int]
    share: float | None


@dataclass(frozen=True, slots=True)
class Absence:
    """Rounds a site missed for one reason."""

    site: str
    status: Status
    reason: str
    rounds: tuple[int, ...]


def figures_of(report: Report) -> list[str]:
    """Name the figures that this commit or any of its rounds was measured by."""
    measured = [report.pooled, *(one.pooled for one in report.rounds)]
    return [name for name in FIGURES if any(name in found for found in measured)]


def primary_of(found: Metrics) -> str:
    """Name the figure that the sites are compared by."""
    return primary("regression" if "rmse" in found else "binary")


def columns(report: Report) -> list[tuple[str, str, Metrics]]:
    """Put the federated model beside its baselines: (name, what it is, figures on all sites' test rows)."""
    evaluation = report.evaluation or {}
    found: list[tuple[str, str, Metrics]] = [("Federated", "this commit's model", report.pooled)]
    if "pooled" in evaluation:
        found.append(("Pooled", "trained with all rows in one place", evaluation["pooled"]["pooled"]))
    if "local_everywhere" in evaluation:
        everywhere = evaluation["local_everywhere"]
        rows = min((one.get("rows") or 0.0 for one in everywhere["models"].values()), default=None)
        told = "each site's own model, on everybody's rows; the mean over sites"
        found.append(("Alone", told, {**everywhere["mean"], "rows": rows}))
    return found


def curves(report: Report) -> list[tuple[str, str, Markup]]:
    """Draw each charted figure by round: (label, which way is up, picture)."""
    rounds = [one for one in report.rounds if one.pooled]
    numbers = [one.number for one in rounds]
    drawn = []
    for name in CHARTED:
        everybody = [one.pooled.get(name) for one in rounds]
        per_site = {site: [one.sites.get(site, {}).get(name) for one in rounds] for site in report.sites}
        if all(value is None for value in chain(everybody, *per_site.values())):
            continue
        shown = charts.lines(everybody, per_site, higher_is_better=HIGHER_IS_BETTER[name])
        title = f"{FIGURES[name][0]} by round, all rows and each site"
        drawn.append((FIGURES[name][0], _direction(name), charts.line_chart(f"curve-{name}", title, numbers, shown)))
    return drawn


def site_rows(report: Report) -> list[SiteRow]:
    """Judge every measured site: is it better off with the federated model or with its own?"""
    alone = (report.evaluation or {}).get("local", {}).get("sites", {})
    return [_site_row(site, report.measured[site], alone.get(site, {})) for site in sorted(report.measured)]


def participation_grid(report: Report) -> Markup | None:
    """Draw who answered in which round; None when no round says so."""
    rounds = [one for one in report.rounds if one.verdict]
    if not rounds:
        return None
    status = [{outcome.site: outcome.status for outcome in one.verdict.sites} for one in rounds if one.verdict]
    cells = {site: [found.get(site) for found in status] for site in report.sites}
    return charts.grid("grid", "Who answered in which round", [one.number for one in rounds], cells)


def attendance(report: Report) -> list[Attendance]:
    """Count each site's answers."""
    counts: dict[str, Counter[Status]] = {site: Counter() for site in report.sites}
    shares = dict.fromkeys(report.sites, 0.0)
    for outcome in report.outcomes:
        counts[outcome.site][outcome.status] += 1
        shares[outcome.site] = outcome.weight
    return [Attendance(site, counts[site], shares[site] or None) for site in report.sites if counts[site]]


def absences(report: Report) -> list[Absence]:
    """List why sites were missing, rounds with the same reason together."""
    found: dict[tuple[str, Status, str], list[int]] = {}
    for one in report.partial:
        for outcome in one.verdict.missing if one.verdict else ():
            found.setdefault((outcome.site, outcome.status, outcome.reason), []).append(one.number)
    return [Absence(*key, tuple(rounds)) for key, rounds in sorted(found.items())]


def reservations(report: Report) -> list[tuple[str, tuple[int, ...]]]:
    """List what else was wanting in partial rounds: (what, in which rounds)."""
    found: dict[str, list[int]] = {}
    for one in report.partial:
        if one.verdict and one.verdict.reason:
            found.setdefault(one.verdict.reason, []).append(one.number)
    return [(reason, tuple(rounds)) for reason, rounds in sorted(found.items())]


def traffic(report: Report) -> dict[str, tuple[int, int]]:
    """Sum what each site sent in training: (bytes, rounds with a reply)."""
    sent: dict[str, list[int]] = {}
    for one in report.rounds:
        for site, size in one.record.site_bytes.items() if one.record else ():
            sent.setdefault(site, []).append(size)
    return {site: (sum(sizes), sum(size > 0 for size in sizes)) for site, sizes in sorted(sent.items())}


def _site_row(site: str, federated: Metrics, alone: Metrics) -> SiteRow:
    name = primary_of(federated)
    ours, theirs = federated.get(name), alone.get(name)
    rows = int(federated.get("rows") or 0)
    error = sqrt(ours * (1 - ours) / rows) if name == "accuracy" and ours is not None and rows else None
    difference = ours - theirs if ours is not None and theirs is not None else None
    return SiteRow(
        name=site,
        rows=rows,
        federated=federated,
        alone=alone,
        error=error,
        difference=difference,
        judgement=_judgement(name, difference),
        cautions=_cautions(rows, federated, error, difference),
    )


def _judgement(name: str, difference: float | None) -> str:
    if difference is None:
        return NOT_COMPARED
    if difference == 0:
        return "no difference"
    return "better off together" if (difference > 0) == HIGHER_IS_BETTER[name] else BETTER_ALONE


def _cautions(rows: int, federated: Metrics, error: float | None, difference: float | None) -> tuple[str, ...]:
    few = rows < FEW_ROWS or (error is not None and error > LARGE_ERROR)
    one_class = "auc" in federated and federated["auc"] is None
    chance = error is not None and bool(difference) and abs(difference or 0.0) <= 2 * error
    told = {"few test rows": few, ONE_CLASS: one_class, CHANCE: chance}
    return tuple(words for words, applies in told.items() if applies)


def _direction(name: str) -> str:
    return "higher is better" if HIGHER_IS_BETTER[name] else "lower is better"
