"""Verification finds whatever was changed, and never lets what it could not check pass for checked."""

from dataclasses import replace

import numpy as np
import pytest

from fedloom.errors import FedloomError
from fedloom.values import Contribution
from fedloom.versions import recipes, signing, tombstones
from fedloom.versions.content import Content
from fedloom.versions.keys import create_key, read_private_key
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
    """Every commit and object is read, every round is computed anew."""
    content = in_memory()
    verdict = verify(content, history(content))
    assert verdict.ok
    assert (verdict.commits, verdict.shallow, verdict.absent) == (4, 0, {})
    assert [(one.number, one.recomputed) for one in verdict.rounds] == [(1, True), (2, True), (3, True)]
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
    assert [(one.recomputed, one.why) for one in verdict.rounds] == [(False, why)] * 3
    assert verdict.absent == absent


def test_models_that_are_not_stored_are_computed():
    """A round whose model is only named is computed from its inputs and held to the names."""
    content = in_memory()
    verdict = verify(content, history(content, store=False))
    assert verdict.ok
    assert verdict.absent == {"recipe": 6}
    assert all(one.recomputed for one in verdict.rounds)


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
    assert [(one.recomputed, one.why) for one in verdict.rounds] == [(False, "it came out otherwise")]


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
            assert all(one.recomputed for one in verdict.rounds)
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
    assert len(problems) == 2
    assert all("is missing" in problem for problem in problems)


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
