"""From columns to what a learner sees, pure: one-hot codes, rows held out, and standardisation.

Rules: a code list of k codes gives k-1 columns (the first code is the reference), so the width is known from the
contract alone. The split depends only on the seed and the site's name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedloom.learners.learner import Examples
from fedloom.pipeline.columns import Columns
from fedloom.pipeline.contract import Column, Contract
from fedloom.pipeline.spec import Split
from fedloom.values import Tensors, generator
from fedloom.versions.merging.pooling import standardization


@dataclass(frozen=True, slots=True)
class Parts:
    """A site's rows, split: what it trains on, and what it only measures with."""

    train: Examples
    test: Examples


def feature_names(contract: Contract) -> tuple[str, ...]:
    """Name the columns a learner sees, such as `age` and `cp=asymptomatic`."""
    names = []
    for column in contract.features:
        names += [f"{column.name}={code}" for code in column.codes[1:]] or [column.name]
    return tuple(names)


def outputs(contract: Contract) -> int:
    """Count what a learner puts out: 1 for a number or two classes, else the number of classes."""
    classes = len(contract.label.codes)
    return classes if classes > 2 else 1


def split_rows(
    contract: Contract, columns: Columns, split: Split, *, drop_missing: bool, seed: int, site: str
) -> Parts:
    """Make a site's training and test rows; rows without a label, or without their word for the split, are left out."""
    features = np.column_stack([part for column in contract.features for part in _expand(column, columns)])
    labels = columns.values[contract.label.name]
    keep = ~np.isnan(labels)
    if drop_missing:
        keep &= ~np.isnan(features).any(axis=1)
    if split.column is not None:
        keep &= ~np.isnan(columns.values[split.column])  # it may have been meant for the test
    test = _held_out(contract, columns, split, keep, generator(seed, "split", site))
    return Parts(
        _examples(contract, features, labels, keep & ~test),
        _examples(contract, features, labels, keep & test),
    )


def moments(features: NDArray[np.float64]) -> Tensors:
    """Sum what standardisation needs, per feature: float64, shape (3, features): count, sum, sum of squares."""
    # One feature at a time: NumPy adds a contiguous column in pairs, so the error does not grow with the rows, and
    # no second copy of the whole table is made.
    return {"moments": np.stack([_moments(np.ascontiguousarray(column)) for column in features.T], axis=1)}


def _moments(column: NDArray[np.float64]) -> NDArray[np.float64]:
    known = column[~np.isnan(column)]
    return np.array([len(known), known.sum(), (known**2).sum()])


def scaling(sums: Tensors) -> Tensors:
    """Turn summed moments into `mean` and `scale` (standard deviation; 1 where a feature does not vary)."""
    return standardization(sums["moments"])


def identity(width: int) -> Tensors:
    """Scaling that changes nothing."""
    return {"mean": np.zeros(width), "scale": np.ones(width)}


def standardize(examples: Examples, by: Tensors) -> Examples:
    """Subtract the mean, divide by the scale; a missing value becomes the mean."""
    scaled = examples.features - by["mean"]
    scaled /= by["scale"]
    scaled[np.isnan(scaled)] = 0.0
    return Examples(scaled, examples.labels)


def _expand(column: Column, columns: Columns) -> list[NDArray[np.float64]]:
    """Give what a learner sees of a column, in the order of `feature_names`."""
    values = columns.values[column.name]
    if not column.codes:
        return [values]
    return [np.where(np.isnan(values), np.nan, values == index) for index in range(1, len(column.codes))]


def _held_out(
    contract: Contract, columns: Columns, split: Split, keep: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.bool_]:
    if split.column is not None:
        column = contract.column(split.column)
        assert column is not None
        return np.asarray(columns.values[split.column] == column.codes.index("test"))
    test = np.zeros(len(keep), bool)
    labels = columns.values[contract.label.name]
    # Stratified: the same share of every class, so that small sites keep both classes on both sides.
    groups = np.unique(labels[keep]) if contract.label.codes else [None]
    for group in groups:
        rows = np.flatnonzero(keep & (labels == group) if group is not None else keep)
        test[rng.permutation(rows)[: round(len(rows) * (split.test or 0.0))]] = True
    return test


def _examples(
    contract: Contract, features: NDArray[np.float64], labels: NDArray[np.float64], rows: NDArray[np.bool_]
) -> Examples:
    chosen = labels[rows]
    return Examples(features[rows], chosen.astype(np.int64) if contract.label.codes else chosen)
