"""Figures of the federation beside its baselines, and what happens when a baseline cannot be had."""

import numpy as np
import pytest

from fedloom.engine.scenario import Faults, Scenario
from fedloom.errors import GateError, RoundFailedError
from fedloom.pipeline.features import scaling
from fedloom.versions.repository import Repository
from tests.projects import allow, edit, history, in_fit, made_project, project, run


def evaluation(home):
    return Repository.at(home).attestation(history(home)[-1], "evaluation").body


@pytest.mark.parametrize(("task", "figure"), [("binary", "auc"), ("multiclass", "auc"), ("regression", "rmse")])
def test_the_federation_stands_beside_its_baselines(tmp_path, task, figure):
    """Per site, pooled and unweighted; pooled baseline; each site alone, at home and everywhere; who is worse off."""
    home = made_project(tmp_path, task)
    run(home)
    found = evaluation(home)
    assert set(found) == {"federated", "pooled", "local", "local_everywhere", "worse_off"}
    for scope in (found["federated"], found["pooled"]):
        assert scope["pooled"][figure] is not None
        assert set(scope["sites"]) == {"site0", "site1", "site2"}
        rows = sum(site["rows"] for site in scope["sites"].values())
        assert scope["pooled"]["rows"] == rows
        mean = np.mean([site[figure] for site in scope["sites"].values()])
        np.testing.assert_allclose(scope["unweighted"][figure], mean)
    better = {
        site: (alone["rmse"] < found["federated"]["sites"][site]["rmse"])
        if task == "regression"
        else (alone["accuracy"] > found["federated"]["sites"][site]["accuracy"])
        for site, alone in found["local"]["sites"].items()
    }
    assert found["worse_off"] == sorted(site for site, is_better in better.items() if is_better)


def test_the_fitted_scaling_is_that_of_all_training_rows(tmp_path):
    """What the root commit holds is the mean and scale of the pooled baseline's own rows."""
    home = made_project(tmp_path, "binary")
    run(home)
    repository = Repository.at(home)
    parts = repository.tree(repository.part(history(home)[0], "preprocessing").id)
    found = repository.tensors(parts["scaling"].id)
    assert set(found) == {"mean", "scale"}
    assert found["mean"].shape == (4,)  # x, z, kind=q, kind=r
    assert 990 < found["mean"][1] < 1010
    assert set(scaling({"moments": np.ones((3, 4))})) == set(found)


def test_a_site_missing_from_a_baseline_leaves_worse_off_undefined(tmp_path):
    """Nobody knows then how many are worse off: the figure is left out, and a rule on it does not hold."""
    home = project(tmp_path, rounds=2)
    allow(home, "{min_sites: 2}")
    edit(home / "pipeline.yaml", "auc >= 0.7, participation == complete", "worse_off <= 3")
    faults = Scenario({0: Faults(drop=frozenset({"south"}))}, frozenset({"evaluate", "local"}))
    with pytest.raises(GateError, match=r"worse_off <= 3 \(it is undefined\)"):
        run(home, scenario=faults)
    found = evaluation(home)
    assert "worse_off" not in found
    assert set(found["local"]["sites"]) == {"harbour", "north"}


def test_a_pooled_baseline_that_fails_says_so(tmp_path):
    """A learner that breaks on many rows breaks the baseline, not the rounds: one sentence, the run is kept."""
    home = project(tmp_path, rounds=2, gate=False)
    edit(home / "pipeline.yaml", "baselines: [local]", "baselines: [pooled]")
    in_fit(home, "assert len(examples) < 200")
    with pytest.raises(
        RoundFailedError, match=r"the pooled baseline failed: learner 'learner.py:Logistic' raised Asser"
    ):
        run(home)
    assert len(history(home)) == 3
