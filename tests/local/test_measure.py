"""Measured candidates: at every site, beside their parents, with a verdict that is stated before a branch moves."""

import numpy as np
import pytest

from fedloom.errors import GateError, PlanError, RoundFailedError
from fedloom.local.measure import judge_candidate, measure_commits
from fedloom.versions.objects import Commit
from fedloom.versions.protection import move
from fedloom.versions.repository import Repository
from tests.projects import edit, project, run


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A project with one finished run."""
    home = project(tmp_path_factory.mktemp("measure"), rounds=8, gate=False)
    run(home)
    return home


def candidate(repository, change):
    """Commit a model that is the branch's own, changed."""
    head = repository.resolve("main")
    commit = repository.commit(head)
    parts = dict(repository.tree(commit.tree))
    parts["model"] = repository.add_tensors({name: change(array) for name, array in repository.model(head).items()})
    return repository.add_commit(Commit(repository.add_tree(parts).id, (head,), "merge", "changed", commit.facts))


def test_a_commit_measures_as_it_did_in_its_round(home):
    """The figures are those the round's own commit holds: the same rows, the same preprocessing."""
    repository = Repository.at(home)
    head = repository.resolve("main")
    found = measure_commits(home, [head])[head]
    assert found.as_json() == repository.commit(head).facts["metrics"]


def test_a_candidate_as_good_as_its_parent_may_take_its_place(home):
    """Verdict and figures of all sides are attested; the protected branch then takes it."""
    repository = Repository.at(home)
    head = repository.resolve("main")
    id_ = candidate(repository, lambda array: array * 1.0001)
    with pytest.raises(GateError, match=r"protected and .* was never measured"):
        move(repository, "heads/main", head, id_, "why")
    found = judge_candidate(home)(id_, [head])
    assert found.passed
    stated = Repository.at(home).attestation(id_, "evaluation").body
    assert set(stated["parents"]) == {head}
    assert set(stated["federated"]["sites"]) == {"harbour", "north", "south"}
    move(repository, "heads/main", head, id_, "why")
    move(repository, "heads/main", id_, head, "back")


def test_a_worse_candidate_is_refused_and_named(home):
    """A model turned upside down is worse by more than epsilon: the branch stays, another branch may take it."""
    repository = Repository.at(home)
    head = repository.resolve("main")
    id_ = candidate(repository, lambda array: -array)
    found = judge_candidate(home)(id_, [head])
    assert not found.passed
    assert [rule["holds"] for rule in found.rules] == [False, True]
    with pytest.raises(GateError, match=f"{id_[:12]} did not pass its gate"):
        move(repository, "heads/main", head, id_, "why")
    move(repository, "heads/trial", None, id_, "why")
    assert repository.resolve("main") == head


def test_a_floor_holds_for_the_worst_site(home, tmp_path):
    """Good on the whole is not enough where one site falls below its floor; the rule names the site."""
    import shutil

    copy = tmp_path / "project"
    shutil.copytree(home, copy)
    (copy / "pipeline.yaml").write_text((copy / "pipeline.yaml").read_text() + "merge: {floor: 0.999}\n")
    repository = Repository.at(copy)
    head = repository.resolve("main")
    id_ = candidate(repository, lambda array: array * 1.0001)
    found = judge_candidate(copy)(id_, [head])
    assert [rule["holds"] for rule in found.rules] == [True, False, True]
    worst = min(found.evaluations[id_].sites.items(), key=lambda item: item[1]["accuracy"])[0]
    assert found.rules[1]["rule"] == f"worst.accuracy >= 0.999 ({worst})"


def test_a_model_that_diverged_never_passes(home):
    """Its sites say so; what was not measured cannot move a protected branch."""
    repository = Repository.at(home)
    head = repository.resolve("main")
    id_ = candidate(repository, lambda array: np.full_like(array, np.nan))
    with pytest.raises(RoundFailedError, match="returned NaN in the predictions"):
        judge_candidate(home)(id_, [head])
    with pytest.raises(GateError, match="was never measured"):
        move(repository, "heads/main", head, id_, "why")


def test_what_cannot_be_measured_is_said(home, tmp_path):
    """A model of other tensors, or a pipeline without an evaluate stage, is a sentence."""
    repository = Repository.at(home)
    head = repository.resolve("main")
    parts = dict(repository.tree(repository.commit(head).tree))
    parts["model"] = repository.add_tensors({"other": np.zeros(3)})
    foreign = repository.add_commit(Commit(repository.add_tree(parts).id, (), "import", "foreign", {}))
    with pytest.raises(PlanError, match="has other tensors than the learner's"):
        measure_commits(home, [foreign])
    bare = project(tmp_path, gate=False)
    edit(bare / "pipeline.yaml", "  evaluate: {baselines: [local]}\n", "")
    with pytest.raises(PlanError, match="nothing can be measured without an `evaluate:` stage"):
        measure_commits(bare, [head])


def test_the_tip_that_is_replaced_counts_too(home):
    """A candidate better than its parents and worse than the branch it would move is refused."""
    repository = Repository.at(home)
    head = repository.resolve("main")
    worse = candidate(repository, lambda array: -array)
    found = judge_candidate(home)(worse, [worse])
    assert not found.passed
    assert head in found.evaluations


def test_the_pipelines_own_gate_holds_for_candidates(home, tmp_path):
    """What a run must reach to be registered, a merge must reach too."""
    import shutil

    copy = tmp_path / "project"
    shutil.copytree(home, copy)
    edit(
        copy / "pipeline.yaml",
        "  register: {}",
        "  gate: {require: [auc >= 1.0, participation == complete]}\n  register: {}",
    )
    repository = Repository.at(copy)
    head = repository.resolve("main")
    found = judge_candidate(copy)(candidate(repository, lambda array: array * 1.0001), [head])
    assert [(rule["rule"], rule["holds"]) for rule in found.rules][1] == ("auc >= 1", False)
    assert len(found.rules) == 3
