"""Training on: from a commit, with some of the sites, onto the branch one is on."""

import numpy as np
import pytest

from fedloom.errors import PlanError, SpecError
from fedloom.local.federation import plan_local
from fedloom.pipeline.lineage import scaling_of
from fedloom.versions.objects import Commit
from fedloom.versions.repository import Repository
from tests.projects import allow, edit, history, journals, project, run


@pytest.fixture
def home(tmp_path):
    """A project with one finished run of two rounds."""
    home = project(tmp_path, rounds=2, gate=False)
    run(home)
    return home


def test_a_run_goes_on_from_a_commits_model_and_preprocessing(home):
    """Its first commit is the base's child, holds the base's model and scaling, and nobody fits anew."""
    repository = Repository.at(home)
    base = repository.resolve("main")
    asked = sum(line["verb"] == "fit" for line in journals(home)["north"])
    finished = run(home, rounds=1, start=base)
    start, first = history(home, "runs/2")[-2:]
    commit = Repository.at(home).commit(start)
    assert (commit.kind, commit.parents, commit.facts["round"]) == ("train", (base,), 0)
    assert repository.part(start, "model") == repository.part(base, "model")
    assert repository.part(start, "preprocessing") == repository.part(base, "preprocessing")
    assert repository.commit(first).facts["round"] == 1
    assert sum(line["verb"] == "fit" for line in journals(home)["north"]) == asked
    assert repository.resolve("main") == finished.commit == first


def test_going_on_resumes_to_the_same_commit(home):
    """Interrupted and taken up, a run that went on from a commit ends where the undisturbed one does."""
    base = Repository.at(home).resolve("main")
    whole = run(home, rounds=3, start=base).commit
    run(home, rounds=1, start=base)
    assert run(home, rounds=3, resume=True).commit == whole


def test_only_the_chosen_sites_are_asked(home):
    """Names and globs choose; the others hear nothing, and the policy asks for no more than are left."""
    before = {site: len(lines) for site, lines in journals(home).items()}
    run(home, rounds=1, sites=["s*", "harbour"], start=Repository.at(home).resolve("main"))
    after = {site: len(lines) for site, lines in journals(home).items()}
    assert after["north"] == before["north"]
    assert after["south"] > before["south"]
    repository = Repository.at(home)
    receipts = repository.part(repository.resolve("main"), "receipts")
    assert sorted(repository.tree(receipts.id)) == ["harbour", "south"]


def test_a_policy_is_narrowed_to_the_chosen_sites(tmp_path):
    """Who is not asked is not required, and no more are demanded than were chosen."""
    home = project(tmp_path)
    allow(home, "{min_sites: 3, require: [north, south]}")
    policy = plan_local(home, sites=["south", "harbour"]).spec.participation
    assert (policy.require, policy.min_sites) == (("south",), 2)
    with pytest.raises(SpecError, match=r"no site 'nrth' in pipeline\.yaml; did you mean 'north'\?"):
        plan_local(home, sites=["nrth"])


def test_a_run_moves_the_branch_one_is_on(home):
    """After a switch, `main` stays; a pipeline that names a branch moves that one."""
    repository = Repository.at(home)
    base = repository.resolve("main")
    repository.switch("trial", create=True)
    tip = run(home, rounds=1, start=base).commit
    assert (repository.resolve("main"), repository.resolve("trial")) == (base, tip)
    edit(home / "pipeline.yaml", "  register: {}", "  register: {ref: named}")
    other = run(home, rounds=1).commit
    assert (repository.resolve("trial"), repository.resolve("named")) == (tip, other)


def test_a_model_that_does_not_fit_is_refused(home):
    """Other tensors or other features than the learner's and the contract's: nothing is trained."""
    repository = Repository.at(home)
    base = repository.resolve("main")
    parts = dict(repository.tree(repository.commit(base).tree))
    small = {**parts, "model": repository.add_tensors({"weights": np.zeros(1, np.float32)})}
    foreign = repository.add_commit(Commit(repository.add_tree(small).id, (), "import", "small", {}))
    with pytest.raises(PlanError, match="its model has other tensors than the learner makes"):
        run(home, start=foreign)
    scaling = repository.add_tensors(scaling_of(repository, base))
    named = repository.add_tree({"features": repository.add_json(["other"]), "scaling": scaling})
    renamed = repository.add_tree({**parts, "preprocessing": named})
    odd = repository.add_commit(Commit(renamed.id, (), "import", "odd", {}))
    with pytest.raises(PlanError, match="its features are not those of"):
        run(home, start=odd)


@pytest.mark.parametrize("strategy", ["fedavg", "fedadam", "median"])
def test_who_keeps_updates_changes_no_model(tmp_path, strategy):
    """Kept by nobody, by the sites or as recipes at the hub: the same models, round by round, stored or computed."""
    models = {}
    for keep in ("none", "sites", "hub"):
        (tmp_path / keep).mkdir()
        home = project(tmp_path / keep, rounds=10, gate=False)
        edit(home / "pipeline.yaml", "seed: 1\n", f"seed: 1\nkeep_updates: {keep}\n")
        edit(home / "pipeline.yaml", "strategy: fedavg ", f"strategy: {strategy} ")
        run(home)
        repository = Repository.at(home)
        models[keep] = [repository.part(id_, "model") for id_ in history(home)]
        stored = [all(repository.has(e.id) for e in repository.tree(part.id).values()) for part in models[keep]]
        assert stored == ([True] + [n in (8, 10) for n in range(1, 11)] if keep == "hub" else [True] * 11)
        for id_ in history(home):
            assert repository.model(id_)
    assert models["none"] == models["sites"] == models["hub"]


def test_a_branch_that_moves_elsewhere_leaves_its_past_a_name(home):
    """A new run replaces a merge at the branch's tip: the merge keeps a ref of its own, a run's end has one already."""
    repository = Repository.at(home)
    first = repository.resolve("main")
    merge = repository.add_commit(Commit(repository.commit(first).tree, (first,), "merge", "m", {}))
    repository.unprotect("main")
    repository.refs.compare_and_set("heads/main", first, merge, "test")
    run(home, seed=7)
    assert Repository.at(home).refs.get("replaced/main/1") == merge
    run(home, seed=8)
    assert repository.refs.names("replaced/") == ["replaced/main/1"]


def test_what_choosing_sites_takes_from_the_policy_is_said(tmp_path):
    """The plan notes it, so that nobody takes a narrowed policy for the pipeline's own."""
    home = project(tmp_path)
    allow(home, "{min_sites: 3, require: [north, south]}")
    assert plan_local(home).notes == ()
    assert plan_local(home, sites=["south", "harbour"]).notes == (
        "2 of 3 sites were chosen",
        "participation.min_sites is 2 instead of 3",
        "north is not required, though the pipeline says so",
    )
