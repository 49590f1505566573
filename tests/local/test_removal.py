"""Taking a site out: every way's arithmetic, what it leaves behind, and when it is refused."""

import numpy as np
import pytest

from fedloom.errors import ConflictError, NotFoundError, PlanError
from fedloom.local.removal import Request, influence, remove_site
from fedloom.versions.objects import Commit
from fedloom.versions.repository import Repository
from fedloom.versions.store import Store
from tests.projects import edit, history, journals, project, run


def kept(tmp_path, keep="sites", rounds=3, strategy=None):
    """Make a project that keeps updates, run once; its branch takes any result."""
    home = project(tmp_path, rounds=rounds, gate=False)
    edit(home / "pipeline.yaml", "seed: 1\n", f"seed: 1\nkeep_updates: {keep}\nmerge: {{epsilon: 1.0}}\n")
    if strategy:
        edit(home / "pipeline.yaml", "strategy: fedavg ", f"strategy: {strategy} ")
    run(home)
    return home


def taken(home, method, rounds=None, site="north", **how):
    return remove_site(home, Request(site, rounds, method, **how), lambda _: None)


def updates(repository, commit):
    receipts = repository.tree(repository.part(commit, "receipts").id)
    return {site: repository.tensors(entry.id) for site, entry in receipts.items()}


@pytest.mark.parametrize("keep", ["sites", "hub"])
def test_subtract_takes_the_weighted_update_off(tmp_path, keep):
    """The newest model less the site's share of the last round; the site was asked where it keeps its own."""
    home = kept(tmp_path, keep)
    repository = Repository.at(home)
    head = repository.resolve("main")
    before, base = repository.model(head), repository.model(repository.commit(head).parents[0])
    removal = taken(home, "subtract", (3, 3))
    recipe = repository.commit(head).recipe
    share = next(part.weight for part in recipe.inputs if part.name == "north") / sum(p.weight for p in recipe.inputs)
    where = home / ".fedloom" if keep == "hub" else home / ".fedloom" / "sites" / "north"
    update = Repository(Store.on_disk(where)).tensors(recipe.inputs[1].id)
    for name, array in Repository.at(home).model(removal.commit).items():
        np.testing.assert_allclose(array, before[name] - share * (update[name] - base[name]), rtol=1e-12)
    asked = [line for line in journals(home)["north"] if line["verb"] == "recall"]
    assert len(asked) == (1 if keep == "sites" else 0)
    assert Repository.at(home).resolve("main") == removal.commit


def test_replay_merges_the_others_again(tmp_path):
    """Over the last round, replaying is the mean of the other two, by their weights."""
    home = kept(tmp_path, "hub")
    repository = Repository.at(home)
    head = repository.resolve("main")
    inputs = {part.name: part.weight for part in repository.commit(head).recipe.inputs}
    found = updates(repository, head)
    removal = taken(home, "replay", (3, 3))
    total = inputs["harbour"] + inputs["south"]
    for name, array in Repository.at(home).model(removal.commit).items():
        mean = (inputs["harbour"] * found["harbour"][name] + inputs["south"] * found["south"][name]) / total
        np.testing.assert_allclose(array, mean, rtol=1e-6)
    assert removal.remains[0].endswith("rounds it took part in")


def test_retrain_is_erasure_and_equals_a_federation_that_never_had_the_site(tmp_path):
    """With its rows in the preprocessing, training begins anew; the model is bit for bit that of the others alone."""
    home = kept(tmp_path, "none")
    removal = taken(home, "retrain")
    assert removal.remains == ()
    repository = Repository.at(home)
    head = repository.commit(removal.commit)
    assert (head.kind, head.parents[0]) == ("revert", removal.before)
    assert not list(influence(repository, head.parents[1], "north"))
    alone = tmp_path / "alone"
    alone.mkdir()
    other = kept(alone, "none")
    run(other, sites=["harbour", "south"])
    expected = Repository.at(other).model(history(other, "runs/2")[-1])
    for name, array in repository.model(removal.commit).items():
        np.testing.assert_array_equal(array, expected[name])


def test_retrain_goes_on_from_the_last_commit_without_the_site(tmp_path):
    """A site that came later is taken out from where it came: the rounds before stay as they are."""
    home = kept(tmp_path, "none")
    run(home, sites=["harbour", "south"])
    repository = Repository.at(home)
    clean = repository.resolve("main")
    run(home, rounds=2, start=clean)
    assert {"north"} <= set(repository.tree(repository.part(Repository.at(home).resolve("main"), "receipts").id))
    removal = taken(home, "retrain")
    assert removal.remains == ()
    line = [id_ for id_, _ in repository.log(Repository.at(home).commit(removal.commit).parents[1])]
    assert clean in line


def test_repair_trains_the_others_on_and_says_what_remains(tmp_path):
    """The result went through rounds without the site, and is called an approximation."""
    home = kept(tmp_path, "sites")
    removal = taken(home, "repair", repair_rounds=2)
    assert removal.remains == ("3 rounds it took part in", "preprocessing fitted with its rows")
    repository = Repository.at(home)
    line = list(repository.log(repository.commit(removal.commit).parents[1]))
    rounds = [commit for _, commit in line if commit.kind == "round"][:2]
    assert all("north" not in repository.tree(repository.tree(commit.tree)["receipts"].id) for commit in rounds)
    assert set(removal.measured.evaluations[removal.commit].sites) == {"harbour", "south"}


def test_far_back_a_subtraction_is_refused_unless_forced(tmp_path):
    """Over more than three rounds it is known to wreck models; the sentence says what to do instead."""
    home = kept(tmp_path, "sites", rounds=5)
    for method in ("subtract", "replay"):
        with pytest.raises(PlanError, match=r"would wreck the model .* --method repair or retrain"):
            taken(home, method)
    assert taken(home, "subtract", force=True).rounds == (1, 2, 3, 4, 5)


def test_what_nobody_kept_cannot_be_subtracted(tmp_path):
    """The receipt is opaque: the sentence says what to set next time and what works now."""
    home = kept(tmp_path, "none")
    with pytest.raises(NotFoundError, match=r"kept by nobody: set `keep_updates: sites`"):
        taken(home, "subtract", (3, 3))


def test_a_site_that_deleted_its_updates_is_named(tmp_path):
    """What a site no longer keeps it cannot give; nothing moves."""
    import shutil

    home = kept(tmp_path, "sites")
    before = Repository.at(home).resolve("main")
    for part in ("objects", "bundles"):
        shutil.rmtree(home / ".fedloom" / "sites" / "north" / part, ignore_errors=True)
    with pytest.raises(NotFoundError, match=r"update of north in .* does not keep its update"):
        taken(home, "subtract", (3, 3))
    assert Repository.at(home).resolve("main") == before


def test_an_optimizer_at_the_hub_is_not_a_mean(tmp_path):
    """FedAdam's step is not linear in one site's update: subtraction is refused, replay follows its own state."""
    home = kept(tmp_path, "hub", strategy="fedadam")
    with pytest.raises(PlanError, match="subtraction is for means"):
        taken(home, "subtract", (3, 3))
    assert taken(home, "replay", (2, 3)).rounds == (2, 3)


def test_strangers_and_hermits_are_refused(tmp_path):
    """A site that took no part, and the only site."""
    home = kept(tmp_path, "none")
    with pytest.raises(NotFoundError, match="nobody has no part in this branch"):
        taken(home, "retrain", site="nobody")
    with pytest.raises(NotFoundError, match="in rounds 7 to 9"):
        taken(home, "retrain", (7, 9))


def test_a_refused_result_leaves_the_branch_and_keeps_the_candidate(tmp_path):
    """Where the others are better off with the site, its removal does not pass and says what it did."""
    home = kept(tmp_path, "sites")
    edit(home / "pipeline.yaml", "merge: {epsilon: 1.0}", "merge: {epsilon: 0.0, floor: 1.0}")
    removal = taken(home, "subtract", force=True)
    assert "did not pass its gate" in removal.refused
    repository = Repository.at(home)
    assert repository.resolve("main") == removal.before
    assert isinstance(repository.commit(removal.commit), Commit)


@pytest.mark.parametrize(("keep", "held"), [("none", False), ("sites", False), ("hub", True)])
def test_the_hub_holds_updates_only_where_the_policy_says_so(tmp_path, keep, held):
    """No object of the hub's repository is an update, or part of one, unless `keep_updates: hub`."""
    home = kept(tmp_path, keep)
    repository = Repository.at(home)
    head = repository.resolve("main")
    receipts = repository.tree(repository.part(head, "receipts").id)
    assert {entry.keep for entry in receipts.values()} == {
        {"none": "opaque", "sites": "promised", "hub": "stored"}[keep]
    }
    present = set(repository.database.ids())
    assert all((entry.id in present) is held for entry in receipts.values())
    if keep == "sites":
        for site, entry in receipts.items():
            own = Repository(Store.on_disk(home / ".fedloom" / "sites" / site))
            assert not {part.id for part in own.tree(entry.id).values()} & present


def test_a_site_is_taken_out_once(tmp_path):
    """What was subtracted is not subtracted again, and after a retraining there is nothing left to take."""
    home = kept(tmp_path, "sites")
    taken(home, "subtract", (3, 3))
    with pytest.raises(NotFoundError, match="north has no part in this branch's model in rounds 3 to 3"):
        taken(home, "subtract", (3, 3))
    assert taken(home, "subtract", (2, 2), force=True).rounds == (2,)
    assert taken(home, "retrain").remains == ()
    with pytest.raises(NotFoundError, match="north has no part in this branch's model"):
        taken(home, "subtract", force=True)
    repository = Repository.at(home)
    run(home, rounds=1, start=repository.resolve("main"), sites=["harbour", "south"])
    assert not list(influence(repository, Repository.at(home).resolve("main"), "north"))


def test_a_share_of_something_else_than_rounds_is_not_subtracted(tmp_path):
    """After a merge or a revert only part of the update is in the model: subtraction says so, repair goes on."""
    home = kept(tmp_path, "sites")
    repository = Repository.at(home)
    head = repository.resolve("main")
    odd = repository.add_commit(Commit(repository.commit(head).tree, (head,), "merge", "odd", {}))
    repository.refs.compare_and_set("heads/main", head, odd, "test")
    with pytest.raises(PlanError, match="is a commit of kind 'merge', not a round"):
        taken(home, "subtract", (3, 3))
    assert taken(home, "repair", (3, 3), repair_rounds=1).rounds == (3,)


def test_a_recalled_update_is_forgotten(tmp_path):
    """The hub uses what a site gives back and keeps nothing of it."""
    home = kept(tmp_path, "sites")
    taken(home, "subtract", (3, 3))
    repository = Repository.at(home)
    head = repository.commit(Repository.at(home).resolve("main")).parents[0]
    receipts = repository.tree(repository.part(head, "receipts").id)
    own = Repository(Store.on_disk(home / ".fedloom" / "sites" / "north"))
    assert not repository.has(receipts["north"].id)
    assert not any(repository.has(entry.id) for entry in own.tree(receipts["north"].id).values())


def test_a_site_that_came_in_by_a_merge_is_found(tmp_path):
    """Behind a second parent its rounds still count: subtraction says why it cannot, retraining begins anew."""
    home = kept(tmp_path, "sites")
    run(home, sites=["harbour", "south"])
    repository = Repository.at(home)
    base = repository.resolve("main")
    repository.switch("side", create=True)
    run(home, rounds=1, start=base)
    side = Repository.at(home).resolve("side")
    merged = repository.add_commit(Commit(repository.commit(side).tree, (base, side), "merge", "m", {}))
    repository.switch("main")
    repository.refs.compare_and_set("heads/main", base, merged, "test")
    with pytest.raises(PlanError, match="north came in by a merge: use --method repair or retrain"):
        taken(home, "subtract")
    removal = taken(home, "retrain")
    assert (len(removal.rounds), removal.remains) == (1, ())


def test_a_merge_under_way_is_not_pulled_from_under(tmp_path):
    """A run or a removal would move the branch away from what is being resolved: both are refused, nothing moves."""
    home = kept(tmp_path, "none")
    repository = Repository.at(home)
    head = repository.resolve("main")
    waiting = repository.add_commit(Commit(repository.commit(head).tree, (head,), "merge", "waiting", {}))
    repository.refs.compare_and_set("merging/main", None, waiting, "test")
    for start in (lambda: run(home), lambda: taken(home, "retrain")):
        with pytest.raises(ConflictError, match="a merge into main is under way"):
            start()
    assert Repository.at(home).resolve("main") == head
