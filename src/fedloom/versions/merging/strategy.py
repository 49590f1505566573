"""What a merge strategy is: `merge(base, contributions, state) -> MergeResult`. A federated round is a merge.

Rules: pure functions; sums are float64 in the order the contributions arrive (the engine hands them over in a
fixed order), so one seed gives one digest; the result has the base's names, shapes and dtypes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from fedloom.values import Contribution, Tensors


@dataclass(frozen=True, slots=True)
class MergeResult:
    """The merged tensors, and the strategy's own state for the next round (empty for most)."""

    tensors: Tensors
    state: Tensors = field(default_factory=dict)


class MergeStrategy(Protocol):
    """A way to make one model of many."""

    @property
    def streams(self) -> bool:
        """True when contributions are folded one at a time and never held: memory does not grow with sites."""
        ...

    @property
    def linear(self) -> bool:
        """True when only the weighted sum of the contributions matters, so a secure sum can feed it."""
        ...

    @property
    def minimum(self) -> int:
        """Fewest contributions it can work with; the plan refuses a policy that allows fewer."""
        ...

    @property
    def proximal_mu(self) -> float:
        """Weight of the proximal term sites train with; 0 everywhere but in FedProx."""
        ...

    def merge(self, base: Tensors, contributions: Iterable[Contribution], state: Tensors) -> MergeResult:
        """Merge contributions (consumed once, in order) onto `base`.

        `state` is what the previous merge returned, {} in the first round.
        Raises ValueError when there are fewer than `minimum` contributions.
        """
        ...
