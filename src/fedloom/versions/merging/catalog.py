"""All merge strategies by the names a pipeline file uses; their options are the classes' fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fedloom.versions.merging.fedavg import FedAvg, FedProx
from fedloom.versions.merging.fedopt import FedAdagrad, FedAdam, FedYogi
from fedloom.versions.merging.robust import CoordinateMedian, Krum, MultiKrum, TrimmedMean
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
