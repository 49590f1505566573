"""Strategies that a few faulty or malicious sites cannot steer: median, trimmed mean, Krum and Multi-Krum.

Rules: they compare contributions, so all are held until the last has come, and none works on a secure sum.
Median and trimmed mean ignore the weights, which a malicious site could overstate; so does Krum's choice, but
what it chose is averaged by weight, as Flower does. A NaN counts as larger than every number: it is cut off
like any outlier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from fedloom.values import Contribution, Tensor, Tensors
from fedloom.versions.merging.coordinates import by_coordinate, stacks
from fedloom.versions.merging.fedavg import checked, weighted_mean
from fedloom.versions.merging.strategy import MergeResult


@dataclass(frozen=True, slots=True)
class CoordinateMedian:
    """Median of each coordinate; Yin et al. 2018, algorithm 1 option I, arXiv 1803.01498."""

    streams = False
    linear = False
    minimum = 1
    proximal_mu = 0.0

    def merge(self, base: Tensors, contributions: Iterable[Contribution], state: Tensors) -> MergeResult:  # noqa: ARG002 - the Protocol's signature
        """Take medians; keeps no state. Raises ValueError as `checked` does."""
        held = [contribution.tensors for contribution in checked(base, contributions, self.minimum)]
        return MergeResult(_by_coordinate(base, held, partial(trimmed_mean, cut=(len(held) - 1) // 2)))


@dataclass(frozen=True, slots=True)
class TrimmedMean:
    """Mean of each coordinate without its extremes; Yin et al. 2018, algorithm 1 option II, arXiv 1803.01498.

    beta: fraction of the contributions cut off at either end, rounded down to a whole number of them.
    """

    beta: float = 0.2

    streams = False
    linear = False
    minimum = 1
    proximal_mu = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.beta < 0.5:
            raise ValueError(f"beta must be at least 0 and below 0.5, got {self.beta}")

    def merge(self, base: Tensors, contributions: Iterable[Contribution], state: Tensors) -> MergeResult:  # noqa: ARG002 - the Protocol's signature
        """Take trimmed means; keeps no state. Raises ValueError as `checked` does."""
        held = [contribution.tensors for contribution in checked(base, contributions, self.minimum)]
        return MergeResult(_by_coordinate(base, held, partial(trimmed_mean, cut=int(self.beta * len(held)))))


@dataclass(frozen=True, slots=True)
class Krum:
    """The one contribution that lies closest to the others; Blanchard et al. 2017, arXiv 1703.02757.

    num_malicious: how many sites may be malicious (`f` of the paper); needs 2f + 3 contributions.
    """

    num_malicious: int = 0

    streams = False
    linear = False
    proximal_mu = 0.0

    def __post_init__(self) -> None:
        _check_count("num_malicious", self.num_malicious, least=0)

    @property
    def minimum(self) -> int:
        """Fewest contributions among which the paper's guarantee holds (2f + 2 < n)."""
        return 2 * self.num_malicious + 3

    def merge(self, base: Tensors, contributions: Iterable[Contribution], state: Tensors) -> MergeResult:  # noqa: ARG002 - the Protocol's signature
        """Choose one; keeps no state. Raises ValueError as `checked` does."""
        held = list(checked(base, contributions, self.minimum))
        chosen = most_central(base, held, self.num_malicious, 1)
        return MergeResult(weighted_mean(base, chosen))


@dataclass(frozen=True, slots=True)
class MultiKrum:
    """Mean of the contributions closest to the others; Blanchard et al. 2017, arXiv 1703.02757.

    num_malicious: as for Krum. num_selected: how many are averaged (`m` of the paper); 1 is Krum.
    """

    num_malicious: int = 0
    num_selected: int = 1

    streams = False
    linear = False
    proximal_mu = 0.0

    def __post_init__(self) -> None:
        _check_count("num_malicious", self.num_malicious, least=0)
        _check_count("num_selected", self.num_selected, least=1)

    @property
    def minimum(self) -> int:
        """Fewest contributions: Krum's, and as many as are averaged."""
        return max(2 * self.num_malicious + 3, self.num_selected)

    def merge(self, base: Tensors, contributions: Iterable[Contribution], state: Tensors) -> MergeResult:  # noqa: ARG002 - the Protocol's signature
        """Choose and average by weight; keeps no state. Raises ValueError as `checked` does."""
        held = list(checked(base, contributions, self.minimum))
        chosen = most_central(base, held, self.num_malicious, self.num_selected)
        return MergeResult(weighted_mean(base, chosen))


def _by_coordinate(base: Tensors, held: Sequence[Tensors], reduce: Callable[[Tensor], Tensor]) -> Tensors:
    """Reduce each coordinate's values, one a site, to one."""
    return {name: by_coordinate(like, [tensors[name] for tensors in held], reduce) for name, like in base.items()}


def trimmed_mean(stack: Tensor, *, cut: int) -> Tensor:
    """Average along the first axis without the `cut` least and the `cut` greatest."""
    stop = len(stack) - cut
    kept: Tensor = np.partition(stack, (cut, stop - 1), axis=0)[cut:stop]
    return np.asarray(kept.mean(axis=0))


def most_central(base: Tensors, held: Sequence[Contribution], num_malicious: int, count: int) -> Iterator[Contribution]:
    """Choose the `count` contributions with the least Krum scores, in the order they came."""
    distances = _squared_distances(base, [contribution.tensors for contribution in held])
    np.fill_diagonal(distances, np.inf)  # nobody is their own neighbour
    closest = np.sort(distances, axis=1)[:, : len(held) - num_malicious - 2]
    sums = closest.sum(axis=1)
    scores = np.where(np.isnan(sums), np.inf, sums)
    # Two that are each other's nearest may score the same: then the site's name decides, not who came first.
    best = sorted(range(len(held)), key=lambda index: (scores[index], held[index].site))[:count]
    return (held[index] for index in sorted(best))


def _squared_distances(base: Tensors, held: Sequence[Tensors]) -> Tensor:
    """Squared distances between the models, |x|^2 + |y|^2 - 2xy, summed over parts of tensors; shape (n, n).

    Taken between the updates: they are small, so less cancels in the subtraction than between whole models.
    """
    gram = np.zeros((len(held), len(held)))
    # A model with NaN or infinities gets NaN as its distances: `most_central` takes that for infinitely far.
    with np.errstate(invalid="ignore", over="ignore"):
        for name, start in base.items():
            origin = start.reshape(-1)
            for part, stack in stacks([tensors[name] for tensors in held]):
                updates = np.subtract(stack, origin[part], out=stack)
                gram += updates @ updates.T
        norms = np.diag(gram)
        return np.maximum(norms[:, None] + norms[None, :] - 2.0 * gram, 0.0)


def _check_count(name: str, value: int, *, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
