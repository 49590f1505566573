"""All merge strategies by the names a pipeline file or a merge uses; their options are the classes' fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

from fedloom.errors import SpecError, VersionsError, nearest
from fedloom.versions.merging.averaging import BranchTrimmedMean, Fisher, Mean, Median, RegMean, Slerp, WeightedMean
from fedloom.versions.merging.branch import BranchStrategy
from fedloom.versions.merging.changing import Dare, TaskArithmetic, Ties
from fedloom.versions.merging.fedavg import FedAvg, FedProx
from fedloom.versions.merging.fedopt import FedAdagrad, FedAdam, FedYogi
from fedloom.versions.merging.robust import CoordinateMedian, Krum, MultiKrum, TrimmedMean
from fedloom.versions.merging.selecting import BranchKrum, Ours, Theirs
from fedloom.versions.merging.strategy import MergeStrategy

STRATEGIES: Mapping[str, Callable[..., MergeStrategy]] = {
    "fedavg": FedAvg,
    "fedprox": FedProx,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
    "fedadagrad": FedAdagrad,
    "median": CoordinateMedian,
    "trimmed_mean": TrimmedMean,
    "krum": Krum,
    "multi_krum": MultiKrum,
}
"""Of a round: whole models of sites."""

BRANCH_STRATEGIES: Mapping[str, type[BranchStrategy]] = {
    "ours": Ours,
    "theirs": Theirs,
    "mean": Mean,
    "weighted_mean": WeightedMean,
    "task_arithmetic": TaskArithmetic,
    "ties": Ties,
    "dare": Dare,
    "slerp": Slerp,
    "fisher": Fisher,
    "regmean": RegMean,
    "trimmed_mean": BranchTrimmedMean,
    "median": Median,
    "krum": BranchKrum,
}
"""Of a merge of branches: one tensor at a time."""


def branch_strategy(name: str, options: Mapping[str, Any] | None = None) -> BranchStrategy:
    """Make a branch strategy; raises SpecError for an unknown name, an unknown option or a wrong value."""
    if name not in BRANCH_STRATEGIES:
        raise SpecError(f"no strategy '{name}' to merge branches with; {nearest(name, BRANCH_STRATEGIES)}")
    cls = BRANCH_STRATEGIES[name]
    types = get_type_hints(cls)
    allowed = [item.name for item in dataclasses.fields(cls)]  # type: ignore[arg-type]  # each is a dataclass
    for option, value in (options or {}).items():
        if option not in allowed:
            known = nearest(option, allowed) if allowed else "it has no options"
            raise SpecError(f"'{name}' has no option '{option}'; {known}")
        if not _fits(value, types[option]):
            raise SpecError(f"option '{option}' of '{name}' must be {_described(types[option])}")
    try:
        return cls(**(options or {}))
    except ValueError as error:
        raise SpecError(f"'{name}': {error}") from None


def as_settings(strategy: BranchStrategy) -> dict[str, Any]:
    """Describe a strategy for a recipe: `use`, such as `ties/1`, and every option."""
    return {"use": strategy.id, **dataclasses.asdict(strategy)}  # type: ignore[call-overload]  # each is a dataclass


def from_settings(settings: Mapping[str, Any]) -> BranchStrategy:
    """Make the strategy a recipe names; raises VersionsError where this fedloom lacks it."""
    options = dict(settings)
    use = options.pop("use", None)
    name = next((name for name, cls in BRANCH_STRATEGIES.items() if cls.id == use), None)
    if name is None:
        raise VersionsError(f"strategy '{use}' is unknown to this fedloom: upgrade fedloom")
    return branch_strategy(name, options)


def _fits(value: Any, wanted: Any) -> bool:
    types = get_args(wanted) if isinstance(wanted, UnionType) else (wanted,)
    accepted = (*types, int) if float in types else types
    return isinstance(value, accepted) and not isinstance(value, bool)


def _described(wanted: Any) -> str:
    types = get_args(wanted) if isinstance(wanted, UnionType) else (wanted,)
    words = {float: "a number", int: "a whole number", NoneType: "null"}
    return " or ".join(words[one] for one in types)
