"""Recipes: a model that is not stored comes out of its inputs bit for bit, or a sentence says what is wrong."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.errors import CorruptObjectError, NotFoundError
from fedloom.values import Contribution, Digest
from fedloom.versions import recipes
from fedloom.versions.content import Content
from fedloom.versions.merging.catalog import STRATEGIES
from fedloom.versions.objects import PARTS, Commit, Encoded, Entry, Input, Recipe, encode_commit
from fedloom.versions.store import Store
from tests.versions.histories import shallow_stack

SITES = ("east", "north", "south")


def content() -> Content:
    return Content(Store.in_memory())


def model(seed: int, width: int = 6, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(width, 3)).astype(dtype), "b": rng.normal(size=3), "steps": np.array(seed)}


def root(store: Content, start=None, **how) -> Digest:
    tree = store.add_tree({"model": store.add_tensors(start or model(0, **how))})
    return store.add_commit(Commit(tree.id, (), "import", "start"))


def round_(store: Content, tip: Digest, number: int, *, use="fedavg", keep="stored", stored=False, **options) -> Digest:
    """Commit a round as the train stage does: updates of three sites, a recipe, and only the names of the result."""
    base, state = store.model(tip), store.part_tensors(tip, "optimizer")
    rng = np.random.default_rng(number)
    updates = [
        Contribution(site, {k: (a + rng.normal(size=a.shape)).astype(a.dtype) for k, a in base.items()}, weight)
        for site, weight in zip(SITES, (3.0, 5.0, 11.0), strict=True)
    ]
    merged = STRATEGIES[use](**options).merge(base, updates, state)
    write = store.add_tensors if stored else store.name_tensors
    save = store.add_tensors if keep == "stored" else store.name_tensors
    receipts = {u.site: replace(save(u.tensors), keep=keep) for u in updates}
    parts = {"model": write(merged.tensors), "receipts": store.add_tree(receipts)}
    if merged.state:
        parts["optimizer"] = write(merged.state)
    inputs = [Input(u.site, receipts[u.site].id, u.weight) for u in updates]
    recipe = recipes.fold_recipe({"use": use, **options}, inputs)
    return store.add_commit(Commit(store.add_tree(parts).id, (tip,), "round", f"{number}", {"round": number}, recipe))


def same(one, other) -> bool:
    return {k: (a.dtype, a.shape, a.tobytes()) for k, a in one.items()} == {
        k: (a.dtype, a.shape, a.tobytes()) for k, a in other.items()
    }


def added(store: Content, since: set[str]) -> int:
    """Count the bytes of the objects that came to a store."""
    store.database.flush()
    return sum(len(store.store.get(path)) for path in set(store.store.paths("")) - since)


@pytest.mark.parametrize(
    ("use", "options"),
    [("fedavg", {}), ("fedadam", {"eta": 0.3}), ("median", {}), ("trimmed_mean", {"beta": 0.4}), ("krum", {})],
)
def test_rounds_that_store_no_model_give_it_bit_for_bit(use, options):
    """After five rounds of recipes the last model and the hub's optimizer state are those that were merged."""
    lazy, whole = content(), content()
    one, other = root(lazy), root(whole)
    for number in range(1, 6):
        one = round_(lazy, one, number, use=use, **options)
        other = round_(whole, other, number, use=use, stored=True, **options)
    assert one == other, "whether tensors are stored is no part of the id"
    again = Content(lazy.store)
    assert same(again.model(one), whole.model(other))
    assert same(again.part_tensors(one, "optimizer"), whole.part_tensors(other, "optimizer"))
    assert all(not array.flags.writeable for array in again.model(one).values())


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_a_round_of_a_narrow_dtype_comes_out_again(dtype):
    """bf16 and fp16 models are computed as exactly as fp32."""
    store = content()
    tip = round_(store, root(store, model(0, dtype=dtype)), 1)
    assert store.model(tip)["w"].dtype == np.dtype(dtype)


def test_a_long_chain_of_recipes_is_walked_without_recursion():
    """200 rounds in a row, none of them stored, are computed, on a stack that a recursion would overflow."""
    store = content()
    tip = root(store, {"w": np.zeros(2, np.float32)})
    for number in range(200):
        updates = [store.add_tensors({"w": np.full(2, number + side, np.float32)}) for side in (0, 1)]
        named = store.name_tensors({"w": np.full(2, number + 0.5, np.float32)})
        inputs = [Input(site, update.id, 1.0) for site, update in zip(("a", "b"), updates, strict=True)]
        recipe = recipes.fold_recipe({"use": "fedavg"}, inputs)
        tree = store.add_tree({"model": named})
        tip = store.add_commit(Commit(tree.id, (tip,), "round", "r", {}, recipe))
    with shallow_stack(120):
        assert store.model(tip)["w"].tolist() == [199.5, 199.5]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.booleans(), min_size=1, max_size=6))
def test_what_is_stored_of_a_history_never_matters(seed, stored):
    """Whichever rounds keep their tensors, the last model is the same."""
    lazy, whole = content(), content()
    one, other = root(lazy, model(seed)), root(whole, model(seed))
    for number, keep in enumerate(stored):
        one, other = round_(lazy, one, number, stored=keep), round_(whole, other, number, stored=True)
    assert same(lazy.model(one), whole.model(other))


def test_a_round_costs_at_most_ten_kilobytes_beyond_its_inputs():
    """With the size of the measured workload in tensors (52), what a recipe commit adds stays below 10 KB."""
    store = content()
    start = {f"block{n}.linear.weight": np.full((4, 4), n, np.float32) for n in range(52)}
    tip = root(store, start)
    rng = np.random.default_rng(1)
    updates = {
        site: {name: (a + rng.normal(size=a.shape)).astype(a.dtype) for name, a in start.items()}
        for site in ("a", "b", "c", "d")
    }
    trees = {site: store.add_tensors(tensors) for site, tensors in updates.items()}
    store.database.flush()
    before = set(store.store.paths(""))
    contributions = [Contribution(site, tensors, 7.0) for site, tensors in updates.items()]
    merged = STRATEGIES["fedavg"]().merge(start, contributions, {})
    parts = {"model": store.name_tensors(merged.tensors), "receipts": store.add_tree(trees)}
    recipe = recipes.fold_recipe({"use": "fedavg"}, [Input(site, entry.id, 7.0) for site, entry in trees.items()])
    commit = store.add_commit(Commit(store.add_tree(parts).id, (tip,), "round", "r", {}, recipe))
    assert 0 < added(store, before) <= 10_000
    assert same(store.model(commit), merged.tensors)


def test_materialize_stores_what_was_computed():
    """After `materialize` every tensor of the model is here, under the ids it had."""
    store = content()
    tip = round_(store, root(store), 1, use="fedadam")
    ids = {e.id for part in PARTS for e in store.tree(store.part(tip, part).id).values()}
    absent = {id_ for id_ in ids if not store.has(id_)}
    assert len(absent) >= 5
    assert recipes.materialize(store, tip) == len(absent)
    assert all(map(store.has, ids))
    assert recipes.materialize(store, tip) == 0, "there is nothing left to store"


# what is missing or wrong


@pytest.mark.parametrize(
    ("keep", "told"),
    [("promised", "updates of east, north, south are kept by those sites"), ("opaque", "were never kept")],
)
def test_inputs_that_are_not_here_are_named_with_who_keeps_them(keep, told):
    """One sentence says whose updates are missing, and whether asking can help."""
    store = content()
    tip = round_(store, root(store), 1, keep=keep)
    with pytest.raises(NotFoundError, match=told):
        store.model(tip)


def test_a_stored_model_needs_no_inputs():
    """With opaque receipts and a stored model nothing is computed."""
    store = content()
    tip = round_(store, root(store), 1, keep="opaque", stored=True)
    assert store.model(tip).keys() == {"w", "b", "steps"}


def test_a_deep_miss_is_told_of_the_commit_where_it_is():
    """The sentence names the round whose inputs are missing, not the one that was asked for."""
    whole, lean = content(), content()
    known = root(lean)
    assert known == root(whole)
    lost = round_(whole, known, 1, keep="promised", stored=True)
    tip = round_(whole, lost, 2)
    unwanted = {entry.id for entry in whole.tree(whole.part(lost, "model").id).values()}
    for id_ in whole.database.ids():
        if id_ not in unwanted:
            lean.database.put(Encoded(id_, b"", whole.database.get(id_)))
    with pytest.raises(NotFoundError, match=f"commit {lost[:12]} is not stored"):
        lean.model(tip)


def forged(store: Content, tip: Digest, name: str) -> Digest:
    """Commit a round again, naming another tensor than comes out."""
    commit = store.commit(tip)
    parts = dict(store.tree(commit.tree))
    entries = dict(store.tree(parts["model"].id))
    entries[name] = Entry("tensor", Digest("0" * 64))
    parts["model"] = store.add_tree(entries)
    return store.add_commit(replace(commit, tree=store.add_tree(parts).id))


def test_a_result_that_does_not_come_out_names_the_tensor():
    """A tree that names another tensor than the recipe gives is refused with the tensor's name."""
    store = content()
    tip = forged(store, round_(store, root(store), 1), "b")
    with pytest.raises(CorruptObjectError, match=r"'model/b' of commit .* does not come out of its recipe"):
        store.model(tip)


def test_a_tensor_too_many_or_too_few_is_found():
    """The names must be the same, too."""
    store = content()
    tip = round_(store, root(store), 1)
    commit = store.commit(tip)
    parts = dict(store.tree(commit.tree))
    for change in ({"extra": Entry("tensor", Digest("1" * 64))}, None):
        entries = dict(store.tree(parts["model"].id))
        entries = {**entries, **change} if change else {k: v for k, v in entries.items() if k != "w"}
        tree = store.add_tree({**parts, "model": store.add_tree(entries)})
        wrong = store.add_commit(replace(commit, tree=tree.id))
        with pytest.raises(CorruptObjectError, match=r"model/(extra|w)"):
            recipes.compute(store, wrong)


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        (Recipe("fold/9", {}, ()), "recipe 'fold/9' .* upgrade fedloom"),
        (Recipe("fold/1", {"strategy": {"use": "newest"}}, ()), "needs a strategy this fedloom lacks"),
        (Recipe("fold/1", {"strategy": {"use": "fedavg", "speed": 1}}, ()), "needs a strategy this fedloom lacks"),
        (Recipe("fold/1", {"strategy": {"use": "trimmed_mean", "beta": 2}}, ()), "cannot be computed: beta"),
        (Recipe("fold/1", {"strategy": {"use": "fedavg"}}, ()), "cannot be computed: at least 1"),
        (Recipe("fold/1", {"strategy": {"use": ["fedavg"]}}, ()), "needs a strategy this fedloom lacks"),
        (Recipe("fold/1", {}, ()), "its recipe is broken"),
    ],
)
def test_a_recipe_that_cannot_be_followed_ends_in_a_sentence(recipe, told):
    """Newer algorithms say upgrade; wrong settings say what is wrong."""
    store = content()
    tip = round_(store, root(store), 1)
    wrong = store.add_commit(replace(store.commit(tip), recipe=recipe))
    with pytest.raises(CorruptObjectError, match=told):
        store.model(wrong)


def test_options_and_updates_that_no_strategy_can_use_end_in_a_sentence():
    """What a foreign repository wrote is refused as such, whatever the strategy makes of it."""
    store = content()
    tip = round_(store, root(store), 1)
    true = store.commit(tip)
    odd = store.add_tensors({"other": np.zeros(3)})
    inputs = tuple(replace(part, weight=0.0) for part in true.recipe.inputs)
    for recipe in [
        Recipe("fold/1", {"strategy": {"use": "fedadam", "eta": "x"}}, true.recipe.inputs),
        Recipe("fold/1", {"strategy": {"use": "multi_krum", "f": [1]}}, true.recipe.inputs),
        Recipe("fold/1", {"strategy": {"use": "fedavg"}}, (Input("north", odd.id, 1.0),)),
        Recipe("fold/1", {"strategy": {"use": "fedavg"}}, inputs),
    ]:
        with pytest.raises(CorruptObjectError, match=r"cannot be computed|needs a strategy|does not come out"):
            recipes.compute(store, store.add_commit(replace(true, recipe=recipe)))
    with pytest.raises(CorruptObjectError, match="it follows no commit"):
        recipes.compute(store, store.add_commit(replace(true, parents=())))


def test_a_lost_tensor_without_a_recipe_is_missing():
    """Where there is no way to compute it, an absent tensor is a missing object."""
    store = content()
    tree = store.add_tree({"model": store.name_tensors(model(1))})
    with pytest.raises(NotFoundError, match="is missing from the repository"):
        store.model(store.add_commit(Commit(tree.id, (), "import", "m")))


def test_golden_bytes_of_a_recipe():
    """The form of a fold recipe in a commit is fixed."""
    recipe = recipes.fold_recipe({"use": "fedadam", "eta": 0.5}, [Input("north", Digest("ab" * 32), 12.0)])
    header = encode_commit(Commit(Digest("0" * 64), (), "round", "m", {}, recipe)).header
    assert (
        b'"recipe":{"algorithm":"fold/1","inputs":[["north","' + b"ab" * 32 + b'",12]],'
        b'"settings":{"strategy":{"eta":0.5,"use":"fedadam"}}}' in header
    )
