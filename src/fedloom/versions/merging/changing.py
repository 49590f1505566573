"""Branch strategies that combine the heads' changes since the base: task_arithmetic, ties, dare."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from fedloom.values import Tensor, generator, sha256, tensor_bytes
from fedloom.versions.merging.branch import BranchStrategy, Extras, keep_agreed
from fedloom.versions.merging.coordinates import by_coordinate, combined

_CANCELLED = 2.0**-40
"""Changes whose sum is below this share of their sizes have cancelled out: its sign is that of a rounding error."""


@dataclass(frozen=True, slots=True)
class TaskArithmetic(BranchStrategy):
    """The base and the scaled sum of all changes; Ilharco et al. 2022, arXiv 2212.04089.

    scaling: factor on the sum (lambda of the paper). A change counts by its head's weight over the mean weight.
    """

    scaling: float = 1.0

    id: ClassVar[str] = "task_arithmetic/1"
    needs_base: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_scaling(self.scaling)

    def _merged(self, base: Tensor | None, heads: Sequence[Tensor], weights: Sequence[float], extras: Extras) -> Tensor:  # noqa: ARG002 - the signature of all
        assert base is not None, "checked before"
        factors = [self.scaling * len(heads) * weight for weight in weights]
        return keep_agreed(by_coordinate(base, [base, *heads], partial(_moved, factors=factors)), [base, *heads])


@dataclass(frozen=True, slots=True)
class Ties(BranchStrategy):
    """Trim small changes, elect a sign, average those that agree with it; Yadav et al. 2023, arXiv 2306.01708.

    density: fraction of a tensor's changes that is kept of each head, the greatest (k of the paper).
    scaling: factor on what is added to the base (lambda). Weights count in the election and in the average.
    Where the changes cancel out, no sign is elected and the base stays.
    """

    density: float = 0.2
    scaling: float = 1.0

    id: ClassVar[str] = "ties/1"
    needs_base: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.0 < self.density <= 1.0:
            raise ValueError(f"density must be above 0 and at most 1, got {self.density}")
        _check_scaling(self.scaling)

    def _merged(self, base: Tensor | None, heads: Sequence[Tensor], weights: Sequence[float], extras: Extras) -> Tensor:  # noqa: ARG002 - the signature of all
        assert base is not None, "checked before"
        least = [self._least(base, head) for head in heads]
        elect = partial(_elected, least=least, weights=weights, scaling=self.scaling)
        return keep_agreed(by_coordinate(base, [base, *heads], elect), [base, *heads])

    def _least(self, base: Tensor, head: Tensor) -> float:
        """Size of the smallest change that is kept (step 1); all of that size are."""
        sizes = np.abs(head.reshape(-1).astype(np.float64) - base.reshape(-1).astype(np.float64))
        if not sizes.size:
            return 0.0
        cut = sizes.size - max(1, round(self.density * sizes.size))
        return float(np.partition(sizes, cut)[cut])


@dataclass(frozen=True, slots=True)
class Dare(BranchStrategy):
    """Drop changes at random, scale up the rest, average by weight; Yu et al. 2023, arXiv 2311.03099.

    drop: probability that a change is dropped. seed: of the draw, which differs by tensor and by head, so the
    order of the heads does not matter. The expectation is the mean by weight; the variance grows with `drop`.
    """

    drop: float = 0.5
    seed: int = 0

    id: ClassVar[str] = "dare/1"
    needs_base: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.drop < 1.0:
            raise ValueError(f"drop must be at least 0 and below 1, got {self.drop}")
        if not 0 <= self.seed < 2**53:
            raise ValueError(f"seed must be at least 0 and below 2^53, got {self.seed}")  # a recipe is JSON

    def _merged(self, base: Tensor | None, heads: Sequence[Tensor], weights: Sequence[float], extras: Extras) -> Tensor:
        assert base is not None, "checked before"
        words = [("dare", self.seed, extras.path, sha256(tensor_bytes(head))) for head in heads]
        draws = [generator(*of_head).bit_generator for of_head in words]

        def sparse(stack: Tensor) -> Tensor:
            for row, draw in zip(stack[1:], draws, strict=True):
                # Raw bits: of all that NumPy draws, only these are promised to stay the same for good.
                dropped = draw.random_raw(row.size) < np.uint64(self.drop * 2.0**64)
                np.copyto(row, stack[0], where=dropped)
            return _moved(stack, [weight / (1.0 - self.drop) for weight in weights])

        return keep_agreed(by_coordinate(base, [base, *heads], sparse), [base, *heads])


def _moved(stack: Tensor, factors: Sequence[float]) -> Tensor:
    return np.asarray(stack[0] + combined(stack[1:] - stack[0], factors))


def _elected(stack: Tensor, *, least: Sequence[float], weights: Sequence[float], scaling: float) -> Tensor:
    """Steps 2 and 3 of TIES over trimmed changes."""
    changes = stack[1:] - stack[0]
    changes[np.abs(changes) < np.array(least)[:, None]] = 0.0
    balance, whole = combined(changes, weights), combined(np.abs(changes), weights)
    agree = (np.sign(changes) == np.sign(balance)) & (np.abs(balance) > _CANCELLED * whole)
    total = combined(agree, weights)
    mean = combined(np.where(agree, changes, 0.0), weights) / np.where(total > 0.0, total, 1.0)
    return np.asarray(stack[0] + scaling * mean)


def _check_scaling(scaling: float) -> None:
    if not 0.0 < scaling < math.inf:
        raise ValueError(f"scaling must be a positive, finite number, got {scaling}")
