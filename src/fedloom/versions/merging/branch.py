"""What a branch strategy is: one tensor of a base and of several heads becomes one tensor. Merging branches uses them.

Rules: pure, and bit for bit the same on every machine: float64 in the order of the heads, elementary operations only
(no matrix product, no fused multiply-add), rounded once to the dtype at the end. Only the ratio of the weights
matters. An `id` such as `ties/1` names one behaviour for good: recipes hold it. A new behaviour is a new number.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedloom.errors import RefusedError, VersionsError
from fedloom.values import Tensor, is_floating, tensor_spec


@dataclass(frozen=True, slots=True)
class Extras:
    """What a strategy may need beside the tensors.

    path: where the tensor stands, such as `model/head.weight`: seeds differ by it, and errors name it.
    fisher: of each head, in their order, the diagonal of the Fisher information, of the tensor's shape, or None.
    gram: of each head the sum of x x^T over the rows x that entered the layer, shape (inputs, inputs), or None.
    """

    path: str = ""
    fisher: Sequence[Tensor | None] = ()
    gram: Sequence[Tensor | None] = ()


NO_EXTRAS = Extras()


class BranchStrategy(ABC):
    """A way to make one tensor of those that several branches have."""

    __slots__ = ()

    id: ClassVar[str]
    """Name and version, such as `ties/1`."""
    needs: ClassVar[tuple[str, ...]] = ()
    """The fields of `Extras` it cannot do without."""
    needs_base: ClassVar[bool] = False
    """True when it combines changes, so it cannot merge what the base has not."""
    takes: ClassVar[int | None] = None
    """The head whose value it takes as it is, so that it decides about anything, not only about tensors."""
    most: ClassVar[int | None] = None
    """Most heads it can merge; None for any number."""

    @property
    def least(self) -> int:
        """Fewest heads it can merge."""
        return 1

    def merge(
        self, base: Tensor | None, heads: Sequence[Tensor], weights: Sequence[float], extras: Extras = NO_EXTRAS
    ) -> Tensor:
        """Merge tensors of one shape and dtype into a new one; raises VersionsError where that cannot be."""
        self._check(base, heads, weights, extras)
        with np.errstate(all="ignore"):
            merged = self._merged(base, heads, shares(weights), extras)
        if is_floating(merged) and not _finite(merged) and all(map(_finite, heads)):
            raise VersionsError(
                f"{self.id} of '{extras.path}' is beyond the range of its dtype: choose another strategy"
            )
        return merged

    @abstractmethod
    def _merged(self, base: Tensor | None, heads: Sequence[Tensor], weights: Sequence[float], extras: Extras) -> Tensor:
        """Merge what has been checked; the weights sum to 1."""

    def _check(self, base: Tensor | None, heads: Sequence[Tensor], weights: Sequence[float], extras: Extras) -> None:
        where, count = f"{self.id} cannot merge '{extras.path}'", len(heads)
        if count < self.least:
            raise VersionsError(f"{where}: it needs {self.least} heads or more, got {count}")
        if self.most is not None and count > self.most:
            raise VersionsError(f"{where}: it is for {self.most} heads, got {count}")
        if len(weights) != count or not all(0.0 < weight < math.inf for weight in weights):
            raise VersionsError(f"{where}: it needs a positive, finite weight for each of the {count} heads")
        if base is None and self.needs_base:
            raise VersionsError(f"{where}: it combines changes, and the branches' common base has no such tensor")
        specs = [tensor_spec("", array) for array in (*heads, *([] if base is None else [base]))]
        if odd := next((spec for spec in specs if spec != specs[0]), None):
            told = " and ".join(f"{spec.dtype} {list(spec.shape)}" for spec in (specs[0], odd))
            raise VersionsError(f"{where}: its versions are {told}; they must be alike")


def shares(weights: Sequence[float]) -> list[float]:
    """Scale weights so that they sum to 1."""
    greatest = max(weights)
    scaled = [weight / greatest for weight in weights]
    total = math.fsum(scaled)
    return [weight / total for weight in scaled]


def needed(name: str, arrays: Sequence[Tensor | None], heads: int, strategy: str, path: str) -> list[Tensor]:
    """Demand one array a head; raises RefusedError that names what is missing."""
    missing = [n + 1 for n in range(heads) if n >= len(arrays) or arrays[n] is None]
    if missing:
        which = ", ".join(map(str, missing))
        raise RefusedError(
            f"strategy needs missing data: {strategy} cannot merge '{path}' without {name} of head {which}. "
            f"Commit statistics/{name} beside the model, or choose another strategy"
        )
    return [array for array in arrays if array is not None]


def keep_agreed(merged: Tensor, arrays: Sequence[Tensor]) -> Tensor:
    """Where all arrays hold the same, put that, exactly: there float64 would round 64-bit numbers and lose -0.0."""
    first = arrays[0]
    agreed = np.ones(first.shape, dtype=np.bool_)
    for array in arrays[1:]:
        agreed &= array == first
        if is_floating(first):
            agreed &= np.signbit(array) == np.signbit(first)
    np.copyto(merged, first, where=agreed)
    return merged


def _finite(array: Tensor) -> bool:
    return bool(np.isfinite(array).all())
