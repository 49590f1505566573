"""Faults to inject into a run, by round: lost sites, slow sites, corrupt and duplicate replies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong in one round.

    drop: sites whose connection is lost before they answer.
    delay: seconds a site is slower; simulated time, it counts against the deadline but nobody waits for it.
    corrupt: sites whose reply loses a byte on the way.
    duplicate: sites whose reply is delivered twice.
    """

    drop: frozenset[str] = frozenset()
    delay: Mapping[str, float] = field(default_factory=dict)
    corrupt: frozenset[str] = frozenset()
    duplicate: frozenset[str] = frozenset()

    def sites(self) -> frozenset[str]:
        """Name every site this touches."""
        return self.drop | frozenset(self.delay) | self.corrupt | self.duplicate


@dataclass(frozen=True, slots=True)
class Scenario:
    """Faults by round number; they hit the exchanges named in `verbs` only."""

    rounds: Mapping[int, Faults] = field(default_factory=dict)
    verbs: frozenset[str] = frozenset({"train"})

    def faults(self, verb: str, round_number: int) -> Faults:
        """Find what goes wrong in this exchange."""
        return self.rounds.get(round_number, Faults()) if verb in self.verbs else Faults()
