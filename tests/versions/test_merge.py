"""Merging branches: every kind of entry, every shape of history, and the recipe that gives the same again."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.errors import ConflictError, NotFoundError, SpecError, VersionsError
from fedloom.versions import recipes
from fedloom.versions.conflicts import open_conflicts
from fedloom.versions.content import Content
from fedloom.versions.merge import How, merge
from fedloom.versions.merge_base import default_weights, rows_behind
from fedloom.versions.merge_replay import cherry_pick, revert_commit
from fedloom.versions.merging.catalog import BRANCH_STRATEGIES
from fedloom.versions.objects import Entry, encode_commit
from tests.versions.histories import F, commit, content, listed, shallow_stack, tree, value

MEAN = How("weighted_mean")


def fork(store, base, ours, theirs, **how):
    """Commit a base and two branches of it."""
    root = commit(store, base)
    return root, commit(store, ours, root, facts={"side": 1}, **how), commit(store, theirs, root, facts={"side": 2})


def same_again(store, id_) -> bool:
    """Whether a commit's recipe gives what its tree names; `compute` raises where it does not."""
    made = recipes.compute(store, id_)
    entries = store.tree(store.part(id_, "model").id).values()
    return {entry.id for entry in entries if entry.kind == "tensor"} <= made.keys()


# what a merge does to the history


@given(st.integers(1, 5), st.integers(0, 4))
@settings(max_examples=25, deadline=None)
def test_a_descendant_is_a_fast_forward_and_the_other_way_up_to_date(steps, start):
    """Merging what builds on ours moves on to it, and merging what ours builds on changes nothing."""
    store = content()
    line = [commit(store, {"a": [0]})]
    for number in range(steps + start):
        line.append(commit(store, {"a": [number + 1]}, line[-1]))
    ahead = merge(store, line[start], [line[-1]], MEAN)
    assert (ahead.kind, ahead.commit) == ("fast-forward", line[-1])
    behind = merge(store, line[-1], [line[start]], MEAN)
    assert (behind.kind, behind.commit) == ("up-to-date", line[-1])


def test_merging_a_branch_twice_is_up_to_date():
    """After a merge there is nothing left to merge, from either side; the other side fast-forwards."""
    store = content()
    _, x, y = fork(store, {"a": [0]}, {"a": [1]}, {"a": [3]})
    merged = merge(store, x, [y], MEAN).commit
    assert merge(store, merged, [y], MEAN).kind == "up-to-date"
    assert merge(store, merged, [y, x, merged], MEAN).kind == "up-to-date"
    assert merge(store, y, [merged], MEAN).kind == "fast-forward"


def test_heads_that_others_build_on_are_left_out():
    """Of a branch and its own past only the branch becomes a parent; ours too, when another head has it."""
    store = content()
    root, x, y = fork(store, {"a": [0]}, {"a": [1]}, {"a": [3]})
    later = commit(store, {"a": [5]}, y)
    assert store.commit(merge(store, x, [y, later, root, later], MEAN).commit).parents == (x, later)
    made = store.commit(merge(store, root, [x, y], MEAN, names=("main", "a", "b")).commit)
    assert (made.parents, made.message) == ((x, y), "merge a, b into main")


def test_the_merge_commit_tells_how_it_came_about():
    """Kind, parents, strategy, weights, bases and counts per outcome stand in the commit; refs and parents move not."""
    store = content()
    root, x, y = fork(store, {"a": [0], "b": [0], "c": [0]}, {"a": [1], "b": [1], "c": [0]}, {"a": [3], "b": [0]})
    outcome = merge(store, x, [y], How("ties:density=0.5", weights=[1, 3]), names=("main", "north"))
    made = store.commit(outcome.commit)
    assert (made.kind, made.parents, made.message) == ("merge", (x, y), "merge north into main")
    assert outcome.base == root
    assert made.facts["merge"] == {
        "strategy": {"use": "ties/1", "density": 0.5, "scaling": 1},
        "rules": [],
        "weights": {"main": 1, "north": 3},
        "bases": [root],
        "optimizer": "drop",
        "outcomes": {"ties": 1, "taken": 1, "deleted": 1},
    }
    assert [(part.name, part.id, part.weight) for part in made.recipe.inputs] == [("main", x, 1), ("north", y, 3)]
    assert store.refs.names() == []


def test_facts_that_all_heads_tell_are_carried():
    """Pipeline, learner and axes are the merge's too where the heads agree."""
    store = content()
    root = commit(store, {"a": [0]})
    told = {"pipeline": "p", "learner": {"use": "linear"}, "codec": "exact"}
    x = commit(store, {"a": [1]}, root, facts=told)
    y = commit(store, {"a": [2]}, root, facts={**told, "learner": {"use": "mlp"}})
    facts = store.commit(merge(store, x, [y], MEAN).commit).facts
    assert {key: facts[key] for key in facts if key != "merge"} == {"pipeline": "p", "codec": "exact"}


def test_golden_id_of_a_merge():
    """The same merge gives the same commit on every machine and in every version to come."""
    store = content()
    _, x, y = fork(store, {"a": [0, 1], "b": [0]}, {"a": [1, 1], "b": [0]}, {"a": [3, 2], "b": [7]})
    made = merge(store, x, [y], How("weighted_mean", ("b=ours",), [1, 3]), names=("main", "north")).commit
    header = encode_commit(store.commit(made)).header.decode()
    assert header.splitlines()[0] == "fedloom commit v1"
    assert (
        '"recipe":{"algorithm":"merge/1","inputs":[["main","'
        + x
        + '",1],["north","'
        + y
        + '",3]],"settings":{"bases":["'
    ) in header
    assert (
        '"optimizer":"drop","otherwise":{"use":"weighted_mean/1"},"replay":false,"rules":[["b",{"use":"ours/1"}]],'
        in (header)
    )
    assert made == "db4e13e5e7d96c1065534357ddd72e14982c8754a52ba9dcc633299e6173aa7f"


def test_unrelated_histories_are_refused_unless_allowed():
    """Without a common commit a merge needs a word; then everything both have differently was added by both."""
    store = content()
    x, y = commit(store, {"a": [1], "x": [1]}), commit(store, {"a": [3], "y": [2]})
    with pytest.raises(VersionsError, match="main and north have no commit in common: `--allow-unrelated`"):
        merge(store, x, [y], MEAN, names=("main", "north"))
    outcome = merge(store, x, [y], How(allow_unrelated=True))
    assert {path: c.problem for path, c in outcome.conflicts.items()} == {"model/a": "add_add"}
    merged = merge(store, x, [y], How("mean", allow_unrelated=True))
    assert (merged.kind, merged.bases, listed(store, merged.commit)) == ("merged", (), {"a": [2], "x": [1], "y": [2]})
    assert same_again(store, merged.commit)


# histories that cross


def criss_cross(store, first, second, third, fourth, base):
    """Two branches that merged each other: X1, Y1 onto base; X2 and Y2 each have both as parents."""
    root = commit(store, base)
    x1, y1 = commit(store, first, root), commit(store, second, root, facts={"y": 1})
    return commit(store, third, x1, y1), commit(store, fourth, y1, x1)


def test_a_criss_cross_has_a_merged_base():
    """What both sides took from each other is no change; with either base alone it would be a conflict."""
    store = content()
    x, y = criss_cross(
        store,
        {"a": [1], "b": [0]},
        {"a": [0], "b": [1]},
        {"a": [5], "b": [1]},
        {"a": [1], "b": [7]},
        base={"a": [0], "b": [0]},
    )
    outcome = merge(store, x, [y])
    assert len(outcome.bases) == 2
    assert outcome.base is None
    assert outcome.kind == "merged"
    assert listed(store, outcome.commit) == {"a": [5], "b": [7]}
    assert same_again(store, outcome.commit)


def test_what_the_bases_contest_is_as_their_own_base_has_it():
    """Where the common ancestors disagree, both heads have changed what was before them."""
    store = content()
    x, y = criss_cross(store, {"a": [1]}, {"a": [2]}, {"a": [1]}, {"a": [2]}, base={"a": [0]})
    conflict = merge(store, x, [y]).conflicts["model/a"]
    assert store.tensor(conflict.base.id).tolist() == [0]


def test_what_the_bases_merge_by_strategy_is_the_base():
    """With a strategy the bases' mean is what the heads are compared with: only the one that moved on has changed."""
    store = content()
    x, y = criss_cross(store, {"a": [1]}, {"a": [3]}, {"a": [2]}, {"a": [9]}, base={"a": [0]})
    outcome = merge(store, x, [y], How("mean"))
    assert outcome.outcomes["model/a"] == "taken"
    assert listed(store, outcome.commit) == {"a": [9]}
    assert same_again(store, outcome.commit)


@pytest.mark.parametrize("how", [How("ours"), How(rules=("a=ours",))])
def test_taking_a_side_does_not_decide_about_bases(how):
    """Whichever base came first, a side that kept its value keeps it: nothing is taken silently from the other."""
    store = content()
    x, y = criss_cross(store, {"a": [1]}, {"a": [3]}, {"a": [1]}, {"a": [3]}, base={"a": [0]})
    assert listed(store, merge(store, x, [y], how).commit) == {"a": [1]}
    assert listed(store, merge(store, y, [x], how).commit) == {"a": [3]}


def test_a_virtual_base_that_a_conflict_needs_is_stored():
    """A conflict can be settled by `base` although that base was only merged in memory."""
    store = content()
    x, y = criss_cross(
        store, {"a": [1, 1, 1]}, {"a": [4, 1, 1]}, {"a": [8, 1, 1]}, {"a": [9, 1]}, base={"a": [0, 0, 0]}
    )
    conflict = merge(store, x, [y], How("mean")).conflicts["model/a"]
    assert conflict.problem == "shape"
    assert Content(store.store).tensor(conflict.base.id).tolist() == [2.5, 1, 1]


def test_a_long_criss_cross_is_walked_without_recursion():
    """Two branches that merged each other 150 times, on a stack that a recursion over them would overflow."""
    store = content()
    root = commit(store, {"a": [0], "b": [0]})
    x, y = commit(store, {"a": [1], "b": [0]}, root), commit(store, {"a": [0], "b": [1]}, root)
    for number in range(150):
        x, y = (
            commit(store, {"a": [number + 2], "b": [number + 1]}, x, y),
            commit(store, {"a": [number + 1], "b": [number + 2]}, y, x),
        )
    with shallow_stack(120):
        outcome = merge(store, x, [y])
    assert listed(store, outcome.commit) == {"a": [151], "b": [151]}


def test_fifty_parents():
    """Fifty branches become one commit: their mean by weight, entries of one branch from that branch."""
    store = content()
    root = commit(store, {"a": [0, 0], "only7": [0], "still": [1]})
    heads = []
    for n in range(50):
        model = {"a": [n, 1], "only7": [7 if n == 7 else 0], "still": [1]}
        heads.append(commit(store, model, root, rows=n + 1))
    outcome = merge(store, heads[0], heads[1:], MEAN)
    assert store.commit(outcome.commit).parents == tuple(heads)
    weights = np.arange(1, 51)
    expected = F((np.arange(50) * weights).sum() / weights.sum())
    assert listed(store, outcome.commit) == {"a": [expected, 1], "only7": [7], "still": [1]}
    assert same_again(store, outcome.commit)
    open_ = merge(store, heads[0], heads[1:])
    assert len(open_.conflicts["model/a"].heads) == 50


# weights


@given(st.integers(1, 6), st.floats(1e-3, 1e6), st.sampled_from(sorted(set(BRANCH_STRATEGIES) - {"fisher", "regmean"})))
@settings(max_examples=60, deadline=None)
def test_only_the_ratio_of_weights_matters(seed, scale, strategy):
    """Weights may be rows, shares or anything of one scale."""
    store, rng = content(), np.random.default_rng(seed)
    root = commit(store, {"w": rng.normal(size=(3, 2)).astype(F)})
    count = 2 if strategy in ("slerp", "theirs") else 3
    heads = [commit(store, {"w": rng.normal(size=(3, 2)).astype(F)}, root) for _ in range(count)]
    weights = [float(2**n) for n in range(count)]
    two = 2.0 ** round(np.log2(scale))  # exact, so that no bit may differ
    one = merge(store, heads[0], heads[1:], How(strategy, weights=weights)).commit
    other = merge(store, heads[0], heads[1:], How(strategy, weights=[weight * two for weight in weights])).commit
    assert store.part(one, "model") == store.part(other, "model")


def test_weights_are_the_rows_behind_each_head():
    """The last round's rows weigh a branch, through merges too; where one tells none, all weigh the same."""
    store = content()
    root = commit(store, {"a": [0]})
    x, y = commit(store, {"a": [1]}, root, rows=30), commit(store, {"a": [5]}, root, rows=10)
    z = commit(store, {"a": [2]}, root)
    assert default_weights([x, y], store.commit) == (30, 10)
    assert default_weights([x, y, z], store.commit) == (1, 1, 1)
    merged = merge(store, x, [y], MEAN).commit
    assert listed(store, merged) == {"a": [2]}
    assert rows_behind(merged, store.commit) == 40
    assert rows_behind(commit(store, {"a": [9]}, merged, kind="train"), store.commit) == 40


@pytest.mark.parametrize("weights", [[1], [1, 0], [1, -1], [1, float("nan")], [1, float("inf")], [1, 2, 3]])
def test_weights_that_make_no_sense_are_refused(weights):
    """One positive number for each branch."""
    store = content()
    _, x, y = fork(store, {"a": [0]}, {"a": [1]}, {"a": [3]})
    wrong = f"weight {weights[1]} cannot be" if len(weights) == 2 else "2 weights are needed, one for each branch"
    with pytest.raises(SpecError, match=wrong):
        merge(store, x, [y], How("mean", weights=weights))


# the model, entry by entry


def test_what_one_branch_or_all_alike_did_needs_nobody():
    """Unchanged, changed by one, changed alike, added by one, added alike, deleted by one or all: no conflict."""
    store = content()
    base = {"kept": [0], "left": [0], "right": [0], "alike": [0], "gone": [0], "gone_twice": [0]}
    ours = {"kept": [0], "left": [1], "right": [0], "alike": [3], "gone": [0], "new": [1], "new_alike": [2]}
    theirs = {"kept": [0], "left": [0], "right": [2], "alike": [3], "new_alike": [2], "newer": [9]}
    _, x, y = fork(store, base, ours, theirs)
    outcome = merge(store, x, [y])
    assert outcome.kind == "merged"
    assert listed(store, outcome.commit) == {
        "kept": [0],
        "left": [1],
        "right": [2],
        "alike": [3],
        "new": [1],
        "new_alike": [2],
        "newer": [9],
    }
    assert outcome.outcomes == {
        "model/kept": "unchanged",
        "model/left": "taken",
        "model/right": "taken",
        "model/alike": "same",
        "model/gone": "deleted",
        "model/gone_twice": "deleted",
        "model/new": "taken",
        "model/new_alike": "same",
        "model/newer": "taken",
    }


@pytest.mark.parametrize(
    ("problem", "base", "ours", "theirs"),
    [
        ("contested", {"a": [0]}, {"a": [1]}, {"a": [2]}),
        ("shape", {"a": [0]}, {"a": [1, 1]}, {"a": [2]}),
        ("dtype", {"a": [0]}, {"a": np.array([1.0])}, {"a": [2]}),
        ("add_add", {}, {"a": [1]}, {"a": [2]}),
        ("delete_modify", {"a": [0]}, {}, {"a": [2]}),
    ],
)
def test_what_cannot_be_decided_is_a_conflict_of_its_kind(problem, base, ours, theirs):
    """Each problem is named, stands in the tree, and what is not contested is merged all the same."""
    store = content()
    _, x, y = fork(store, {"b": [0], **base}, {"b": [0], **ours}, {"b": [5], **theirs})
    outcome = merge(store, x, [y])
    assert outcome.kind == "conflicts"
    conflict = open_conflicts(store, outcome.commit)["model/a"]
    assert conflict.problem == problem
    assert len(conflict.heads) == 2
    entries = store.tree(store.part(outcome.commit, "model").id)
    assert (entries["a"].kind, entries["b"].kind) == ("conflict", "tensor")
    assert store.commit(outcome.commit).facts["merge"]["outcomes"]["conflict"] == 1
    assert same_again(store, outcome.commit)
    with pytest.raises(ConflictError, match="has open conflicts at model/a"):
        store.model(outcome.commit)


def test_a_contested_tensor_says_how_much_the_branches_disagree():
    """Cosine of the changes, share of opposite signs and relative size stand in the conflict."""
    store = content()
    _, x, y = fork(store, {"a": [3, 4]}, {"a": [4, 4]}, {"a": [1, 4]})
    stats = merge(store, x, [y]).conflicts["model/a"].stats
    assert stats == {"cosine": -1, "opposite_signs": 1, "relative_norms": [0.2, 0.4]}


def test_a_rename_and_a_change_go_together():
    """What one branch renamed and the other changed is changed under its new name."""
    store = content()
    _, x, y = fork(store, {"old": [1, 2], "b": [0]}, {"new": [1, 2], "b": [0]}, {"old": [5, 6], "b": [0]})
    outcome = merge(store, x, [y])
    assert listed(store, outcome.commit) == {"new": [5, 6], "b": [0]}
    assert same_again(store, outcome.commit)


def test_two_names_for_one_are_a_conflict():
    """Renamed differently, it stands under its old name until somebody chooses."""
    store = content()
    _, x, y = fork(store, {"old": [1, 2]}, {"left": [1, 2]}, {"right": [1, 2]})
    conflict = merge(store, x, [y]).conflicts["model/old"]
    assert (conflict.problem, conflict.stats["names"]) == ("rename", ["model/left", "model/right"])


def test_an_entry_that_is_not_here_is_opaque():
    """A promised tensor that both branches changed cannot be merged; what one branch changed is taken unread."""
    store = content()
    entries = {name: Entry("tensor", digit * 64, "promised") for name, digit in (("a", "1"), ("b", "2"))}
    root = commit(store, {})
    base = {"far": store.add_tree({"t": entries["a"]})}
    root = commit(store, {"m": [0]}, **base)
    x = commit(store, {"m": [0]}, root, far=store.add_tree({"t": entries["b"]}))
    y = commit(store, {"m": [0]}, root, facts={"y": 1}, **base)
    assert value_entry(store, merge(store, x, [y]).commit, "far", "t") == entries["b"]
    z = commit(store, {"m": [0]}, root, far=store.add_tree({"t": Entry("tensor", "3" * 64, "promised")}))
    assert merge(store, x, [z]).conflicts["far/t"].problem == "opaque"


def value_entry(store, id_, part, name):
    return store.tree(store.part(id_, part).id)[name]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("ours", [1, 0]),
        ("theirs", [4, 2]),
        ("mean", [2.5, 1]),
        ("weighted_mean", [3.25, 1.5]),
        ("task_arithmetic:scaling=0.5", [3.25, 1.5]),
        ("median", [2.5, 1]),
        ("trimmed_mean", [2.5, 1]),
    ],
)
def test_a_strategy_decides_what_is_contested(strategy, expected):
    """Each strategy by its name, with the weights given, and the recipe gives the same."""
    store = content()
    _, x, y = fork(store, {"a": [0, 0]}, {"a": [1, 0]}, {"a": [4, 2]})
    outcome = merge(store, x, [y], How(strategy, weights=[1, 3]))
    assert listed(store, outcome.commit) == {"a": expected}
    assert outcome.outcomes == {"model/a": strategy.partition(":")[0]}
    assert same_again(store, outcome.commit)


@pytest.mark.parametrize("strategy", ["ties:density=0.3", "dare:drop=0.4,seed=3", "slerp"])
def test_the_other_strategies_are_reproducible(strategy):
    """Drawn or trimmed, the recipe gives the same bits."""
    store, rng = content(), np.random.default_rng(0)
    base = {f"w{n}": rng.normal(size=(4, 4)).astype(F) for n in range(3)}
    root = commit(store, base)
    x, y = (commit(store, {k: a + rng.normal(size=a.shape).astype(F) for k, a in base.items()}, root) for _ in "xy")
    outcome = merge(store, x, [y], How(strategy))
    assert outcome.kind == "merged"
    assert same_again(store, outcome.commit)


def test_rules_decide_by_name_first_fit():
    """The first rule that fits decides, the strategy the rest."""
    store = content()
    names = ("head.bias", "head.weight", "body.weight")
    _, x, y = fork(store, *({name: [value] for name in names} for value in (0, 1, 3)))
    outcome = merge(store, x, [y], How("mean", ("head.bias=theirs", "model/head.*=ours")))
    assert listed(store, outcome.commit) == {"head.bias": [3], "head.weight": [1], "body.weight": [2]}
    assert same_again(store, outcome.commit)


def test_taking_a_side_decides_about_anything():
    """`ours` settles shapes, deletions and blobs too; without a base tensors are averaged, or stay open."""
    store = content()
    base = {"shape": [0], "gone": [0]}
    root = commit(store, base, preprocessing=tree(store, {"codes": [1]}))
    x = commit(store, {"shape": [1, 1], "new": [1]}, root, preprocessing=tree(store, {"codes": [2]}))
    y = commit(store, {"shape": [2], "gone": [5], "new": [3]}, root, preprocessing=tree(store, {"codes": [3]}))
    outcome = merge(store, x, [y], How("ours"))
    assert listed(store, outcome.commit) == {"shape": [1, 1], "new": [1]}
    assert value(store, outcome.commit, ("preprocessing", "codes")) == b"[2]"
    open_ = merge(store, x, [y], How("ties"))
    problems = {path: conflict.problem for path, conflict in open_.conflicts.items()}
    assert problems == {
        "model/shape": "shape",
        "model/gone": "delete_modify",
        "model/new": "add_add",
        "preprocessing/codes": "opaque",
    }
    assert "the base has no such tensor" in open_.conflicts["model/new"].stats["reason"]


def test_a_strategy_that_two_versions_are_too_few_for_leaves_a_conflict():
    """Krum of three branches cannot choose among the two that changed an entry: that entry stays open."""
    store = content()
    root = commit(store, {"a": [0], "b": [0]})
    models = [{"a": [1], "b": [1]}, {"a": [1.5], "b": [2]}, {"a": [9], "b": [0]}]
    heads = [commit(store, model, root) for model in models]
    outcome = merge(store, heads[0], heads[1:], How("krum"))
    assert outcome.outcomes == {"model/a": "krum", "model/b": "conflict"}
    assert outcome.conflicts["model/b"].stats["reason"] == "krum/1 cannot merge 2 versions"


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (How("meen"), "did you mean 'mean'"),
        (How("krum"), r"krum/1 is for 3 or more branches, and these are 2"),
        (How(rules=("a=ties:dens=1",)), "has no option 'dens'"),
        (How(rules=("hed.*=ours",)), r"rule 'hed\.\*' fits nothing in these branches; did you mean 'head.w'"),
        (How(optimizer="keep"), "no optimizer policy 'keep'"),
    ],
)
def test_wishes_that_make_no_sense_are_refused_with_what_does(how, told):
    """Before anything is written."""
    store = content()
    _, x, y = fork(store, {"head.w": [0]}, {"head.w": [1]}, {"head.w": [2]})
    before = len(list(store.database.ids()))
    with pytest.raises(SpecError, match=told):
        merge(store, x, [y], how)
    assert len(list(store.database.ids())) == before


def test_slerp_is_for_two():
    """Three branches have no arc between them."""
    store = content()
    root = commit(store, {"a": [0]})
    heads = [commit(store, {"a": [n]}, root) for n in (1, 2, 3)]
    with pytest.raises(SpecError, match="slerp/1 is for exactly 2 branches, and these are 3"):
        merge(store, heads[0], heads[1:], How("slerp"))


def test_fisher_and_gram_are_read_from_the_branches_statistics():
    """Fisher weights stand in `statistics/fisher/NAME` of each head; without them a sentence says so."""
    store = content()
    root = commit(store, {"a": [0, 0]})

    def head(values, certainty=None):
        kept = {"statistics": tree(store, {"fisher": {"a": np.array(certainty, F)}})} if certainty else {}
        return commit(store, {"a": values}, root, **kept)

    x, y, bare = head([1, 1], [3, 0]), head([5, 5], [1, 1]), head([9, 9])
    outcome = merge(store, x, [y], How("fisher"))
    assert listed(store, outcome.commit) == {"a": [2, 5]}
    assert same_again(store, outcome.commit)
    assert store.part(outcome.commit, "statistics") is None, "they are about the heads' models"
    with pytest.raises(VersionsError, match=r"fisher/1 cannot merge 'model/a' without fisher of head 2"):
        merge(store, x, [bare], How("fisher"))


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float64, np.int32, np.bool_])
def test_other_dtypes_keep_theirs(dtype):
    """A mean of bf16 is bf16, rounded once."""
    store = content()
    _, x, y = fork(store, *({"a": np.array(values).astype(dtype)} for values in ([0, 0], [1, 0], [2, 1.5])))
    outcome = merge(store, x, [y], How("mean"))
    merged = store.model(outcome.commit)["a"]
    assert merged.dtype == np.dtype(dtype)
    assert merged[1] == {np.int32: 0, np.bool_: False}.get(dtype, 0.75)
    assert same_again(store, outcome.commit)


def test_names_may_hold_slashes():
    """`layer/weight` is a name of the model's tree, not a folder of it."""
    store = content()
    _, x, y = fork(store, {"l/w": [0], "l/b": [0]}, {"l/w": [1], "l/b": [0]}, {"l/w": [0], "l/b": [2]})
    assert listed(store, merge(store, x, [y]).commit) == {"l/w": [1], "l/b": [2]}


# what is stored, and the recipe


def test_a_merge_that_stores_no_tensors_is_the_same_commit_and_computed():
    """Whether merged tensors are stored is no part of the id; the recipe brings them back, unstored heads too."""
    lazy, whole = content(), content()
    made = {}
    for store, kept in ((lazy, False), (whole, True)):
        _, x, y = fork(store, {"a": [0, 0]}, {"a": [1, 0]}, {"a": [2, 5]})
        first = merge(store, x, [y], How("weighted_mean", weights=[1, 2], store=kept)).commit
        later = commit(store, {"a": [7, 7]}, y)
        second = merge(store, first, [later], How("task_arithmetic", store=kept)).commit
        made[kept] = (first, second)
    assert made[True] == made[False]
    merged = {entry.id for id_ in made[False] for entry in lazy.tree(lazy.part(id_, "model").id).values()}
    assert not any(map(lazy.has, merged))
    for id_ in made[False]:
        assert listed(lazy, id_) == listed(whole, id_)


def test_a_stored_merge_stores_what_its_heads_only_compute():
    """What is taken from a head whose model is a recipe is stored with the merge, for quick reading."""
    store = content()
    _, x, y = fork(store, {"a": [0], "b": [0]}, {"a": [1], "b": [0]}, {"a": [2], "b": [0]})
    lazy = merge(store, x, [y], How("mean", store=False)).commit
    other = commit(store, {"a": [1], "b": [5]}, x)
    merged = merge(store, lazy, [other], MEAN)
    assert merged.outcomes == {"model/a": "taken", "model/b": "taken"}
    assert not recipes.unstored(store, merged.commit)
    assert listed(store, merged.commit) == {"a": [1.5], "b": [5]}


def test_a_forged_merge_does_not_come_out():
    """Other weights than were used give another tensor, and the recipe is refused with its name."""
    store = content()
    _, x, y = fork(store, {"a": [0]}, {"a": [1]}, {"a": [2]})
    true = store.commit(merge(store, x, [y], How("weighted_mean", weights=[1, 3])).commit)
    inputs = tuple(replace(part, weight=1.0) for part in true.recipe.inputs)
    forged = store.add_commit(replace(true, recipe=replace(true.recipe, inputs=inputs)))
    with pytest.raises(VersionsError, match=r"'model/a' of commit .* does not come out of its recipe"):
        recipes.compute(store, forged)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"bases": None}, "names no bases"),
        ({"rules": [["a"]]}, "recipe is broken at 'rules'"),
        ({"otherwise": {"use": "mean/9"}}, "strategy 'mean/9' is unknown to this fedloom: upgrade"),
        ({"otherwise": [1]}, "broken at 'otherwise'"),
        ({"rules": [[1, {}]]}, "broken at 'rules'"),
        ({"optimizer": "x"}, "broken at 'optimizer'"),
        ({"settled": []}, "broken at 'settled'"),
        ({"settled": {"model/a": 1}}, "broken at 'settled'"),
        ({"replay": 1}, "broken at 'replay'"),
        ({"bases": [1]}, "names no bases"),
        ({"bases": ["zz"]}, "names no bases"),
        ({"bases": ["../../settings"]}, "names no bases"),
    ],
)
def test_a_broken_recipe_of_a_merge_ends_in_a_sentence(change, told):
    """Whatever a foreign repository wrote."""
    store = content()
    _, x, y = fork(store, {"a": [0]}, {"a": [1]}, {"a": [2]})
    true = store.commit(merge(store, x, [y], MEAN).commit)
    recipe = replace(true.recipe, settings={**true.recipe.settings, **change})
    broken = store.add_commit(replace(true, recipe=recipe))
    with pytest.raises(VersionsError, match=told):
        recipes.compute(store, broken)


def test_a_merge_without_its_tensors_and_without_a_head_says_what_is_missing():
    """A lost head cannot be merged again."""
    store = content()
    _, x, y = fork(store, {"a": [0]}, {"a": [1]}, {"a": [2]})
    gone = store.add_tree({"model": store.name_tensors({"a": np.array([8], F)})})
    lost = store.add_commit(replace(store.commit(y), tree=gone.id))
    true = store.commit(merge(store, x, [y], How("mean", store=False)).commit)
    inputs = (true.recipe.inputs[0], replace(true.recipe.inputs[1], id=lost))
    with pytest.raises(NotFoundError, match="missing from the repository"):
        recipes.compute(store, store.add_commit(replace(true, recipe=replace(true.recipe, inputs=inputs))))


@given(st.integers(0, 2**32), st.integers(2, 5), st.sampled_from(["weighted_mean", "ours", "task_arithmetic", None]))
@settings(max_examples=50, deadline=None)
def test_any_merge_comes_out_of_its_recipe_and_loses_nothing(seed, count, strategy):
    """Random branches: what one head changed is in the result, what none did is the base's; all can be recomputed."""
    store, rng = content(), np.random.default_rng(seed)
    names = [f"t{n}" for n in range(6)]
    base = {name: rng.integers(0, 3, 2).astype(F) for name in names}
    root = commit(store, base)
    models = [
        {name: a if rng.random() < 0.6 else rng.integers(0, 3, 2).astype(F) for name, a in base.items()}
        for _ in range(count)
    ]
    heads = [commit(store, model, root, facts={"n": n}) for n, model in enumerate(models)]
    outcome = merge(store, heads[0], heads[1:], How(strategy))
    entries = store.tree(store.part(outcome.commit, "model").id)
    for name in names:
        changed = [m[name].tolist() for m in models if m[name].tolist() != base[name].tolist()]
        distinct = {tuple(values) for values in changed}
        if len(distinct) > 1:
            assert outcome.outcomes[f"model/{name}"] == (strategy or "conflict")
        else:
            wanted = changed[0] if changed else base[name].tolist()
            assert store.tensor(entries[name].id).tolist() == wanted
    assert same_again(store, outcome.commit)


# the other parts


def with_optimizer(store, state, model, *parents, **how):
    return commit(
        store, model, *parents, optimizer=store.add_tensors({k: np.array(v) for k, v in state.items()}), **how
    )


def test_the_optimizers_state_is_dropped_taken_from_the_base_or_averaged():
    """It is never taken from one side beside merged weights."""
    store = content()
    root = with_optimizer(store, {"m/a": [0.0], "step": 2}, {"a": [0]})
    x = with_optimizer(store, {"m/a": [1.0], "step": 4}, {"a": [1]}, root)
    y = with_optimizer(store, {"m/a": [4.0], "step": 8}, {"a": [2]}, root)
    dropped = merge(store, x, [y], MEAN)
    assert store.part(dropped.commit, "optimizer") is None
    assert dropped.outcomes["optimizer/m/a"] == "dropped"
    base = merge(store, x, [y], How("mean", optimizer="base")).commit
    assert store.part(base, "optimizer") == store.part(root, "optimizer")
    mean = merge(store, x, [y], How("mean", weights=[1, 3], optimizer="mean")).commit
    state = store.part_tensors(mean, "optimizer")
    assert {name: array.tolist() for name, array in state.items()} == {"m/a": [3.25], "step": 7}
    assert same_again(store, mean)
    one_sided = commit(store, {"a": [5]}, root)
    assert store.part(merge(store, x, [one_sided], MEAN).commit, "optimizer") is None
    with pytest.raises(VersionsError, match="optimizer's state cannot be averaged: 'optimizer/m/a'"):
        merge(store, x, [one_sided], How("mean", optimizer="mean"))


def moments(rows):
    rows = np.asarray(rows, float)
    return np.array([[len(rows)] * rows.shape[1], rows.sum(0), (rows**2).sum(0)])


def fitted(store, rows, *, counted=True):
    """Store the preprocessing the `fit` stage leaves."""
    sums = moments(rows)
    scaling = {"mean": sums[1] / sums[0], "scale": np.sqrt(sums[2] / sums[0] - (sums[1] / sums[0]) ** 2)}
    parts = {"features": ["x", "z"], "scaling": scaling, **({"moments": {"moments": sums}} if counted else {})}
    return tree(store, parts)


def test_standardisation_is_pooled_by_its_counts():
    """Two branches that each saw more rows have the mean and scale of all rows together."""
    store, rng = content(), np.random.default_rng(3)
    rows = rng.normal([5, 100], [1, 9], (60, 2))
    root = commit(store, {"a": [0]}, preprocessing=fitted(store, rows[:20]))
    x = commit(store, {"a": [0]}, root, preprocessing=fitted(store, rows[:35]))
    y = commit(store, {"a": [0]}, root, preprocessing=fitted(store, np.concatenate([rows[:20], rows[35:]])))
    outcome = merge(store, x, [y])
    assert outcome.kind == "merged"
    assert outcome.outcomes["preprocessing/scaling/mean"] == "pooled"
    np.testing.assert_allclose(value(store, outcome.commit, ("preprocessing", "scaling", "mean")), rows.mean(0))
    np.testing.assert_allclose(value(store, outcome.commit, ("preprocessing", "scaling", "scale")), rows.std(0))
    assert value(store, outcome.commit, ("preprocessing", "moments", "moments"))[0].tolist() == [60, 60]


def test_standardisation_without_counts_is_a_conflict():
    """Two means without counts have no common mean."""
    store, rng = content(), np.random.default_rng(3)
    rows = rng.normal(size=(30, 2))
    root = commit(store, {"a": [0]}, preprocessing=fitted(store, rows, counted=False))
    x, y = (commit(store, {"a": [0]}, root, preprocessing=fitted(store, rows[:n], counted=False)) for n in (9, 20))
    outcome = merge(store, x, [y], MEAN)
    problems = {path: conflict.problem for path, conflict in outcome.conflicts.items()}
    assert problems == {"preprocessing/scaling/mean": "no_counts", "preprocessing/scaling/scale": "no_counts"}
    sided = merge(store, x, [y], How(rules=("preprocessing/scaling/*=ours",)))
    assert sided.kind == "merged"


def test_batch_norm_is_pooled_not_averaged():
    """The variance of a merged layer has what lies between the branches' means, without any strategy."""
    store = content()

    def norm(mean, var, count):
        return {"bn.running_mean": [mean], "bn.running_var": [var], "bn.num_batches_tracked": np.array(count)}

    _, x, y = fork(store, norm(0, 1, 10), norm(1, 1, 20), norm(3, 1, 40))
    outcome = merge(store, x, [y])
    assert outcome.kind == "merged"
    merged = store.model(outcome.commit)
    assert merged["bn.running_mean"].tolist() == [2.5]
    assert merged["bn.running_var"].tolist() == [1.75]
    assert merged["bn.num_batches_tracked"] == 50
    assert same_again(store, outcome.commit)


AXES = {"axes": {"embed.weight": {"axis": 0, "keys": "preprocessing/words"}}}


def lexicon(store, words, model, *parents):
    return commit(store, model, *parents, facts=AXES, preprocessing=tree(store, {"words": words}))


def test_vocabularies_are_united_and_embedding_rows_aligned():
    """Words of the base keep their place, new ones follow by name, each with the row of the branch that has it."""
    store = content()
    root = lexicon(store, ["the", "cat"], {"embed.weight": [[1, 1], [2, 2]]})
    x = lexicon(store, ["the", "cat", "zoo"], {"embed.weight": [[1, 1], [2, 2], [9, 9]]}, root)
    y = lexicon(store, ["the", "cat", "ant"], {"embed.weight": [[1, 1], [5, 5], [7, 7]]}, root)
    outcome = merge(store, x, [y])
    assert outcome.kind == "merged"
    assert value(store, outcome.commit, ("preprocessing", "words")) == b'["the","cat","ant","zoo"]'
    assert listed(store, outcome.commit) == {"embed.weight": [[1, 1], [5, 5], [7, 7], [9, 9]]}
    assert store.commit(outcome.commit).facts["axes"] == AXES["axes"]
    assert same_again(store, outcome.commit)


def test_rows_changed_by_both_need_a_strategy_or_stay_open_together():
    """Words and rows only fit together: either both are merged, or both are conflicts."""
    store = content()
    root = lexicon(store, ["the"], {"embed.weight": [[1, 1]]})
    x = lexicon(store, ["the", "zoo"], {"embed.weight": [[2, 2], [9, 9]]}, root)
    y = lexicon(store, ["the", "ant"], {"embed.weight": [[4, 4], [7, 7]]}, root)
    assert set(merge(store, x, [y]).conflicts) == {"model/embed.weight", "preprocessing/words"}
    merged = merge(store, x, [y], How("mean"))
    assert listed(store, merged.commit) == {"embed.weight": [[3, 3], [7, 7], [9, 9]]}
    assert same_again(store, merged.commit)


def test_a_list_that_no_fact_names_is_not_united():
    """Without a word on what it indexes, a list is like any blob."""
    store = content()
    root = commit(store, {"a": [0]}, preprocessing=tree(store, {"words": ["a"]}))
    x, y = (commit(store, {"a": [0]}, root, preprocessing=tree(store, {"words": ["a", w]})) for w in "bc")
    assert merge(store, x, [y], MEAN).conflicts["preprocessing/words"].problem == "opaque"


def test_inputs_are_merged_key_by_key_and_never_stop_a_merge():
    """What both changed is the first parent's, for the parents hold the truth; notes are united, receipts left out."""
    store = content()

    def parts(code, sites, notes):
        return {
            "inputs": tree(store, {"code": {"json": 1, **code}, "sites": {"json": 1, **sites}, "source": {}}),
            "notes": tree(store, notes),
            "receipts": tree(store, {"north": {"w": np.zeros(1)}}),
        }

    root = commit(store, {"a": [0]}, **parts({"v": 1, "w": 1}, {"n": 1}, ["old"]))
    x = commit(store, {"a": [0]}, root, **parts({"v": 2, "w": 1}, {"e": 5}, ["old", "x"]))
    y = commit(store, {"a": [0]}, root, **parts({"v": 3, "w": 9}, {"n": 1, "s": 7}, ["old", "y"]))
    outcome = merge(store, x, [y])
    assert outcome.kind == "merged"
    assert outcome.outcomes["inputs/code"] == "by key"
    assert value(store, outcome.commit, ("inputs", "code")) == b'{"v":2,"w":9}'
    assert value(store, outcome.commit, ("inputs", "sites")) == b'{"e":5,"n":1,"s":7}'
    again = merge(store, commit(store, {"a": [1]}, root, **parts({"v": 1, "w": 1}, {"n": 1}, ["old"])), [x, y])
    assert value(store, again.commit, ("inputs", "code")) == b'{"v":1,"w":9}', "the first parent's, changed or not"
    assert value(store, outcome.commit, ("notes",)) == b'["old","x","y"]'
    assert set(store.tree(store.commit(outcome.commit).tree)) == {"model", "inputs", "notes"}
    assert "source" in store.tree(store.part(outcome.commit, "inputs").id), "an empty folder is kept"


def test_a_name_that_is_a_folder_elsewhere_is_refused():
    """One sentence, and no tree that cannot be."""
    store = content()
    root = commit(store, {"a": [0]})
    x = commit(store, {"a": [0]}, root, extra=tree(store, {"t": np.zeros(1)}))
    y = commit(store, {"a": [0]}, root, extra=tree(store, {"t": {"u": np.zeros(1)}}))
    with pytest.raises(VersionsError, match=r"'extra/t.*' is a folder in one branch and none in another"):
        merge(store, x, [y])


# cherry-pick and revert


def test_a_cherry_pick_adds_a_commits_change():
    """X + (C - parent of C), marked as replayed, with X as its only parent."""
    store = content()
    root, x, y = fork(store, {"a": [0, 0], "b": [0]}, {"a": [1, 0], "b": [0]}, {"a": [0, 4], "b": [0]})
    z = commit(store, {"a": [8, 6], "b": [1]}, y)
    outcome = cherry_pick(store, x, z)
    made = store.commit(outcome.commit)
    assert listed(store, outcome.commit) == {"a": [9, 2], "b": [1]}
    assert (made.kind, made.parents, made.facts["replayed"]) == ("merge", (x,), z)
    assert same_again(store, outcome.commit)
    with pytest.raises(SpecError, match="is the start of a history"):
        cherry_pick(store, x, root)


def test_what_was_undone_can_be_picked_again():
    """A commit in the history is no reason to do nothing; only where it makes no difference nothing is done."""
    store = content()
    root = commit(store, {"a": [0, 0], "b": [3]})
    good = commit(store, {"a": [5, 0], "b": [4]}, root)
    assert cherry_pick(store, good, good).kind == "up-to-date"
    undone = revert_commit(store, good, good).commit
    assert listed(store, undone) == {"a": [0, 0], "b": [3]}
    again = cherry_pick(store, undone, good)
    assert (again.kind, listed(store, again.commit)) == ("merged", {"a": [5, 0], "b": [4]})
    assert store.commit(again.commit).parents == (undone,)
    assert same_again(store, again.commit)
    later = commit(store, {"a": [1, 1], "b": [3]}, undone)
    assert listed(store, cherry_pick(store, later, good).commit) == {"a": [6, 1], "b": [4]}


def test_a_revert_takes_a_commits_change_back():
    """X - (C - parent of C); what came after stays."""
    store = content()
    root = commit(store, {"a": [0, 0], "b": [3]})
    bad = commit(store, {"a": [5, 0], "b": [4]}, root)
    tip = commit(store, {"a": [6, 1], "b": [4]}, bad)
    outcome = revert_commit(store, tip, bad)
    made = store.commit(outcome.commit)
    assert listed(store, outcome.commit) == {"a": [1, 1], "b": [3]}
    assert (made.kind, made.parents, made.facts["reverted"]) == ("revert", (tip,), bad)
    assert same_again(store, outcome.commit)
    with pytest.raises(SpecError, match="is no part of"):
        revert_commit(store, root, tip)


@given(st.lists(st.lists(st.integers(-50, 50), min_size=3, max_size=3), min_size=3, max_size=3))
@settings(max_examples=30, deadline=None)
def test_a_revert_is_the_inverse_of_a_cherry_pick(values):
    """Picked and reverted, whole numbers are what they were."""
    store = content()
    start, ours, picked = values
    _, x, c = fork(store, {"a": start}, {"a": ours}, {"a": picked})
    there = cherry_pick(store, x, c)
    back = revert_commit(store, there.commit, there.commit)
    assert listed(store, back.commit) == {"a": ours}


def test_of_a_merge_one_says_which_parent_its_change_counts_from():
    """`--mainline` is needed for merges, and only a number of a parent will do."""
    store = content()
    _, x, y = fork(store, {"a": [0], "b": [0]}, {"a": [1], "b": [0]}, {"a": [0], "b": [4]})
    merged = merge(store, x, [y]).commit
    with pytest.raises(SpecError, match="is a merge of 2: say which parent"):
        revert_commit(store, merged, merged)
    with pytest.raises(SpecError, match="--mainline cannot be 3"):
        revert_commit(store, merged, merged, mainline=3)
    assert listed(store, revert_commit(store, merged, merged, mainline=1).commit) == {"a": [1], "b": [0]}
    assert listed(store, revert_commit(store, merged, merged, mainline=2).commit) == {"a": [0], "b": [4]}


def test_a_replay_keeps_the_statistics_of_where_it_lands():
    """Running variances are no sum of changes: they could become negative."""
    store = content()

    def norm(var, a):
        return {"n.running_mean": [0], "n.running_var": [var], "n.num_batches_tracked": np.array(var), "a": [a]}

    _, x, c = fork(store, norm(5, 0), norm(1, 1), norm(2, 4))
    assert listed(store, cherry_pick(store, x, c).commit)["n.running_var"] == [1]


def test_what_cannot_be_added_stays_open_in_a_replay():
    """A shape that both sides changed is a conflict of the replay, and a rule settles it."""
    store = content()
    _, x, c = fork(store, {"a": [0]}, {"a": [1, 1]}, {"a": [2, 2, 2]})
    assert cherry_pick(store, x, c).kind == "conflicts"
    assert listed(store, cherry_pick(store, x, c, rules=("a=theirs",)).commit) == {"a": [2, 2, 2]}


def test_nothing_is_built_on_open_conflicts():
    """A branch with open conflicts cannot be merged or replayed."""
    store = content()
    root, x, y = fork(store, {"a": [0]}, {"a": [1]}, {"a": [2]})
    open_ = merge(store, x, [y]).commit
    z = commit(store, {"a": [7]}, root)
    for verb in (lambda: merge(store, z, [open_], MEAN), lambda: cherry_pick(store, z, open_, mainline=1)):
        with pytest.raises(ConflictError, match="has open conflicts at model/a"):
            verb()
