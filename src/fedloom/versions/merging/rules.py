"""Rules of a merge: which strategy decides about which names, as `GLOB=STRATEGY[:OPTION=VALUE,...]`.

Rules of this module: the first glob that fits decides. A glob is held against the name inside the model
(`head.weight`) and against the whole path (`model/head.weight`, `preprocessing/scaling/mean`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from fedloom.errors import SpecError
from fedloom.versions.merging.branch import BranchStrategy
from fedloom.versions.merging.catalog import branch_strategy

MODEL = "model/"


@dataclass(frozen=True, slots=True)
class Rule:
    """One glob and the strategy for what it fits."""

    glob: str
    strategy: BranchStrategy

    def fits(self, path: str) -> bool:
        """Whether it decides about an entry of the commit's tree."""
        inside = path.removeprefix(MODEL)
        return fnmatchcase(path, self.glob) or (inside != path and fnmatchcase(inside, self.glob))


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules in order, and what decides where none fits (None: nothing does, it is a conflict)."""

    rules: tuple[Rule, ...] = ()
    otherwise: BranchStrategy | None = None

    def strategy(self, path: str) -> BranchStrategy | None:
        """Find the strategy for an entry of the commit's tree, such as `model/head.weight`."""
        return next((rule.strategy for rule in self.rules if rule.fits(path)), self.otherwise)

    def unused(self, paths: Iterable[str]) -> list[str]:
        """List the globs that fit none of the paths: probably misspelt."""
        paths = list(paths)
        return [rule.glob for rule in self.rules if not any(rule.fits(path) for path in paths)]


def parse_rules(texts: Iterable[str], strategy: str | None = None) -> Rules:
    """Read rules such as `head.*=ours`, and the strategy for all else; raises SpecError that says what is wrong."""
    return Rules(tuple(map(parse_rule, texts)), None if strategy is None else parse_strategy(strategy))


def parse_rule(text: str) -> Rule:
    """Read one rule, such as `head.*=ties:density=0.2,scaling=0.7`."""
    glob, equals, strategy = text.partition("=")
    if not (glob.strip() and equals and strategy.strip()):
        raise SpecError(f"rule '{text}' must be GLOB=STRATEGY, such as 'head.*=ours' or 'head.*=ties:density=0.2'")
    try:
        return Rule(glob.strip(), parse_strategy(strategy))
    except SpecError as error:
        raise SpecError(f"rule '{text}': {error}") from None


def parse_strategy(text: str) -> BranchStrategy:
    """Read a strategy with its options, such as `ties:density=0.2`."""
    name, _, options = text.partition(":")
    parts = [part for part in options.split(",") if part.strip()]
    return branch_strategy(name.strip(), dict(map(_option, parts)))


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name.strip() and equals and value.strip()):
        raise SpecError(f"option '{text.strip()}' must be NAME=VALUE")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value.strip()
