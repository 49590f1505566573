"""Conflicts as objects: listed, settled in any way, anywhere; what is under way outlives the process."""

import subprocess
import sys

import numpy as np
import pytest

from fedloom.errors import ConflictError, GateError, NotFoundError, SpecError, VersionsError
from fedloom.versions import merge_landing, recipes
from fedloom.versions.conflicts import open_conflicts, require_clean, resolve
from fedloom.versions.content import Content
from fedloom.versions.merge import How, merge
from fedloom.versions.objects import Commit, Conflict, Encoded, Entry
from fedloom.versions.repository import Repository
from fedloom.versions.store import Store
from tests.versions.histories import F, commit, content, listed, tree


@pytest.fixture
def store():
    return content()


def forked(store, base, ours, theirs, **how):
    root = commit(store, base)
    x, y = commit(store, ours, root, facts={"n": 1}, **how), commit(store, theirs, root, facts={"n": 2}, rows=None)
    return x, y


def opened(store, base=None, ours=None, theirs=None, **how):
    """Merge two branches that contest `a`, and give the commit with its conflict."""
    x, y = forked(store, base or {"a": [0, 0]}, ours or {"a": [1, 0]}, theirs or {"a": [3, 8]})
    return merge(store, x, [y], How(**how), names=("main", "north")).commit


# listing


def test_conflicts_are_listed_by_path(store):
    """Sorted, with what each side has; a clean commit has none."""
    id_ = opened(store, {"b": [0], "a": [0], "c": [0]}, {"b": [1], "a": [1], "c": [0]}, {"b": [2], "a": [2], "c": [5]})
    found = open_conflicts(store, id_)
    assert list(found) == ["model/a", "model/b"]
    assert [store.tensor(entry.id).tolist() for entry in found["model/b"].heads] == [[1], [2]]
    assert open_conflicts(store, store.commit(id_).parents[0]) == {}


def test_a_commit_is_open_wherever_a_conflict_stands(store):
    """In the model, in preprocessing, in a folder of inputs: `require_clean` says where, three of them by name."""
    conflict = store.add_conflict(Conflict("p", "contested", None, (None, None)))
    for parts in (
        {"model": store.add_tree({"w": conflict})},
        {"inputs": store.add_tree({"source": store.add_tree({"learner.py": conflict})})},
        {"notes": conflict},
    ):
        id_ = store.add_commit(Commit(store.add_tree(parts).id, (), "merge", "m"))
        with pytest.raises(ConflictError, match=r"open conflicts at (model/w|inputs/source/learner\.py|notes): list"):
            require_clean(store, id_)
    many = store.add_tree({"model": store.add_tree({f"w{n}": conflict for n in range(5)})})
    with pytest.raises(ConflictError, match="model/w0, model/w1, model/w2 and 2 more"):
        require_clean(store, store.add_commit(Commit(many.id, (), "merge", "m")))


def test_receipts_are_not_searched_for_conflicts(store):
    """A site's update that is elsewhere is not asked for."""
    far = store.add_tree({"north": Entry("tree", "1" * 64, "promised")})
    require_clean(store, commit(store, {"a": [1]}, receipts=far))


# settling


@pytest.mark.parametrize(
    ("take", "expected"),
    [
        ("ours", [1, 0]),
        ("theirs", [3, 8]),
        ("1", [1, 0]),
        ("2", [3, 8]),
        ("base", [0, 0]),
        ("mean", [2, 4]),
        ("weighted_mean", [2.5, 6]),
        ("task_arithmetic:scaling=0.5", [2.5, 6]),
        ("ties:density=1.0", [2.5, 8]),
    ],
)
def test_a_conflict_is_settled_by_a_word(store, take, expected):
    """A side, its number, the base or a strategy with the merge's weights; the recipe gives the settled model again."""
    id_ = opened(store, weights=[1, 3])
    done = resolve(store, id_, "model/a", take)
    assert listed(store, done) == {"a": expected}
    assert open_conflicts(store, done) == {}
    assert store.commit(done).parents == store.commit(id_).parents, "a merge is one commit however it came about"
    assert store.commit(done).facts["merge"]["outcomes"] == {"resolved": 1}
    assert store.commit(done).recipe.settings["settled"] == {"model/a": take}
    made = recipes.compute(store, done)
    assert [array.tolist() for array in made.values()] == [expected]


def test_settled_without_its_tensors_it_is_computed(store):
    """What a person decided is in the recipe: the tensors may be gone."""
    done = resolve(store, opened(store), "a", "mean")
    elsewhere = content()
    hidden = store.tree(store.part(done, "model").id)["a"].id
    for id_ in store.database.ids():
        if id_ != hidden:
            elsewhere.database.put(Encoded(id_, b"", store.database.get(id_)))
    assert listed(elsewhere, done) == {"a": [2, 4]}


def test_several_are_settled_one_by_one_or_by_a_glob(store):
    """Names inside the model and whole paths both fit; what is left is still open."""
    names = ("head.w", "head.b", "body.w", "tail.w")
    id_ = opened(store, *({name: [value] for name in names} for value in (0, 1, 3)))
    one = resolve(store, id_, "tail.w", "theirs")
    assert list(open_conflicts(store, one)) == ["model/body.w", "model/head.b", "model/head.w"]
    two = resolve(store, one, "model/head.*", "ours")
    assert list(open_conflicts(store, two)) == ["model/body.w"]
    assert store.commit(two).facts["merge"]["outcomes"] == {"resolved": 3, "conflict": 1}
    done = resolve(store, two, "*", "mean")
    assert listed(store, done) == {"tail.w": [3], "head.w": [1], "head.b": [1], "body.w": [2]}
    assert len(recipes.compute(store, done)) == 3, "one tensor an id: [1] stands twice"


def test_a_deletion_can_be_taken(store):
    """The side that deleted has nothing there, and then nothing is there."""
    id_ = opened(store, {"a": [0], "b": [0]}, {"b": [0]}, {"a": [5], "b": [0]})
    assert listed(store, resolve(store, id_, "a", "ours")) == {"b": [0]}
    assert listed(store, resolve(store, id_, "a", "theirs")) == {"a": [5], "b": [0]}
    assert listed(store, resolve(store, id_, "a", "base")) == {"a": [0], "b": [0]}
    assert recipes.compute(store, resolve(store, id_, "a", "ours"))


def test_a_mind_can_be_changed(store):
    """What was settled is settled anew by another word, with the numbers that word alone would have given."""
    id_ = opened(store)
    once = resolve(store, id_, "a", "ours")
    for take in ("theirs", "base", "mean"):
        again, alone = resolve(store, once, "a", take), resolve(store, id_, "a", take)
        assert again == alone, take
        assert recipes.compute(store, again)
    assert resolve(store, once, "model/*", "theirs") == resolve(store, id_, "a", "theirs")


def test_a_rename_is_settled_anew(store):
    """The name that the first word gave goes with it."""
    id_ = opened(store, {"old": [1, 2]}, {"left": [1, 2]}, {"right": [1, 2]})
    for first in ("ours", "theirs", "base"):
        for then, name in (("ours", "left"), ("theirs", "right"), ("base", "old")):
            done = resolve(store, resolve(store, id_, "old", first), "old", then)
            assert listed(store, done) == {name: [1, 2]}
            assert recipes.compute(store, done)


def test_a_deletion_is_taken_back(store):
    """What was settled as gone can come back; a glob means what is open before what is settled."""
    id_ = opened(store, {"a": [0], "b": [1]}, {"b": [2]}, {"a": [5], "b": [3]})
    gone = resolve(store, id_, "a", "ours")
    assert open_conflicts(store, gone).keys() == {"model/b"}
    assert listed(store, resolve(store, resolve(store, gone, "a", "theirs"), "b", "ours")) == {"a": [5], "b": [2]}
    both = resolve(store, gone, "*", "theirs")
    assert listed(store, both) == {"b": [3]}


def test_a_rename_takes_the_name_with_it(store):
    """Who wins a rename gives the name, and the recipe agrees."""
    id_ = opened(store, {"old": [1, 2]}, {"left": [1, 2]}, {"right": [1, 2]})
    for take, name in (("ours", "left"), ("theirs", "right"), ("base", "old")):
        done = resolve(store, id_, "old", take)
        assert listed(store, done) == {name: [1, 2]}
        assert recipes.compute(store, done)


def test_words_and_blobs_of_preprocessing_can_be_settled(store):
    """Not only tensors: a code list, too."""
    root = commit(store, {"a": [0]}, preprocessing=tree(store, {"codes": [1]}))
    x, y = (commit(store, {"a": [0]}, root, preprocessing=tree(store, {"codes": [n]})) for n in (2, 3))
    done = resolve(store, merge(store, x, [y]).commit, "preprocessing/codes", "theirs")
    assert store.blob(store.tree(store.part(done, "preprocessing").id)["codes"].id) == b"[3]"


@pytest.mark.parametrize(
    ("path", "take", "error", "told"),
    [
        ("model/b", "ours", NotFoundError, r"no conflict at 'model/b' in .*; did you mean 'model/a'"),
        ("a", "hours", SpecError, "no strategy 'hours' to merge branches with; did you mean 'ours'"),
        ("a", "3", SpecError, "'model/a' has 2 heads: take a number from 1 to 2, not 3"),
        ("a", "0", SpecError, "take a number from 1 to 2, not 0"),
        ("a", "fisher", VersionsError, "fisher/1 cannot merge 'model/a' without fisher of head 1, 2"),
        ("a", "krum", VersionsError, "krum/1 cannot merge 'model/a': it needs 3 heads"),
    ],
)
def test_words_that_mean_nothing_settle_nothing(store, path, take, error, told):
    """One sentence that says what would."""
    id_ = opened(store)
    with pytest.raises(error, match=told):
        resolve(store, id_, path, take)


@pytest.mark.parametrize(
    ("ours", "theirs"), [({"a": [1, 1]}, {"a": [2]}), ({}, {"a": [2]}), ({"a": np.array([1.0])}, {"a": [2]})]
)
def test_what_has_no_middle_is_not_averaged(store, ours, theirs):
    """Shapes, dtypes and deletions need a side."""
    id_ = opened(store, {"z": [0], "a": [0]}, {"z": [0], **ours}, {"z": [0], **theirs})
    with pytest.raises(VersionsError, match=r"'model/a'.*(must be alike|take one side)"):
        resolve(store, id_, "a", "mean")


def test_theirs_of_many_is_nobody(store):
    """With three heads one says which, by number."""
    root = commit(store, {"a": [0]})
    heads = [commit(store, {"a": [n]}, root) for n in (1, 2, 3)]
    id_ = merge(store, heads[0], heads[1:]).commit
    with pytest.raises(SpecError, match="has 3 heads, so 'theirs' is none of them"):
        resolve(store, id_, "a", "theirs")
    assert listed(store, resolve(store, id_, "a", "3")) == {"a": [3]}
    assert listed(store, resolve(store, id_, "a", "krum")) == {"a": [2]}


def test_a_conflict_is_settled_at_another_repository(store):
    """With the objects copied, and nothing else, somebody else settles it into the very same commit."""
    id_ = opened(store)
    elsewhere = content()
    for each in store.database.ids():
        elsewhere.database.put(Encoded(each, b"", store.database.get(each)))
    assert resolve(elsewhere, id_, "a", "weighted_mean") == resolve(store, id_, "a", "weighted_mean")


# a merge under way


def repository(folder, *, protected=False):
    """Make a repository with `main` and `north`, which contest `a`."""
    made = Repository.at(folder)
    x, y = forked(made, {"a": [0, 0], "b": [0]}, {"a": [1, 0], "b": [0]}, {"a": [3, 8], "b": [2]})
    made.refs.compare_and_set("heads/main", None, x, "test")
    made.refs.compare_and_set("heads/north", None, y, "test")
    if not protected:
        made.unprotect("main")
    return made


def test_a_merge_with_conflicts_waits_under_its_branchs_name(tmp_path):
    """The branch stays; `merging/main` has the commit; settled, it is continued and the branch moves."""
    made = repository(tmp_path)
    before = made.resolve("main")
    outcome = made.merge("north")
    assert (outcome.kind, made.resolve("main")) == ("conflicts", before)
    assert made.refs.get("merging/main") == outcome.commit == made.merge_under_way()
    with pytest.raises(ConflictError, match="open conflicts at model/a"):
        made.continue_merge()
    made.settle("a", "mean")
    commit_ = made.continue_merge()
    assert made.resolve("main") == commit_
    assert made.commit(commit_).parents == (before, made.resolve("north"))
    assert listed(made, commit_) == {"a": [2, 4], "b": [2]}
    assert made.merge_under_way() is None
    assert made.refs.names("merging/") == []
    assert made.merge("north").kind == "up-to-date"


def test_aborted_nothing_has_happened(tmp_path):
    """The branch is where it was, and the next merge starts anew."""
    made = repository(tmp_path)
    before = made.resolve("main")
    made.merge("north")
    made.abort_merge()
    assert (made.resolve("main"), made.merge_under_way()) == (before, None)
    for late in (made.abort_merge, made.continue_merge):
        with pytest.raises(NotFoundError, match="no merge into main is under way"):
            late()
    assert made.merge("north", how=How("mean")).kind == "merged"


def test_one_merge_at_a_time(tmp_path):
    """A second merge, a cherry-pick or a revert says what is under way; another branch is free."""
    made = repository(tmp_path)
    made.merge("north")
    for verb in (lambda: made.merge("north"), lambda: made.cherry_pick("north"), lambda: made.revert("main")):
        with pytest.raises(ConflictError, match="a merge into main is under way"):
            verb()
    made.switch("side", create=True)
    assert made.merge("north", how=How("ours")).kind == "merged"


def test_of_two_processes_that_merge_at_once_one_is_told(tmp_path):
    """Both started from the same branch; the later does not push the earlier's conflicts aside."""
    made = repository(tmp_path)
    late = merge(made, made.resolve("main"), [made.resolve("north")], message="another")
    first = made.merge("north").commit
    with pytest.raises(ConflictError, match="a merge into main is under way"):
        merge_landing.land(made, "main", late)
    assert made.merge_under_way() == first


def test_a_killed_process_leaves_the_merge_to_be_continued(tmp_path):
    """Kill -9 right after the conflict: another process lists, settles and finishes the merge from refs alone."""
    repository(tmp_path)
    code = (
        "import os, signal, sys; from fedloom.versions.repository import Repository; "
        "Repository.at(sys.argv[1]).merge('north'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=60)
    assert done.returncode == -9
    later = Repository.at(tmp_path)
    assert list(later.conflicts(later.merge_under_way())) == ["model/a"]
    later.settle("a", "theirs")
    assert listed(later, later.continue_merge()) == {"a": [3, 8], "b": [2]}


def test_killed_after_the_branch_moved_the_merge_is_done(tmp_path, monkeypatch):
    """A ref that was not taken away is recognised: nothing is under way, and the next merge goes on."""
    made = repository(tmp_path)
    monkeypatch.setattr(merge_landing, "_forget", lambda *_: None)
    outcome = made.merge("north", how=How("mean"))
    monkeypatch.undo()
    assert made.refs.get("merging/main") == outcome.commit == made.resolve("main")
    assert made.merge_under_way() is None
    extra = commit(made, {"a": [9, 9], "b": [2]}, made.resolve("north"))
    made.refs.compare_and_set("heads/more", None, extra, "test")
    assert made.merge("more", how=How("mean")).kind == "merged"


def test_a_branch_that_moved_on_is_not_set_back(tmp_path):
    """A run that ended meanwhile is kept: the merge has to be made again."""
    made = repository(tmp_path)
    made.merge("north")
    made.settle("a", "ours")
    later = commit(made, {"a": [7, 7], "b": [0]}, made.resolve("main"))
    made.refs.compare_and_set("heads/main", made.resolve("main"), later, "a run")
    with pytest.raises(ConflictError, match=f"main has moved to {later[:12]} since the merge began"):
        made.continue_merge()
    assert made.resolve("main") == later


def test_a_merge_under_way_is_settled_elsewhere_and_comes_back(tmp_path):
    """Objects and the ref travel; the other repository settles, and this one continues with its commit."""
    here, there = repository(tmp_path / "here"), Repository.at(tmp_path / "there")
    id_ = here.merge("north").commit
    carry(here, there)
    there.refs.compare_and_set("heads/main", None, here.resolve("main"), "pushed")
    there.refs.compare_and_set("merging/main", None, id_, "pushed")
    done = there.settle("a", "mean")
    carry(there, here)
    here.refs.compare_and_set("merging/main", id_, done, "fetched")
    assert here.continue_merge() == done == here.resolve("main")


def test_a_merge_begun_elsewhere_is_taken_up_by_merging_it(tmp_path):
    """Merging a commit with open conflicts that builds on this branch makes it the merge under way here."""
    here, there = repository(tmp_path / "here"), Repository.at(tmp_path / "there")
    id_ = here.merge("north").commit
    carry(here, there)
    there.unprotect("main")
    there.refs.compare_and_set("heads/main", None, here.resolve("main"), "fetched")
    there.refs.compare_and_set("remotes/origin/merging/main", None, id_, "fetched")
    outcome = there.merge("remotes/origin/merging/main")
    assert (outcome.kind, outcome.commit, list(outcome.conflicts)) == ("conflicts", id_, ["model/a"])
    there.settle("a", "mean")
    done = there.continue_merge()
    carry(there, here)
    here.abort_merge()
    here.refs.compare_and_set("heads/settled", None, done, "fetched")
    assert (here.merge("settled").kind, here.resolve("main")) == ("fast-forward", done)


def carry(source: Content, target: Content) -> None:
    source.database.flush()
    for each in source.database.ids():
        target.database.put(Encoded(each, b"", source.database.get(each)))
    target.database.flush()


# measuring


class Judge:
    """Attests a verdict, as the measurement of a project does."""

    def __init__(self, made: Content, *, passed: bool) -> None:
        self.made, self.passed, self.asked = made, passed, []

    def __call__(self, candidate, parents):
        self.asked.append((candidate, tuple(parents)))
        self.made.attest(candidate, "gate", {"passed": self.passed, "rules": []})
        return self.passed


def test_a_protected_branch_moves_only_to_what_was_measured(tmp_path):
    """Unmeasured it is refused and waits; measured beside its parents, the branch takes it."""
    made = repository(tmp_path, protected=True)
    before, north = made.resolve("main"), made.resolve("north")
    with pytest.raises(GateError, match="was never measured"):
        made.merge("north", how=How("mean"))
    candidate = made.merge_under_way()
    assert (made.resolve("main"), candidate is not None) == (before, True)
    judge = Judge(made, passed=True)
    assert made.continue_merge(judge) == candidate == made.resolve("main")
    assert judge.asked == [(candidate, (before, north))]


def test_what_the_gate_refuses_waits_and_can_be_given_up(tmp_path):
    """The branch stays; the candidate is kept until it is aborted or measured again."""
    made = repository(tmp_path, protected=True)
    before = made.resolve("main")
    with pytest.raises(GateError, match="did not pass its gate"):
        made.merge("north", how=How("mean"), measure=Judge(made, passed=False))
    assert made.resolve("main") == before
    assert made.continue_merge(Judge(made, passed=True)) == made.resolve("main")


def test_conflicts_are_not_measured(tmp_path):
    """There is no model yet; the measurement comes with `--continue`."""
    made = repository(tmp_path, protected=True)
    judge = Judge(made, passed=True)
    assert made.merge("north", measure=judge).kind == "conflicts"
    assert judge.asked == []
    made.settle("a", "mean")
    made.continue_merge(judge)
    assert len(judge.asked) == 1


def test_a_fast_forward_to_an_unmeasured_merge_is_measured(tmp_path):
    """What somebody else merged reaches a protected branch only through its gate, and so does a round of some sites."""
    made = repository(tmp_path, protected=True)
    before = made.resolve("main")
    elsewhere = merge(made, before, [made.resolve("north")], How("mean")).commit
    made.refs.compare_and_set("heads/theirs", None, elsewhere, "fetched")
    judge = Judge(made, passed=True)
    assert made.merge("theirs", measure=judge).kind == "fast-forward"
    assert judge.asked == [(elsewhere, (before,))]
    trained = commit(made, {"a": [1, 1], "b": [1]}, elsewhere)
    made.refs.compare_and_set("heads/next", None, trained, "fetched")
    with pytest.raises(GateError, match="did not pass its gate"):
        made.merge("next", measure=Judge(made, passed=False))
    assert made.resolve("main") == elsewhere
    assert made.merge("next", measure=judge).kind == "fast-forward"
    assert len(judge.asked) == 2


def test_cherry_pick_and_revert_reach_the_branch(tmp_path):
    """The Python API's verbs move the current branch, and back."""
    made = repository(tmp_path)
    picked = made.cherry_pick("north")
    assert listed(made, made.resolve("main")) == {"a": [4, 8], "b": [2]}
    assert made.resolve("main") == picked.commit
    made.revert("main")
    assert listed(made, made.resolve("main")) == {"a": [1, 0], "b": [0]}


def test_an_unborn_branch_takes_no_merge(tmp_path):
    """There is nothing to merge into yet."""
    made = Repository(Store.in_memory())
    made.refs.compare_and_set("heads/north", None, commit(made, {"a": np.zeros(1, F)}), "test")
    with pytest.raises(NotFoundError, match="branch main has no commit yet"):
        made.merge("north")
