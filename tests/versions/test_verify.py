"""Verification finds whatever was changed, and never lets what it could not check pass for checked."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.errors import FedloomError
from fedloom.values import Contribution
from fedloom.versions import recipes, signing, tombstones
from fedloom.versions.conflicts import resolve
from fedloom.versions.content import Content
from fedloom.versions.keys import create_key, read_private_key
from fedloom.versions.merge import How, merge
from fedloom.versions.merge_replay import cherry_pick, revert_commit
from fedloom.versions.merging.catalog import STRATEGIES
from fedloom.versions.objects import Commit, Conflict, Entry, Input, encode_tree, named
from fedloom.versions.store import Store
from fedloom.versions.verify import verify

SITES = ("north", "south")


def in_memory():
    return Content(Store.in_memory())


def model(seed, width=8):
    rng = np.random.default_rng(seed)
    return {"encoder.w": rng.normal(size=(width, 3)).astype(np.float32), "head.w": rng.normal(size=3)}


def root(content, **how):
    parts = {"model": content.add_tensors(model(0, **how)), "notes": content.add_json(["fine"])}
    return content.add_commit(Commit(content.add_tree(parts).id, (), "import", "start", {"round": 0}))


def round_(content, tip, number, *, keep="stored", store=True, forge=None):
    """Commit a round of two sites; `keep` says what became of their updates, `store` whether the model is kept."""
    base = content.model(tip)
    rng = np.random.default_rng(number)
    updates = [
        Contribution(site, {n: (a + rng.normal(size=a.shape)).astype(a.dtype) for n, a in base.items()}, weight)
        for site, weight in zip(SITES, (3.0, 5.0), strict=True)
    ]
    merged = dict(STRATEGIES["fedavg"]().merge(base, updates, {}).tensors)
    if forge:
        merged["head.w"] = merged["head.w"] + forge
    name = lambda tensors: Entry("tree", encode_tree(named(tensors)).id)  # noqa: E731  what the train stage does
    save = {"stored": content.add_tensors, "promised": content.name_tensors, "opaque": name}[keep]
    receipts = {u.site: replace(save(u.tensors), keep=keep) for u in updates}
    parts = {
        "model": (content.add_tensors if store else content.name_tensors)(merged),
        "receipts": content.add_tree(receipts),
    }
    recipe = recipes.fold_recipe({"use": "fedavg"}, [Input(u.site, receipts[u.site].id, u.weight) for u in updates])
    made = Commit(content.add_tree(parts).id, (tip,), "round", f"round {number}", {"round": number}, recipe)
    return content.add_commit(made)


def history(content, rounds=3, **how):
    tip = root(content)
    for number in range(1, rounds + 1):
        tip = round_(content, tip, number, **how)
    return tip


def test_a_whole_history_is_verified_and_counted():
    """Every commit and object is read, every round is computed anew; where the history starts is listed as such."""
    content = in_memory()
    verdict = verify(content, history(content))
    assert verdict.ok
    assert (verdict.commits, verdict.shallow, verdict.absent) == (4, 0, {})
    told = [(one.number, one.recomputed, one.why) for one in verdict.rounds]
    assert told == [(0, False, "a start"), (1, True, ""), (2, True, ""), (3, True, "")]
    # 4 commits, their trees and models; 3 receipts with 2 updates each; tensors: 2 a model and update; the notes
    assert verdict.objects == 4 + 4 + 4 + 3 + 3 * 2 + 2 * (4 + 3 * 2) + 1
    assert verdict.bytes == sum(len(content.database.get(id_)) for id_ in content.database.ids())


@pytest.mark.parametrize(
    ("how", "absent", "why"),
    [
        ({"keep": "opaque"}, {"opaque": 6}, "updates were not kept"),
        ({"keep": "promised"}, {"promised": 12}, "updates are at north, south"),
    ],
)
def test_rounds_whose_updates_are_not_here_are_not_called_recomputed(how, absent, why):
    """Opaque and promised updates are no problem, and the verdict says which rounds it could not compute."""
    content = in_memory()
    verdict = verify(content, history(content, **how))
    assert verdict.ok
    assert [(one.recomputed, one.why) for one in verdict.rounds] == [(False, "a start"), *[(False, why)] * 3]
    assert verdict.absent == absent


def test_models_that_are_not_stored_are_computed():
    """A round whose model is only named is computed from its inputs and held to the names."""
    content = in_memory()
    verdict = verify(content, history(content, store=False))
    assert verdict.ok
    assert verdict.absent == {"recipe": 6}
    assert all(one.recomputed for one in verdict.rounds[1:])


def test_a_model_that_nobody_can_compute_is_a_problem():
    """Neither stored nor computable is lost, and said so."""
    content = in_memory()
    tip = round_(content, root(content), 1, keep="opaque", store=False)
    verdict = verify(content, tip)
    assert [True for problem in verdict.problems if "were never kept" in problem] == [True]


@pytest.mark.parametrize("store", [True, False])
def test_a_round_that_does_not_come_out_of_its_inputs_is_found(store):
    """A model changed by one part in 10^9 is not what its round gives."""
    content = in_memory()
    forged = round_(content, root(content), 1, store=store, forge=1e-9)
    verdict = verify(content, forged)
    assert not verdict.ok
    assert "'model/head.w' of commit" in verdict.problems[0]
    assert [(one.recomputed, one.why) for one in verdict.rounds[1:]] == [(False, "it came out otherwise")]


def on_disk(folder):
    return Content(Store.on_disk(folder))


def object_files(folder):
    kept = {"objects", "bundles"}
    return sorted(path for path in folder.rglob("*") if path.is_file() and kept & set(path.relative_to(folder).parts))


def test_a_changed_byte_in_any_object_is_found(tmp_path):
    """Whichever stored file is changed, in its first, middle or last byte: the verdict names a problem."""
    content = on_disk(tmp_path)
    tip = history(content, rounds=2)
    assert verify(on_disk(tmp_path), tip).ok
    files = object_files(tmp_path)
    assert files
    for file in files:
        whole = file.read_bytes()
        for place in {0, len(whole) // 2, len(whole) - 1}:
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            assert found_wrong(tmp_path, tip), (file, place)
        file.write_bytes(whole[:-1])
        assert found_wrong(tmp_path, tip), file
        file.write_bytes(whole)
    assert verify(on_disk(tmp_path), tip).ok


def found_wrong(folder, tip):
    try:
        return not verify(on_disk(folder), tip).ok
    except FedloomError:
        return True  # a bundle so broken that the store itself refuses it


def test_whichever_object_is_missing_is_named(tmp_path):
    """Without one of its objects, a commit is not whole; the verdict says where it belongs."""
    content = in_memory()
    tip = history(content, rounds=2)
    for id_ in content.database.ids():
        poorer = Without(content, {id_})
        verdict = verify(poorer, tip)
        if verdict.absent:
            assert verdict.absent == {"recipe": 1}, "a model's tensor that its recipe gives back"
            assert all(one.recomputed for one in verdict.rounds[1:])
        else:
            assert any("missing" in problem for problem in verdict.problems), (id_, verdict)


class Without(Content):
    """A repository that has lost some objects."""

    def __init__(self, content, lost):
        super().__init__(content.store)
        whole = content.database
        self.database = _Lossy(whole, lost)


class _Lossy:
    def __init__(self, whole, lost):
        self._whole, self._lost = whole, lost
        self.put, self.flush = whole.put, whole.flush

    def has(self, id_):
        return id_ not in self._lost and self._whole.has(id_)

    def get(self, id_):
        return self._whole.get("0" * 64 if id_ in self._lost else id_)

    def ids(self, prefix=""):
        return (id_ for id_ in self._whole.ids(prefix) if id_ not in self._lost)


def test_all_problems_are_told_at_once():
    """One lost tensor does not hide another."""
    content = in_memory()
    tip = root(content)
    tensors = {entry.id for entry in content.tree(content.part(tip, "model").id).values()}
    problems = verify(Without(content, tensors), tip).problems
    assert len(problems) == 2
    assert {word for problem in problems for word in ("encoder.w", "head.w") if f"model/{word}" in problem} == {
        "encoder.w",
        "head.w",
    }


@pytest.mark.parametrize("excused_first", [True, False])
def test_an_object_that_may_be_absent_in_one_tree_is_missed_in_another(excused_first):
    """A tensor that only a recipe excused is a problem where a commit without one needs it, whichever is read first."""
    content = in_memory()
    start = root(content)
    tip = round_(content, start, 1, store=False)
    tree = content.add_tree({"model": content.part(tip, "model")}).id
    parents = () if excused_first else (tip,)
    plain = content.add_commit(Commit(tree, parents, "import", "copied"))
    if excused_first:
        plain = content.add_commit(replace(content.commit(tip), parents=(start, plain)))
    problems = verify(content, plain).problems
    assert len([problem for problem in problems if "is missing" in problem]) == 2


def test_an_update_that_is_promised_may_be_a_model_that_is_not():
    """With one site, its promised update and the merged model are one tree; as a model it has to be there."""
    content = in_memory()
    start = root(content)
    update = content.name_tensors(model(1))
    receipts = content.add_tree({"north": replace(update, keep="promised")})
    tree = content.add_tree({"model": update, "receipts": receipts}).id
    alone = content.add_commit(Commit(tree, (start,), "round", "1", {"round": 1}))
    verdict = verify(content, alone)
    assert len(verdict.problems) == 2
    assert all("model/" in problem for problem in verdict.problems)


def test_sparse_and_erased_objects_are_counted_apart():
    """What the globs leave out, and what was erased, need not be here; anything else must."""
    content = in_memory()
    tip = root(content)
    model_ = content.tree(content.part(tip, "model").id)
    head = model_["head.w"].id
    sparse = Without(content, {head})
    sparse.settings.change(lambda before: replace(before, only=("encoder.*",)))
    assert (verify(sparse, tip).ok, verify(sparse, tip).absent) == (True, {"sparse": 1})
    assert not verify(Without(content, {head, model_["encoder.w"].id}), tip).ok
    content.settings.change(lambda before: replace(before, only=()))
    assert not verify(Without(content, {head}), tip).ok
    content.store.create(tombstones.path(head), [b"{}"])
    assert (verify(Without(content, {head}), tip).ok, verify(Without(content, {head}), tip).absent) == (
        True,
        {"erased": 1},
    )


def test_a_tombstone_excuses_no_tree_and_hearsay_is_told_apart():
    """What a history hangs on cannot be erased away, and somebody else's word is not taken for an erasure here."""
    content = in_memory()
    tip = root(content)
    part = content.part(tip, "model").id
    told = b'{"who": "x", "when": "2026-01-01T00:00:00+00:00", "why": "y"}'
    tombstones.hear(content.store, part, told, "origin")
    assert not verify(Without(content, {part}), tip).ok
    head = content.tree(part)["head.w"].id
    tombstones.hear(content.store, head, told, "origin")
    assert verify(Without(content, {head}), tip).absent == {"hearsay": 1}


def test_depth_stops_early_and_says_what_is_left():
    """Depth 1 is the commit alone; how many parents were left out is told."""
    content = in_memory()
    tip = history(content)
    assert [(verify(content, tip, depth=n).commits, verify(content, tip, depth=n).shallow) for n in (1, 2, 9)] == [
        (1, 1),
        (2, 1),
        (4, 0),
    ]


def test_all_parents_are_walked_once():
    """A merge's history is both lines, shared commits counted once; progress ends where the count does."""
    content = in_memory()
    start = root(content)
    one, two = round_(content, start, 1), round_(content, start, 2)
    merge = content.add_commit(Commit(content.commit(one).tree, (one, two), "merge", "both"))
    heard = []
    verdict = verify(content, merge, progress=lambda done, known: heard.append((done, known)))
    assert (verdict.ok, verdict.commits) == (True, 4)
    assert heard[-1] == (4, 4)


def test_statements_are_held_to_their_subject():
    """A statement filed under another commit or type is a problem."""
    content = in_memory()
    one = root(content)
    two = round_(content, one, 1)
    kept = content.attest(one, "gate", {"passed": True})
    assert verify(content, two).ok
    content.refs.compare_and_set(f"attestations/{two}/gate", None, kept, "gate")
    assert verify(content, two).problems == (f"commit {two[:12]}: statement 'gate' is about something else",)
    content.refs.compare_and_set(f"attestations/{one}/evaluation", None, two, "broken")
    problems = verify(content, one).problems
    assert len(problems) == 1
    assert "statement 'evaluation'" in problems[0]


def test_conflicts_are_part_of_what_is_read():
    """A commit with open conflicts verifies; a lost conflict does not."""
    content = in_memory()
    start = root(content)
    side = content.tree(content.part(start, "model").id)["head.w"]
    elsewhere = Entry("tensor", "ab" * 32)
    conflict = content.add_conflict(Conflict("model/head.w", "contested", side, (side, elsewhere)))
    tree = content.add_tree({"model": content.add_tree({"head.w": conflict})})
    merge = content.add_commit(Commit(tree.id, (start,), "merge", "open"))
    assert verify(content, merge).ok
    assert not verify(Without(content, {conflict.id}), merge).ok


@pytest.fixture
def key(tmp_path):
    create_key(tmp_path / "key.pem")
    return read_private_key(tmp_path / "key.pem")


def test_signatures_can_be_demanded(key):
    """`signed` wants somebody trusted, `require` wants them by name, and only on the commit itself."""
    content = in_memory()
    start = root(content)
    tip = round_(content, start, 1)
    signing.sign(content, start, key)
    signing.trust(content, "hub", key.public)
    at = f"commit {tip[:12]}"
    assert verify(content, tip).ok
    assert verify(content, tip, signed=True).problems == (f"{at} is signed by nobody who is trusted here",)
    assert verify(content, tip, require=("hub", "north")).problems == (
        f"{at} is not signed by 'hub'",
        "'north' is not trusted here: `fedloom trust north PUBLIC.pem`",
    )
    signing.sign(content, tip, key)
    verdict = verify(content, tip, signed=True, require=("hub",))
    assert (verdict.ok, verdict.signers) == (True, ("hub",))
    signing.distrust(content, "hub")
    assert verify(content, tip).ok, "a signature by an unknown key is no problem"
    assert not verify(content, tip, signed=True).ok, "and no help"


def test_a_broken_signature_is_a_problem_wherever_it_is(key):
    """A forged signature on an old commit fails the verdict of a new one."""
    content = in_memory()
    start = root(content)
    tip = round_(content, start, 1)
    signing.trust(content, "hub", key.public)
    signing.sign(content, tip, key)
    body = content.attestation(tip, f"signature/{key.public.id}").body
    content.attest(start, f"signature/{key.public.id}", body)
    verdict = verify(content, tip)
    assert verdict.problems == (
        f"commit {start[:12]}: the signature of 'hub' does not hold: it was made for another commit",
    )
    assert verdict.signers == ("hub",)
    assert verdict.as_json()["ok"] is False


# what a recipe may name


def reforged(content, id_, **changes):
    """Commit the same with something else in its place."""
    return content.add_commit(replace(content.commit(id_), **changes))


def recipe_with(content, id_, *inputs, **settings):
    recipe = content.commit(id_).recipe
    return replace(recipe, inputs=inputs or recipe.inputs, settings={**recipe.settings, **settings})


def the_problem(content, id_):
    """Give the one thing that is wrong with a commit, which is not counted as computed anew."""
    verdict = verify(content, id_)
    assert len(verdict.problems) == 1, verdict.problems
    (one,) = [one for one in verdict.rounds if one.commit == id_]
    assert (one.recomputed, one.why) == (False, "its recipe is not what the commit says")
    return verdict.problems[0].removeprefix(f"commit {id_[:12]}: ")


@pytest.mark.parametrize("keep", ["stored", "promised", "opaque"])
def test_a_rounds_recipe_reads_what_its_receipts_name(keep):
    """Another update, one left out, one too many, one counted twice: none passes, whatever became of the updates."""
    content = in_memory()
    tip = round_(content, root(content), 1, keep=keep)
    assert verify(content, tip).ok
    north, south = content.commit(tip).recipe.inputs
    other = content.add_tensors(model(7)).id
    for inputs, problem in [
        ((replace(north, id=other), south), "its recipe reads other updates of north than its receipts name"),
        ((north,), "its recipe leaves out south, for which it holds a receipt"),
        (
            (north, south, replace(north, name="west")),
            "its recipe reads updates of west, for which it holds no receipt",
        ),
        ((north, north, south), "its recipe counts an update twice"),
    ]:
        forged = reforged(content, tip, recipe=recipe_with(content, tip, *inputs))
        assert the_problem(content, forged) == problem


def test_a_forged_model_with_honest_opaque_receipts_is_not_recomputed():
    """The model comes out of its recipe to the bit, but the recipe reads an update that no receipt names."""
    content = in_memory()
    start = root(content)
    evil = {name: np.full_like(array, 7) for name, array in model(0).items()}
    receipts = content.add_tree({"north": Entry("tree", encode_tree(named(model(1))).id, "opaque")})
    tree = content.add_tree({"model": content.add_tensors(evil), "receipts": receipts}).id
    recipe = recipes.fold_recipe({"use": "fedavg"}, [Input("north", content.add_tensors(evil).id, 1.0)])
    forged = content.add_commit(Commit(tree, (start,), "round", "1", {"round": 1}, recipe))
    assert recipes.compute(content, forged)
    assert the_problem(content, forged) == "its recipe reads other updates of north than its receipts name"


def test_a_round_follows_one_commit_and_has_the_recipe_of_a_round():
    """More parents would make it a merge, and a merge's recipe would let it do without receipts."""
    content = in_memory()
    start = root(content)
    one, two = round_(content, start, 1), round_(content, start, 2)
    assert the_problem(content, reforged(content, two, parents=(start, one))).startswith("a round follows one commit")
    for kind in ("merge", "import", "train", "revert"):
        assert f"a commit of kind '{kind}'" in the_problem(content, reforged(content, one, kind=kind))
    merged = merge(content, one, [two], How("mean")).commit
    for kind in ("round", "import", "train"):
        assert f"a commit of kind '{kind}'" in the_problem(content, reforged(content, merged, kind=kind))


def test_the_forms_our_own_code_writes_are_computed_anew():
    """A merge of two, of three, across a criss-cross, with open and settled conflicts; picks, reverts."""
    content = in_memory()
    start = root(content)
    one, two, three = (round_(content, start, number) for number in (1, 2, 3))
    first = merge(content, one, [two], How("mean")).commit
    crossed = merge(content, round_(content, first, 4), [merge(content, two, [one], How("mean")).commit], How("mean"))
    opened = merge(content, one, [three])
    assert opened.conflicts
    made = [
        first,
        crossed.commit,
        merge(content, one, [two, three], How("mean")).commit,
        opened.commit,
        resolve(content, opened.commit, "*", "mean"),
        cherry_pick(content, three, one).commit,
        cherry_pick(content, three, first, mainline=2).commit,
        revert_commit(content, first, two, mainline=None).commit,
        revert_commit(content, first, first, mainline=1).commit,
    ]
    for id_ in made:
        verdict = verify(content, id_)
        assert verdict.ok, verdict.problems
        assert [one.why for one in verdict.rounds if not one.recomputed] == ["a start"]


def test_unrelated_histories_are_merged_without_a_base():
    """That is a form too, and a base made up for it is none."""
    content = in_memory()
    one = root(content)
    other = content.add_commit(Commit(content.add_tree({"model": content.add_tensors(model(5))}).id, (), "import", "x"))
    merged = merge(content, one, [other], How("mean", allow_unrelated=True)).commit
    assert verify(content, merged).ok
    forged = reforged(content, merged, recipe=recipe_with(content, merged, bases=[one]))
    assert the_problem(content, forged) == "its recipe's bases are not what its parents have in common"


def test_a_merges_recipe_merges_its_parents_on_what_they_have_in_common():
    """Other heads, another order, a base of one's own or none: the result may fit, and is still no merge of these."""
    content = in_memory()
    start = root(content)
    one, two, three = (round_(content, start, number) for number in (1, 2, 3))
    merged = merge(content, one, [two], How("mean")).commit
    heads = "its recipe merges other commits than its parents"
    assert the_problem(content, reforged(content, merged, parents=(one, three))) == heads
    assert the_problem(content, reforged(content, merged, parents=(two, one))) == heads
    assert the_problem(content, reforged(content, merged, parents=(one,))) == heads
    for bases in ([], [one], [start, one], ["f" * 64]):
        forged = reforged(content, merged, recipe=recipe_with(content, merged, bases=bases))
        assert the_problem(content, forged) == "its recipe's bases are not what its parents have in common"
    forged = reforged(content, merged, recipe=recipe_with(content, merged, replay=True))
    assert "disagree whether one commit is done again" in the_problem(content, forged)


def test_a_pick_does_again_what_its_facts_name_and_nothing_else():
    """Onto its one parent, from a parent of the picked commit."""
    content = in_memory()
    start = root(content)
    one, two = round_(content, start, 1), round_(content, start, 2)
    picked = cherry_pick(content, two, one).commit
    facts = content.commit(picked).facts
    onto = "its recipe starts from something else than its parent"
    assert the_problem(content, reforged(content, picked, parents=(start,))) == onto
    assert the_problem(content, reforged(content, picked, parents=(two, one))) == onto
    forged = reforged(content, picked, recipe=recipe_with(content, picked, bases=[start, one]))
    assert the_problem(content, forged) == onto
    named = reforged(content, picked, facts={**facts, "replayed": two})
    assert the_problem(content, named) == "its recipe does another commit's change again than its facts name"
    forged = reforged(content, picked, recipe=recipe_with(content, picked, bases=[two]))
    assert "base is no parent of the commit whose change" in the_problem(content, forged)
    bare = reforged(content, picked, facts={k: v for k, v in facts.items() if k != "replayed"})
    assert "disagree" in the_problem(content, bare)


def test_a_revert_undoes_what_its_facts_name_and_its_parent_has():
    """Back to a parent of the undone commit, which is part of the history."""
    content = in_memory()
    start = root(content)
    one = round_(content, start, 1)
    tip, aside = round_(content, one, 2), round_(content, start, 3)
    undone = revert_commit(content, tip, one).commit
    facts = content.commit(undone).facts
    assert verify(content, undone).ok
    named = reforged(content, undone, facts={**facts, "reverted": tip})
    assert the_problem(content, named) == "its recipe undoes another commit than its facts name"
    onto, before = content.commit(undone).recipe.inputs
    recipe = recipe_with(content, undone, onto, replace(before, id=aside))
    assert "goes back to something else" in the_problem(content, reforged(content, undone, recipe=recipe))
    recipe = recipe_with(content, undone, bases=[aside])
    strange = reforged(content, undone, facts={**facts, "reverted": aside}, recipe=recipe)
    assert the_problem(content, strange) == "its recipe undoes a commit that its parent does not descend from"
    for told in (None, 7, ["x"]):
        assert not verify(content, reforged(content, undone, facts={**facts, "reverted": told})).ok


@pytest.mark.parametrize("stored", [True, False])
def test_a_picked_commit_need_not_be_here_as_long_as_the_model_is(stored):
    """It is no parent, so a clone lacks it: the verdict names it. Without the model as well, the model is lost."""
    content = in_memory()
    start = root(content)
    one, two = round_(content, start, 1), round_(content, start, 2)
    picked = cherry_pick(content, two, one).commit
    model_ = {entry.id for entry in content.tree(content.part(picked, "model").id).values()}
    verdict = verify(Without(content, {one} | (set() if stored else model_)), picked)
    (told,) = [it.why for it in verdict.rounds if it.commit == picked]
    assert told == f"its recipe names {one[:12]}, which is not here"
    assert verdict.ok is stored
    assert all("missing" in problem for problem in verdict.problems)


@pytest.mark.parametrize(
    ("kind", "facts", "why"),
    [
        ("merge", {}, "merge: no recipe; "),
        ("revert", {"revert": {"site": "north", "method": "subtract"}}, "revert by subtract: no recipe; "),
        ("revert", {"revert": {"method": "\x1b[2J"}}, "revert: no recipe; "),
        ("revert", {"revert": 7}, "revert: no recipe; "),
    ],
)
def test_what_has_no_recipe_is_listed_with_its_evidence(kind, facts, why):
    """A gate's statement, where there is one; the commit never counts as computed."""
    content = in_memory()
    start = root(content)
    made = content.add_commit(Commit(content.commit(start).tree, (start,), kind, "made", facts))
    verdict = verify(content, made)
    assert (verdict.ok, verdict.rounds[0].recomputed) == (True, False)
    assert verdict.rounds[0].why == why + "and no gate measured it"
    content.attest(made, "gate", {"passed": True})
    assert verify(content, made).rounds[0].why == why + "its evidence is the measured gate"


@pytest.mark.parametrize("method", ["repair", "retrain"])
def test_a_model_trained_without_a_site_is_that_of_the_line_it_names(method):
    """A line was trained and is verified itself, so the model has to be its model."""
    content = in_memory()
    start = root(content)
    tip, line = round_(content, start, 1), round_(content, start, 2)
    facts = {"revert": {"site": "north", "method": method}}
    true = content.add_commit(Commit(content.commit(line).tree, (tip, line), "revert", "out", facts))
    verdict = verify(content, true)
    assert verdict.ok
    assert [one.why.partition(":")[0] for one in verdict.rounds if one.commit == true] == [f"revert by {method}"]
    for changes in ({"tree": content.commit(tip).tree}, {"parents": (tip,)}, {"tree": content.add_tree({}).id}):
        verdict = verify(content, reforged(content, true, **changes))
        assert len(verdict.problems) == 1
        assert "line it" in verdict.problems[0]


@pytest.mark.parametrize("number", ["x", None, 1.5, True, [], {}])
def test_a_round_whose_number_is_none_is_a_problem(number):
    """Facts are whatever a stranger wrote; the rest of the history is verified all the same."""
    content = in_memory()
    tip = reforged(content, round_(content, root(content), 1), facts={"round": number})
    verdict = verify(content, tip)
    assert verdict.problems == (f"commit {tip[:12]}: its facts give no whole number as its round",)
    assert verdict.commits == 2


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["bases", "rules", "otherwise", "optimizer", "settled", "replay", "strategy"]),
    json_values,
    st.dictionaries(st.sampled_from(["round", "replayed", "reverted", "revert", "merge", "axes"]), json_values),
    st.sampled_from(["round", "merge", "revert"]),
)
def test_no_facts_or_settings_raise(name, value, facts, kind):
    """Whatever JSON stands in a recipe's settings and a commit's facts, the verdict is given, in sentences."""
    content = in_memory()
    start = root(content)
    one, two = round_(content, start, 1), round_(content, start, 2)
    true = merge(content, one, [two], How("mean")).commit if kind == "merge" else one
    if kind == "revert":
        true = revert_commit(content, one, one).commit
    before = content.commit(true)
    forged = reforged(
        content, true, facts={**before.facts, **facts}, recipe=recipe_with(content, true, **{name: value})
    )
    for problem in verify(content, forged).problems:
        assert "Error" not in problem
    with suppress(FedloomError):
        recipes.compute(content, forged)
