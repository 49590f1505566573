"""FedAvg and FedProx, and the streaming weighted mean that every averaging strategy folds with.

Rules: contributions are folded one at a time and none is held. Sums are float64, taken block by block, so
folding needs the sums (twice a float32 model) and two blocks; at the end each is freed as it is converted.
Integers beyond 2**53 lose their last digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from fedloom.values import Contribution, Tensor, Tensors, tensor_spec
from fedloom.versions.merging.coordinates import narrowed
from fedloom.versions.merging.strategy import MergeResult

BLOCK = 1 << 16
"""Elements that are widened to float64 at once: 512 KiB, small enough for a processor's cache."""


@dataclass(frozen=True, slots=True)
class FedAvg:
    """Mean of the contributions by weight; McMahan et al. 2017, algorithm 1, arXiv 1602.05629."""

    streams = True
    linear = True
    minimum = 1
    proximal_mu = 0.0

    def merge(self, base: Tensors, contributions: Iterable[Contribution], state: Tensors) -> MergeResult:  # noqa: ARG002 - the Protocol's signature
        """Average; keeps no state. Raises ValueError as `checked` does."""
        return MergeResult(weighted_mean(base, checked(base, contributions, self.minimum)))


@dataclass(frozen=True, slots=True)
class FedProx(FedAvg):
    """FedAvg whose sites add mu/2 * |w - base|^2 to their loss; Li et al. 2020, arXiv 1812.06127.

    proximal_mu: that mu; 0 is FedAvg.
    """

    proximal_mu: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.proximal_mu < math.inf:
            raise ValueError(f"proximal_mu must be a finite number of at least 0, got {self.proximal_mu}")


def checked(base: Tensors, contributions: Iterable[Contribution], minimum: int) -> Iterator[Contribution]:
    """Pass contributions on, holding none; raises ValueError at one that does not fit, or if too few came."""
    count = 0
    for contribution in contributions:
        _check_weight(contribution)
        _check_layout(base, contribution)
        count += 1
        yield contribution
        del contribution  # or it would live on while the next one is made
    if count < minimum:
        raise ValueError(f"at least {minimum} contribution(s) are needed to merge, got {count}")


def weighted_mean(base: Tensors, contributions: Iterable[Contribution]) -> Tensors:
    """Average checked contributions into tensors of the base's names, shapes and dtypes."""
    sums, total = weighted_sum(base, contributions)
    return {name: narrowed(np.divide(sum_, total, out=sum_), base[name]) for name, sum_ in drained(sums)}


def weighted_sum(base: Tensors, contributions: Iterable[Contribution]) -> tuple[dict[str, Tensor], float]:
    """Fold checked contributions into float64 sums of weight * tensor, and the sum of the weights."""
    sums: dict[str, Tensor] = {name: np.zeros(array.shape) for name, array in base.items()}
    scratch = np.empty(BLOCK)
    total = 0.0
    for contribution in contributions:
        for name, sum_ in sums.items():
            _add(sum_, contribution.tensors[name], contribution.weight, scratch)
        total += contribution.weight
        del contribution  # or it would live on while the next one is made
    return sums, total


def drained(tensors: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Hand over each tensor and forget it, so that it is freed as soon as the caller is done with it."""
    for name in tuple(tensors):
        yield name, tensors.pop(name)


def _add(sum_: Tensor, array: Tensor, weight: float, scratch: Tensor) -> None:
    # nditer widens a block at a time, whatever the array's dtype, byte order and memory order.
    with np.nditer(
        [array, sum_],
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_flags=[["readonly"], ["readwrite"]],
        op_dtypes=["f8", "f8"],
        order="C",
        buffersize=BLOCK,
    ) as blocks:
        for values, sums in blocks:
            product = np.multiply(values, weight, out=scratch[: values.size])
            np.add(sums, product, out=sums)


def _check_weight(contribution: Contribution) -> None:
    if not 0.0 < contribution.weight < math.inf:
        raise ValueError(
            f"site '{contribution.site}' counts with weight {contribution.weight}; a weight must be positive and finite"
        )


def _check_layout(base: Tensors, contribution: Contribution) -> None:
    tensors = contribution.tensors
    if tensors.keys() != base.keys():
        name = min(tensors.keys() ^ base.keys())
        problem = "is missing" if name in base else "is not in the base model"
        raise ValueError(f"site '{contribution.site}': tensor '{name}' {problem}")
    for name, wanted in base.items():
        got = tensors[name]
        if got.dtype == wanted.dtype and got.shape == wanted.shape:
            continue
        is_, must = tensor_spec(name, got), tensor_spec(name, wanted)  # these do not mind the byte order
        if is_ != must:
            raise ValueError(
                f"site '{contribution.site}': tensor '{name}' is {is_.dtype} {list(is_.shape)}, "
                f"the base model has {must.dtype} {list(must.shape)}"
            )
