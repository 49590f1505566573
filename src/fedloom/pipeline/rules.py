"""Gate rules, pure: `auc >= 0.8`, `worst.accuracy >= 0.6`, `participation == complete`, `worse_off <= 1`.

A figure is `METRIC` (all rows pooled), `unweighted.METRIC` (sites count the same), `worst.METRIC` (the worst site),
`worse_off` (sites that do better alone) or `participation` (the worst verdict of any round of the run).
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fedloom.errors import nearest
from fedloom.telemetry.metrics import HIGHER_IS_BETTER

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}
_SCOPES = ("", "unweighted.", "worst.")
FIGURES = (*(scope + name for scope in _SCOPES for name in HIGHER_IS_BETTER), "worse_off", "participation")
VERDICTS = ("complete", "partial-allowed")


@dataclass(frozen=True, slots=True)
class Rule:
    """One condition on one figure."""

    figure: str
    sign: str
    bound: float | str

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read a rule; raises ValueError that says what is allowed."""
        found = re.fullmatch(r"\s*([a-z0-9_.]+)\s*(>=|<=|==|>|<)\s*([a-z0-9.+-]+)\s*", text)
        if not found:
            raise ValueError(f"'{text}' is no rule; write FIGURE >= NUMBER, such as `auc >= 0.8`")
        figure, sign, bound = found.groups()
        if figure not in FIGURES:
            raise ValueError(f"no figure '{figure}'; {nearest(figure, FIGURES)}")
        if figure == "participation":
            if sign != "==" or bound not in VERDICTS:
                raise ValueError(f"write `participation == {VERDICTS[0]}` or `== {VERDICTS[1]}`")
            return cls(figure, sign, bound)
        try:
            number = float(bound)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"'{bound}' is no number in the rule '{text}'")
        return cls(figure, sign, number)

    def holds(self, figures: Mapping[str, float | str | None]) -> bool:
        """Whether the figures keep the rule; an undefined figure keeps none."""
        value = figures.get(self.figure)
        if self.figure == "participation":
            return value in ("complete", self.bound)
        return value is not None and _OPERATORS[self.sign](value, self.bound)

    def __str__(self) -> str:
        bound = self.bound if isinstance(self.bound, str) else f"{self.bound:g}"
        return f"{self.figure} {self.sign} {bound}"
