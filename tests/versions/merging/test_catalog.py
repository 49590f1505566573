"""The catalogue of merge strategies."""

import json
from dataclasses import replace

import pytest
import rfc8785

from fedloom.errors import VersionsError
from fedloom.versions.merging.averaging import RegMean
from fedloom.versions.merging.catalog import (
    BRANCH_STRATEGIES,
    STRATEGIES,
    as_settings,
    branch_strategy,
    from_settings,
)
from fedloom.versions.merging.changing import Dare, Ties
from tests.suites.merge_strategy import BASE, contributions

OPTIONS = {"fedprox": {"proximal_mu": 0.1}}


def test_names():
    """These are the names a pipeline file may use."""
    assert list(STRATEGIES) == [
        "fedavg",
        "fedprox",
        "fedadam",
        "fedyogi",
        "fedadagrad",
        "median",
        "trimmed_mean",
        "krum",
        "multi_krum",
    ]


def test_each_can_be_made_and_merges():
    """Every entry is a strategy; all but FedProx work without options."""
    for name, make in STRATEGIES.items():
        strategy = make(**OPTIONS.get(name, {}))
        assert strategy.merge(BASE, iter(contributions()), {}).tensors.keys() == BASE.keys()


def test_only_fedprox_pulls_at_the_sites():
    """The proximal term is 0 everywhere else."""
    pulls = {name: make(**OPTIONS.get(name, {})).proximal_mu for name, make in STRATEGIES.items()}
    assert {name: mu for name, mu in pulls.items() if mu} == {"fedprox": 0.1}


def test_names_of_branch_strategies():
    """These are the names a merge may use; each has an id of its own, with its version."""
    assert list(BRANCH_STRATEGIES) == [
        *("ours", "theirs", "mean", "weighted_mean", "task_arithmetic", "ties", "dare", "slerp", "fisher", "regmean"),
        *("trimmed_mean", "median", "krum"),
    ]
    assert {name: cls.id for name, cls in BRANCH_STRATEGIES.items()} == {
        name: f"{name}/1" for name in BRANCH_STRATEGIES
    }


@pytest.mark.parametrize("strategy", [*(make() for make in BRANCH_STRATEGIES.values()), Ties(1.0), Dare(0.1, 2**40)])
def test_a_recipe_brings_a_strategy_back(strategy):
    """Through canonical JSON, where 1.0 is written 1, it comes out as it was."""
    settings = json.loads(rfc8785.dumps(as_settings(strategy)))
    assert from_settings(settings) == strategy
    assert rfc8785.dumps(as_settings(from_settings(settings))) == rfc8785.dumps(as_settings(strategy))


@pytest.mark.parametrize("use", ["ties/2", "ties", "sorcery/1", None])
def test_a_recipe_of_a_newer_fedloom_is_said(use):
    """A version that is unknown is not taken for the one that is known."""
    with pytest.raises(VersionsError, match="unknown to this fedloom: upgrade"):
        from_settings({"use": use, "density": 0.2})


def test_options_reach_the_strategy():
    """By name; the rest keep their defaults."""
    assert branch_strategy("ties", {"density": 0.5}) == replace(Ties(), density=0.5)
    assert branch_strategy("regmean", {"axis": None}) == RegMean()
