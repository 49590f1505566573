"""Model quality, pure: a site turns predictions into sums, sums of sites add up, sums become metrics.

Rules: statistics are tensors that add elementwise, so pooled figures need no row to leave a site and are the same
as if all rows lay in one place. Scores are counted on a grid that is uniform in log-odds (256 cells from -8 to 8);
AUC from it differs from the exact AUC by at most `auc_error`. Probabilities count as at least 2.2e-16 and at
most 1 minus that, as in scikit-learn, so that a loss is finite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedloom.values import Layout, Tensors, layout

Metrics: TypeAlias = Mapping[str, float | None]
"""Names to figures; None where a figure is undefined (the AUC of one class) or not finite (a model that diverged)."""

CELLS = 256
RELIABILITY_BINS = 10
_EDGES = 1 / (1 + np.exp(-np.linspace(-8.0, 8.0, CELLS + 1)[1:-1]))  # as probabilities: exact in order, and no log
_TINY = float(np.finfo(np.float64).eps)
_FLAT = 1e-10  # a variance below this share of the mean square is lost in the rounding of the two sums

HIGHER_IS_BETTER = {
    "accuracy": True,
    "auc": True,
    "r2": True,
    "loss": False,
    "brier": False,
    "ece": False,
    "mae": False,
    "rmse": False,
}
"""Every metric a gate can ask for, and which way is up."""


def statistics(task: str, predictions: NDArray[np.float64], labels: NDArray[np.generic]) -> Tensors:
    """Turn one site's predictions into statistics that add up.

    task: binary, multiclass or regression; `predictions` and `labels` as the learner protocol states them.
    """
    exact = predictions.astype(np.float64, copy=False)  # in float32 1 - _TINY is 1, and its loss infinite
    if task == "binary":
        return _binary(exact, labels.astype(np.int64))
    if task == "multiclass":
        return _multiclass(exact, labels.astype(np.int64))
    return _regression(exact, labels.astype(np.float64))


def statistics_layout(task: str, outputs: int) -> Layout:
    """Describe what `statistics` gives, so that the plan can say what will leave a site."""
    labels = np.zeros(0, np.int64)
    shape = (0, outputs) if task == "multiclass" else (0,)
    found = statistics(task, np.zeros(shape), labels)
    return layout(found)


def add(total: Tensors, more: Tensors) -> Tensors:
    """Add the statistics of one more site; {} is the empty sum."""
    return {name: np.asarray(total[name] + more[name]) for name in more} if total else dict(more)


def metrics(task: str, stats: Tensors) -> Metrics:
    """Turn statistics into figures; nothing but `rows` when there are none."""
    rows = int(stats["rows"]) if stats else 0
    if rows == 0:
        return {"rows": 0.0}
    found = _regression_metrics(rows, stats) if task == "regression" else _classification_metrics(rows, stats)
    return {name: value if value is not None and math.isfinite(value) else None for name, value in found.items()}


def _classification_metrics(rows: int, stats: Tensors) -> Metrics:
    found: dict[str, float | None] = {
        "rows": float(rows),
        "loss": float(stats["loss_sum"]) / rows,
        "accuracy": float(stats["correct"]) / rows,
        "brier": float(stats["brier_sum"]) / rows,
        "ece": _calibration_error(stats["reliability"], rows),
    }
    areas = [_auc(cells) for cells in stats["scores"]]
    known = [area for area in areas if area is not None]
    found["auc"] = float(np.mean([area for area, _ in known])) if known else None
    found["auc_error"] = float(np.mean([error for _, error in known])) if known else None
    return found


def unweighted(per_site: Mapping[str, Metrics]) -> Metrics:
    """Average each figure over sites, every site counting the same; sites where it is undefined are left out."""
    names = sorted({name for found in per_site.values() for name in found} - {"rows", "auc_error"})
    columns = {name: [found.get(name) for found in per_site.values()] for name in names}
    known = {name: [value for value in values if value is not None] for name, values in columns.items()}
    return {name: float(np.mean(values)) if values else None for name, values in known.items()}


def worst(per_site: Mapping[str, Metrics], name: str) -> tuple[str, float] | None:
    """Find the site where a metric is worst, and its figure."""
    known = {site: value for site, found in per_site.items() if (value := found.get(name)) is not None}
    if not known:
        return None
    choose = min if HIGHER_IS_BETTER[name] else max
    site = choose(sorted(known), key=lambda s: known[s])
    return site, known[site]


def _binary(probability: NDArray[np.float64], labels: NDArray[np.int64]) -> Tensors:
    p = np.clip(probability, _TINY, 1 - _TINY)
    true = labels == 1
    cells = np.searchsorted(_EDGES, p, side="right")
    scores = np.zeros((1, 2, CELLS), np.uint32)
    np.add.at(scores[0], (labels, cells), 1)
    return {
        "rows": np.array(len(labels), np.int64),
        "correct": np.array(np.count_nonzero((p >= 0.5) == true), np.int64),
        "loss_sum": np.array(-np.log(np.where(true, p, 1 - p)).sum()),
        "brier_sum": np.array(((p - true) ** 2).sum()),
        "reliability": _reliability(p, true),
        "scores": scores,
    }


def _multiclass(probability: NDArray[np.float64], labels: NDArray[np.int64]) -> Tensors:
    p = np.clip(probability, _TINY, 1 - _TINY)
    rows, classes = p.shape
    one_hot = labels[:, None] == np.arange(classes)
    guess = p.argmax(axis=1) if rows else labels
    correct = guess == labels
    cells = np.searchsorted(_EDGES, p, side="right")
    scores = np.zeros((classes, 2, CELLS), np.uint32)
    np.add.at(scores, (np.arange(classes)[None, :], one_hot.astype(np.int64), cells), 1)
    return {
        "rows": np.array(rows, np.int64),
        "correct": np.array(np.count_nonzero(correct), np.int64),
        "loss_sum": np.array(-np.log(p[np.arange(rows), labels]).sum()),
        "brier_sum": np.array(((p - one_hot) ** 2).sum()),
        "reliability": _reliability(p[np.arange(rows), guess], correct),
        "scores": scores,
    }


def _regression(values: NDArray[np.float64], labels: NDArray[np.float64]) -> Tensors:
    with np.errstate(over="ignore"):  # a model that diverged: its figures become None
        residual = values - labels
        return {
            "rows": np.array(len(labels), np.int64),
            "absolute_sum": np.array(np.abs(residual).sum()),
            "square_sum": np.array((residual**2).sum()),
            "label_sum": np.array(labels.sum()),
            "label_square_sum": np.array((labels**2).sum()),
        }


def _regression_metrics(rows: int, stats: Tensors) -> Metrics:
    mse = float(stats["square_sum"]) / rows
    mean, mean_square = float(stats["label_sum"]) / rows, float(stats["label_square_sum"]) / rows
    variance = mean_square - mean * mean
    return {
        "rows": float(rows),
        "loss": mse,
        "mae": float(stats["absolute_sum"]) / rows,
        "rmse": mse**0.5,
        "r2": 1 - mse / variance if variance > _FLAT * mean_square else None,
    }


def _reliability(confidence: NDArray[np.float64], hit: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Count rows, sum confidence and hits in ten equal bins of confidence; shape (10, 3)."""
    bins = np.minimum((confidence * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    columns = [np.ones_like(confidence), confidence, hit.astype(np.float64)]
    sums = [np.bincount(bins, column, RELIABILITY_BINS) for column in columns]
    return np.stack(sums, axis=1).astype(np.float64, copy=False)  # of no rows bincount makes integers


def _calibration_error(reliability: NDArray[np.float64], rows: int) -> float:
    """Compute the expected calibration error (Naeini et al. 2015)."""
    return float(np.abs(reliability[:, 1] - reliability[:, 2]).sum() / rows)


def _auc(cells: NDArray[np.uint32]) -> tuple[float, float] | None:
    """Compute AUC (Mann-Whitney) from counts by label and cell, and how far it can be off; None for one class."""
    negative, positive = cells.astype(np.float64)
    pairs = negative.sum() * positive.sum()
    if pairs == 0:
        return None
    below = np.cumsum(negative) - negative
    ties = float((positive * negative).sum())
    return float(positive @ below + ties / 2) / pairs, ties / 2 / pairs
