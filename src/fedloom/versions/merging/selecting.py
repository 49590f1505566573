"""Branch strategies that take one head's value as it is: ours, theirs, krum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedloom.values import Contribution, Tensor, sha256, tensor_bytes
from fedloom.versions.merging.branch import BranchStrategy, Extras
from fedloom.versions.merging.robust import Krum, most_central


@dataclass(frozen=True, slots=True)
class Ours(BranchStrategy):
    """The first head: the branch that is merged into."""

    id: ClassVar[str] = "ours/1"
    takes: ClassVar[int | None] = 0

    def _merged(self, base: Tensor | None, heads: Sequence[Tensor], weights: Sequence[float], extras: Extras) -> Tensor:  # noqa: ARG002 - the signature of all
        return heads[0].copy()


@dataclass(frozen=True, slots=True)
class Theirs(BranchStrategy):
    """The second of two heads: the branch that is merged; among more, "theirs" would mean nothing."""

    id: ClassVar[str] = "theirs/1"
    takes: ClassVar[int | None] = 1
    most: ClassVar[int | None] = 2

    @property
    def least(self) -> int:
        """Two: there must be an other."""
        return 2

    def _merged(self, base: Tensor | None, heads: Sequence[Tensor], weights: Sequence[float], extras: Extras) -> Tensor:  # noqa: ARG002 - the signature of all
        return heads[1].copy()


@dataclass(frozen=True, slots=True)
class BranchKrum(BranchStrategy):
    """The head closest to the others, tensor by tensor; Blanchard et al. 2017, arXiv 1703.02757.

    num_malicious: how many heads may be malicious (`f` of the paper); needs 2f + 3 heads. Weights do not count.
    """

    num_malicious: int = 0

    id: ClassVar[str] = "krum/1"

    def __post_init__(self) -> None:
        Krum(self.num_malicious)

    @property
    def least(self) -> int:
        """Fewest heads among which the paper's guarantee holds."""
        return Krum(self.num_malicious).minimum

    def _merged(self, base: Tensor | None, heads: Sequence[Tensor], weights: Sequence[float], extras: Extras) -> Tensor:  # noqa: ARG002 - the signature of all
        origin = np.zeros_like(heads[0]) if base is None else base
        # Named by what they are, not by their place, so that equal scores are told apart whatever the order.
        held = [Contribution(sha256(tensor_bytes(head)), {"": head}, 1.0) for head in heads]
        (chosen,) = most_central({"": origin}, held, self.num_malicious, 1)
        return chosen.tensors[""].copy()
