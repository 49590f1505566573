"""Branch strategies that average the heads' values: means, median, slerp, fisher, regmean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from fedloom.errors import VersionsError
from fedloom.values import Tensor
from fedloom.versions.merging.branch import BranchStrategy, Extras, keep_agreed, needed
from fedloom.versions.merging.coordinates import by_coordinate, combined, narrowed
from fedloom.versions.merging.robust import TrimmedMean

_PARALLEL = 0.9995
"""Cosine beyond which an arc is as good as straight, and its formula divides by nearly 0."""


@dataclass(frozen=True, slots=True)
class WeightedMean(BranchStrategy):
    """Mean by weight, as in a federated round; McMahan et al. 2017, arXiv 1602.05629."""

    id: ClassVar[str] = "weighted_mean/1"

    def _merged(self, base: Tensor | None, heads: Sequence[Tensor], weights: Sequence[float], extras: Extras) -> Tensor:  # noqa: ARG002 - the signature of all
        return _average(heads, weights)


@dataclass(frozen=True, slots=True)
class Mean(BranchStrategy):
    """Mean without weights: a "model soup"; Wortsman et al. 2022, arXiv 2203.05482."""

    id: ClassVar[str] = "mean/1"

    def _merged(self, base: Tensor | None, heads: Sequence[Tensor], weights: Sequence[float], extras: Extras) -> Tensor:  # noqa: ARG002 - the signature of all
        return _average(heads, [1.0 / len(heads)] * len(heads))


@dataclass(frozen=True, slots=True)
class Median(BranchStrategy):
    """Median of each coordinate; Yin et al. 2018, algorithm 1 option I, arXiv 1803.01498. Weights do not count."""

    id: ClassVar[str] = "median/1"

    def _merged(self, base: Tensor | None, heads: Sequence[Tensor], weights: Sequence[float], extras: Extras) -> Tensor:  # noqa: ARG002 - the signature of all
        return _without_extremes(heads, (len(heads) - 1) // 2)


@dataclass(frozen=True, slots=True)
class BranchTrimmedMean(BranchStrategy):
    """Mean of each coordinate without its extremes; Yin et al. 2018, algorithm 1 option II, arXiv 1803.01498.

    beta: fraction of the heads cut off at either end, rounded down to a whole number. Weights do not count.
    """

    beta: float = 0.2

    id: ClassVar[str] = "trimmed_mean/1"

    def __post_init__(self) -> None:
        TrimmedMean(self.beta)

    def _merged(self, base: Tensor | None, heads: Sequence[Tensor], weights: Sequence[float], extras: Extras) -> Tensor:  # noqa: ARG002 - the signature of all
        return _without_extremes(heads, int(self.beta * len(heads)))


@dataclass(frozen=True, slots=True)
class Slerp(BranchStrategy):
    """Way along the arc between exactly two heads, as far as the second's weight says; Shoemake 1985.

    A tensor counts as one vector. Nearly parallel, opposite or zero ones are averaged by weight instead.
    """

    id: ClassVar[str] = "slerp/1"
    most: ClassVar[int | None] = 2

    @property
    def least(self) -> int:
        """Two: an arc has two ends."""
        return 2

    def _merged(self, base: Tensor | None, heads: Sequence[Tensor], weights: Sequence[float], extras: Extras) -> Tensor:  # noqa: ARG002 - the signature of all
        one, other = (np.asarray(head.reshape(-1), dtype=np.float64) for head in heads)
        norms = math.sqrt(_dot(one, one)) * math.sqrt(_dot(other, other))
        cosine = _dot(one, other) / norms if norms else math.nan
        if not abs(cosine) <= _PARALLEL:  # NaN too
            return _average(heads, weights)
        angle = math.acos(cosine)
        factors = [_steady(math.sin(weight * angle) / math.sin(angle)) for weight in weights]
        return narrowed(combined([one, other], factors), heads[0]).reshape(heads[0].shape)


@dataclass(frozen=True, slots=True)
class Fisher(BranchStrategy):
    """Mean weighted by how sure each head is of each number; Matena & Raffel 2021, arXiv 2111.09832.

    Needs the diagonal of each head's Fisher information. Where all are 0 it is the mean by weight.
    """

    id: ClassVar[str] = "fisher/1"
    needs: ClassVar[tuple[str, ...]] = ("fisher",)

    def _merged(self, base: Tensor | None, heads: Sequence[Tensor], weights: Sequence[float], extras: Extras) -> Tensor:  # noqa: ARG002 - the signature of all
        known = needed("fisher", extras.fisher, len(heads), self.id, extras.path)
        for entries in known:
            if entries.shape != heads[0].shape or not (np.isfinite(entries).all() and (entries >= 0).all()):
                raise VersionsError(
                    f"{self.id} cannot merge '{extras.path}': Fisher entries must be finite, not negative, and of "
                    f"the tensor's shape {list(heads[0].shape)}"
                )
        merged = by_coordinate(heads[0], [*heads, *known], partial(_by_certainty, weights=weights))
        return keep_agreed(merged, heads)


@dataclass(frozen=True, slots=True)
class RegMean(BranchStrategy):
    """The weights whose outputs are closest to those of every head, in least squares.

    Jin et al. 2022, "Dataless knowledge fusion by merging weights of language models", arXiv 2212.09849.
    Needs of each head the Gram matrix of the layer's inputs; it is a sum over rows, so it brings its own weight.
    What is no matrix, such as a bias, is averaged by weight.
    shrink: factor on what is off the diagonal of a Gram matrix (alpha of the paper).
    axis: the one of the weight's two axes that the inputs enter by; left out, the one that fits the Gram matrix.
    """

    shrink: float = 0.9
    axis: int | None = None

    id: ClassVar[str] = "regmean/1"
    needs: ClassVar[tuple[str, ...]] = ("gram",)

    def __post_init__(self) -> None:
        if not 0.0 <= self.shrink < 1.0:
            raise ValueError(f"shrink must be at least 0 and below 1, got {self.shrink}")
        if self.axis not in (None, 0, 1):
            raise ValueError(f"axis must be 0 or 1, got {self.axis}")

    def _merged(self, base: Tensor | None, heads: Sequence[Tensor], weights: Sequence[float], extras: Extras) -> Tensor:  # noqa: ARG002 - the signature of all
        like = heads[0]
        if like.ndim != 2:
            return _average(heads, weights)
        grams = needed("gram", extras.gram, len(heads), self.id, extras.path)
        axis = self._axis(like.shape, grams, extras.path)
        left = np.zeros((like.shape[axis],) * 2)
        right = np.zeros((like.shape[axis], like.shape[1 - axis]))
        for gram, head in zip(grams, heads, strict=True):
            scaled = gram * np.float64(self.shrink)
            np.fill_diagonal(scaled, np.diagonal(gram))
            left += scaled
            _add_product(right, scaled, np.moveaxis(head, axis, 0).astype(np.float64))
        solved = _solved(left, right, f"{self.id} cannot merge '{extras.path}'")
        return narrowed(np.ascontiguousarray(np.moveaxis(solved, 0, axis)), like)

    def _axis(self, shape: tuple[int, ...], grams: Sequence[Tensor], path: str) -> int:
        fits = [axis for axis in (0, 1) if all(gram.shape == (shape[axis],) * 2 for gram in grams)]
        if self.axis is None and len(fits) == 2:
            raise VersionsError(f"{self.id} cannot tell the inputs of the square '{path}': say axis=0 or axis=1")
        if not fits or self.axis not in (None, *fits):
            raise VersionsError(
                f"{self.id} cannot merge '{path}': Gram matrices must be square, as large as one axis of "
                f"{list(shape)} (or as the one that `axis` names)"
            )
        return fits[0] if self.axis is None else self.axis


def _average(heads: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    return keep_agreed(by_coordinate(heads[0], heads, partial(combined, factors=weights)), heads)


def _without_extremes(heads: Sequence[Tensor], cut: int) -> Tensor:
    return keep_agreed(by_coordinate(heads[0], heads, partial(_inner_mean, cut=cut)), heads)


def _inner_mean(stack: Tensor, *, cut: int) -> Tensor:
    # Sorted, not partitioned as in a round: the order of a partition, so the last bits of a sum, differ by machine.
    kept = np.sort(stack, axis=0)[cut : len(stack) - cut]
    return combined(kept, [1.0] * len(kept)) / len(kept)


def _by_certainty(stack: Tensor, *, weights: Sequence[float]) -> Tensor:
    values, certainty = stack[: len(weights)], stack[len(weights) :] * np.array(weights)[:, None]
    total = combined(certainty, [1.0] * len(weights))
    weighted = combined(values * certainty, [1.0] * len(weights))
    return np.where(total > 0.0, weighted / total, combined(values, weights))


def _dot(one: Tensor, other: Tensor) -> float:
    # Not np.dot: its last bits differ by machine. NumPy's sum adds in pairs, in one fixed order.
    return float(np.sum(one * other))


def _steady(factor: float) -> float:
    # Sines differ in their last bit between C libraries; 33 of 53 bits do not, but once in a million.
    return float(np.float64(round(factor * 2.0**33)) / 2.0**33)


def _add_product(total: Tensor, matrix: Tensor, other: Tensor) -> None:
    """Add matrix @ other, one outer product at a time."""
    for column, row in zip(matrix.T, other, strict=True):
        total += column[:, None] * row


def _solved(matrix: Tensor, right: Tensor, where: str) -> Tensor:
    """Solve matrix @ x = right by Gauss's elimination, which a positive definite matrix needs no pivots for.

    Both are overwritten. Cholesky by LAPACK would be faster, and differ in its last bits by machine.
    """
    least = np.finfo(np.float64).eps * np.diagonal(matrix)
    for n in range(len(matrix)):
        if not matrix[n, n] > least[n]:
            raise VersionsError(f"{where}: its Gram matrices are singular or hold no number; lower `shrink`")
        below = matrix[n + 1 :, n] / matrix[n, n]
        matrix[n + 1 :, n + 1 :] -= below[:, None] * matrix[n, n + 1 :]
        right[n + 1 :] -= below[:, None] * right[n]
    for n in reversed(range(len(matrix))):
        right[n] /= matrix[n, n]
        right[:n] -= matrix[:n, n][:, None] * right[n]
    return right
