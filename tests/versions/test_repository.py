"""The repository: what was committed can be found and read, unchanged parts are stored once, damage is refused."""

import os
import re
import signal
import subprocess
import sys
from itertools import count
from time import sleep

import numpy as np
import pytest

from fedloom.errors import CorruptObjectError, NotFoundError, VersionsError
from fedloom.values import Digest
from fedloom.versions import objects
from fedloom.versions.objects import Commit, Entry
from fedloom.versions.refs import Refs
from fedloom.versions.repository import FOLDER, Repository
from fedloom.versions.store import Store

MODEL = {
    "layer/weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "layer/bias": np.array([0.5, np.nan, -0.0]),
    "steps": np.array(7, dtype=np.int64),
    "unused": np.zeros((0, 4), dtype=np.float16),
}


@pytest.fixture
def repository(tmp_path):
    return Repository.at(tmp_path)


def commit(repository: Repository, *parents: Digest, model=MODEL, message="m", **facts) -> Digest:
    """Commit a model."""
    tree = repository.add_tree({"model": repository.add_tensors(model)})
    return repository.add_commit(Commit(tree.id, parents, "round", message, facts))


def kept(repository: Repository) -> list[Digest]:
    """List the objects that are stored."""
    return list(repository.database.ids())


# what is written can be read


def test_a_commit_can_be_read_elsewhere(repository, tmp_path):
    """Whoever opens the folder later reads the commit, its tree and its model bit for bit."""
    root = commit(repository, message="start", round=0, loss=0.1)
    tip = commit(repository, root, message="é", round=1, epsilon=None)
    later = Repository.at(str(tmp_path))
    read = later.commit(tip)
    assert (read.parents, read.message, read.facts) == ((root,), "é", {"round": 1, "epsilon": None})
    model = later.model(tip)
    assert {name: (a.dtype, a.shape, a.tobytes()) for name, a in model.items()} == {
        name: (a.dtype, a.shape, a.tobytes()) for name, a in MODEL.items()
    }
    assert all(not array.flags.writeable for array in model.values())
    assert later.tree(read.tree) == {"model": repository.add_tensors(MODEL)}


def test_blobs_and_json_can_be_read(repository):
    """Bytes come back as they are, JSON in its canonical form."""
    assert repository.blob(repository.add_blob(b"\x00\xff").id) == b"\x00\xff"
    assert repository.blob(repository.add_json({"b": 1.0, "a": "é"}).id) == '{"a":"é","b":1}'.encode()


def test_parts_of_a_commit(repository):
    """A part is found by name; what is absent is None, and a commit without a model says so."""
    tree = repository.add_tree({"receipts": repository.add_json([])})
    id_ = repository.add_commit(Commit(tree.id, (), "import", "no model"))
    assert repository.part(id_, "receipts") == repository.add_json([])
    assert repository.part(id_, "model") is None
    with pytest.raises(NotFoundError, match=f"commit {id_[:12]} has no model"):
        repository.model(id_)


def test_the_log_walks_from_the_tip_to_the_root(repository):
    """Newest first, along first parents."""
    root = commit(repository, message="0")
    side = commit(repository, root, message="side")
    first = commit(repository, root, message="1")
    tip = commit(repository, first, side, message="2")
    assert [(id_, found.message) for id_, found in repository.log(tip)] == [(tip, "2"), (first, "1"), (root, "0")]


def test_a_thousand_commits_are_walked(repository, tmp_path, monkeypatch):
    """A run of a thousand rounds, read back by another process' repository, is whole and in order."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # four thousand waits for a disk that others use as well
    tree, tip = repository.add_tree({}).id, None
    for number in range(1000):
        new = repository.add_commit(Commit(tree, (tip,) if tip else (), "round", "m", {"round": number}))
        repository.refs.compare_and_set("runs/1", tip, new, "round")
        tip = new
    later = Repository.at(tmp_path)
    rounds = [found.facts["round"] for _, found in later.log(later.resolve("runs/1"))]
    assert rounds == list(range(999, -1, -1))


def test_ids_do_not_depend_on_the_place(repository):
    """The same work has the same id in every repository."""
    elsewhere = Repository(Store.in_memory())
    assert commit(elsewhere, round=1) == commit(repository, round=1)
    assert kept(elsewhere) == kept(repository)


# stored once


def test_unchanged_tensors_are_stored_once(repository, tmp_path):
    """A commit that changes one tensor adds that tensor, two trees and the commit; repeating it adds nothing."""
    root = commit(repository)
    before = kept(repository)
    assert len(before) == len(MODEL) + 3
    changed = {**MODEL, "steps": np.array(8, dtype=np.int64)}
    commit(repository, root, model=changed)
    assert len(kept(repository)) == len(before) + 4
    for again in (repository, Repository.at(tmp_path)):
        commit(again, root, model=changed)
    assert len(kept(repository)) == len(before) + 4


def test_equal_tensors_under_two_names_are_one_object(repository):
    """A name is the tree's affair: tied weights cost their bytes once."""
    weight = np.ones((10, 10), dtype=np.float32)
    entry = repository.add_tensors({"encoder": weight, "decoder": np.asfortranarray(weight.astype(">f4"))})
    assert len({found.id for found in repository.tree(entry.id).values()}) == 1
    assert len(kept(repository)) == 2


def test_a_name_that_is_refused_moves_nothing(repository):
    """A model with a control character in a name is refused with a sentence; no commit comes of it."""
    with pytest.raises(VersionsError, match=r"cannot hold the name 'a\\nb'"):
        repository.add_tensors({"a\nb": np.ones(1)})
    assert repository.refs.names() == []


# resolve


@pytest.fixture
def named(repository):
    """Hold a commit under each kind of name."""
    ids = [commit(repository, message=str(n)) for n in range(3)]
    for name, id_ in zip(("heads/main", "runs/3", "heads/runs/3"), ids, strict=True):
        repository.refs.compare_and_set(name, None, id_, "test")
    return repository, ids


def test_a_name_is_a_ref_a_short_ref_or_an_id(named):
    """A ref's full name comes first, then its short form under heads/, then an id or its first digits."""
    repository, ids = named
    assert repository.resolve("heads/main") == repository.resolve("main") == ids[0]
    assert repository.resolve("runs/3") == ids[1]
    assert repository.resolve("heads/runs/3") == ids[2]
    for id_ in ids:
        assert repository.resolve(id_) == repository.resolve(id_[:20]) == id_


def test_a_ref_that_looks_like_an_id_is_a_ref(named):
    """A branch called `beef` is found under its name."""
    repository, ids = named
    repository.refs.compare_and_set("heads/beef", None, ids[2], "test")
    assert repository.resolve("beef") == ids[2]


def test_first_digits_that_fit_two_commits_are_refused(repository):
    """Four digits that begin two commits are not enough; one more tells them apart, and a tensor never counts."""
    by_start: dict[str, str] = {}
    for number in count():
        id_ = objects.encode_commit(Commit("a" * 64, (), "import", str(number))).id
        if (twin := by_start.setdefault(id_[:4], id_)) != id_:
            break
    for message in (number, *(n for n in range(number) if _id(n) == twin)):
        repository.add_commit(Commit(Digest("a" * 64), (), "import", str(message)))
    with pytest.raises(VersionsError, match=f"'{id_[:4]}' fits 2 commits: give more digits"):
        repository.resolve(id_[:4])
    same = next(n for n in range(65) if id_[:n] != twin[:n])
    assert repository.resolve(id_[:same]) == id_
    assert repository.resolve(twin[:same]) == twin


def _id(number: int) -> Digest:
    return objects.encode_commit(Commit(Digest("a" * 64), (), "import", str(number))).id


def test_only_commits_are_found_by_digits(repository):
    """A tensor's id names no commit."""
    id_ = repository.add_blob(b"x").id
    for name in (id_, id_[:8]):
        with pytest.raises(NotFoundError, match=f"no commit starts with '{name}'"):
            repository.resolve(name)


@pytest.mark.parametrize(
    "name", ["absent", "Main", "a//b", "main/", "/main", "../main", "x.ref", "", "abc", "é", "a\n"]
)
def test_an_unknown_name_lists_the_refs(named, name):
    """Whatever a person types that names nothing: the refs there are come with the answer."""
    repository, _ = named
    with pytest.raises(NotFoundError, match=r"no commit or ref '.*\n?'\. Refs: heads/main, heads/runs/3, runs/3"):
        repository.resolve(name)


def test_an_empty_repository_says_there_are_no_refs(repository):
    """In a new project nothing resolves, and nothing is listed."""
    with pytest.raises(NotFoundError, match="Refs: none yet"):
        repository.resolve("main")
    with pytest.raises(NotFoundError, match="no commit starts with 'abcd'"):
        repository.resolve("abcd")


# attestations


def test_the_last_statement_of_a_type_counts(repository):
    """Saying the same again changes nothing; another statement replaces it, and both stay in the reflog."""
    subject = commit(repository)
    assert repository.attestation(subject, "gate") is None
    first = repository.attest(subject, "gate", {"passed": False})
    before = repository.store.paths("")
    assert repository.attest(subject, "gate", {"passed": False}) == first
    assert repository.store.paths("") == before
    second = repository.attest(subject, "gate", {"passed": True})
    current = repository.attestation(subject, "gate")
    assert current is not None
    assert (current.subject, current.type, current.body) == (subject, "gate", {"passed": True})
    moves = repository.refs.log(f"attestations/{subject}/gate")
    assert [move.target for move in moves] == [first, second]


def test_types_and_subjects_are_apart(repository):
    """A statement of one type about one commit says nothing of others."""
    one, other = commit(repository, message="1"), commit(repository, message="2")
    repository.attest(one, "gate", {})
    assert repository.attestation(one, "evaluation") is None
    assert repository.attestation(other, "gate") is None


class Overtaken(Refs):
    """Refs where somebody else states something just before or after our first move."""

    def __init__(self, store: Store, rival: Repository, when: str, body: dict[str, int]) -> None:
        super().__init__(store)
        self.rival, self.when, self.body = rival, when, body

    def compare_and_set(self, name: str, old: Digest | None, new: Digest, why: str) -> None:
        self._meet("before", name, why)
        super().compare_and_set(name, old, new, why)
        self._meet("after", name, why)

    def _meet(self, when: str, name: str, type_: str) -> None:
        if self.when == when:
            self.when = "never again"
            self.rival.attest(Digest(name.split("/")[1]), type_, self.body)


@pytest.mark.parametrize(("body", "moves"), [({"by": 1}, 1), ({"by": 2}, 2)])
def test_two_statements_at_once_are_both_kept(repository, tmp_path, body, moves):
    """Who states something while another does is not turned away: the same is said once, something else after it."""
    subject = commit(repository)
    repository.refs = Overtaken(repository.store, Repository.at(tmp_path), "before", body)
    stated = repository.attest(subject, "gate", {"by": 1})
    found = Repository.at(tmp_path)
    assert found.refs.get(f"attestations/{subject}/gate") == stated
    assert len(found.refs.log(f"attestations/{subject}/gate")) == moves


def test_who_states_last_is_current(repository, tmp_path):
    """A statement made right after ours replaces it; ours is not made a second time."""
    subject = commit(repository)
    repository.refs = Overtaken(repository.store, Repository.at(tmp_path), "after", {"by": 2})
    repository.attest(subject, "gate", {"by": 1})
    current = Repository.at(tmp_path).attestation(subject, "gate")
    assert current is not None
    assert current.body == {"by": 2}
    assert len(repository.refs.log(f"attestations/{subject}/gate")) == 2


# damage


def test_any_damage_to_a_stored_file_is_refused(repository, tmp_path):
    """With any byte of any file of objects changed, or cut at any length, one reads the truth or one sentence."""
    large = np.random.default_rng(0).normal(size=10_000)
    tip = commit(repository, model={**MODEL, "large": large}, round=1)
    tree = repository.commit(tip).tree
    truth = (
        repository.commit(tip),
        repository.tree(tree),
        {name: a.tobytes() for name, a in repository.model(tip).items()},
    )
    refused = 0
    for path in [tmp_path / FOLDER / name for name in repository.store.paths("") if "refs" not in name]:
        good = path.read_bytes()
        places = range(0, len(good), 1 + len(good) // 150)
        changed = [good[:at] + bytes([good[at] ^ (1 << at % 8)]) + good[at + 1 :] for at in places]
        for bad in [*changed, *(good[:end] for end in places)]:
            path.write_bytes(bad)
            later = Repository.at(tmp_path)
            try:
                read = later.commit(tip), later.tree(tree), {name: a.tobytes() for name, a in later.model(tip).items()}
            except (CorruptObjectError, NotFoundError) as error:
                refused += bool(re.match(r"object [0-9a-f]{12} is ", str(error)))
            else:
                assert read == truth
        path.write_bytes(good)
    assert refused > 300
    assert Repository.at(tmp_path).commit(tip) == truth[0]


def test_an_object_under_anothers_id_is_refused(repository):
    """A whole object in the wrong place does not have that place's id."""
    one, other = (repository.add_tensors({"w": np.full(20_000, value)}) for value in (1.0, 2.0))
    ids = [repository.tree(entry.id)["w"].id for entry in (one, other)]
    paths = [f"objects/{id_[:2]}/{id_}" for id_ in ids]
    repository.store.replace(paths[0], [repository.store.get(paths[1])])
    with pytest.raises(CorruptObjectError, match=f"object {ids[0][:12]} is corrupt: .* Restore {paths[0]} from a copy"):
        repository.tensor(ids[0])


def test_the_wrong_kind_is_refused(repository):
    """A tree is not a commit, whoever says so."""
    tip = commit(repository)
    with pytest.raises(CorruptObjectError, match="expected a tree, found a commit: check the id"):
        repository.tree(tip)
    mislabelled = repository.add_tree({"w": Entry("tensor", repository.add_blob(b"x").id)})
    with pytest.raises(CorruptObjectError, match="expected a tensor, found a blob"):
        repository.tensors(mislabelled.id)


def test_a_missing_object_is_named(repository, tmp_path):
    """Reading what is gone names its id; so does a history with a hole, at the hole."""
    root = commit(repository, message="root")
    tip = commit(repository, root, message="tip")
    repository.database.discard([root])
    with pytest.raises(NotFoundError, match=f"object {root[:12]} is missing from the repository"):
        repository.commit(root)
    walk = repository.log(tip)
    assert next(walk)[0] == tip
    with pytest.raises(NotFoundError, match=root[:12]):
        next(walk)


# the folder


def test_whether_there_is_a_repository(tmp_path):
    """A project has one from when it is opened; looking does not make one, and a file of that name is none."""
    assert not Repository.exists_at(tmp_path)
    assert not (tmp_path / FOLDER).exists()
    Repository.at(tmp_path)
    assert Repository.exists_at(tmp_path)
    assert Repository.exists_at(str(tmp_path))
    other = tmp_path / "other"
    other.mkdir()
    (other / FOLDER).write_text("x")
    assert not Repository.exists_at(other)


COMMITTER = """
import sys
import numpy as np
from itertools import count
from fedloom.versions.objects import Commit
from fedloom.versions.repository import Repository
repository, tip = Repository.at(sys.argv[1]), None
for number in count():
    model = repository.add_tensors({str(n): np.full(20_000, number + n / 8) for n in range(8)})
    tree = repository.add_tree({"model": model})
    new = repository.add_commit(Commit(tree.id, (tip,) if tip else (), "round", "m", {"round": number}))
    repository.refs.compare_and_set("runs/1", tip, new, "round")
    tip = new
    print(number, flush=True)
"""


@pytest.mark.parametrize("after", [0.004, 0.03, 0.08])
def test_a_killed_process_leaves_a_whole_history(tmp_path, after):
    """After kill -9 the ref names the last reported round or the one after, and all it needs is there and whole."""
    writer = subprocess.Popen([sys.executable, "-c", COMMITTER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        sleep(after)
    finally:
        writer.send_signal(signal.SIGKILL)
        reported = len(writer.communicate()[0].splitlines())
    repository = Repository.at(tmp_path)
    rounds = []
    for id_, found in repository.log(repository.resolve("runs/1")):
        rounds.append(found.facts["round"])
        assert repository.model(id_)["0"][0] == rounds[-1]
        assert len(repository.model(id_)) == 8
    assert rounds == list(range(rounds[0], -1, -1))
    assert rounds[0] in (reported, reported + 1)
    stored = [*repository.store.paths("objects"), *repository.store.paths("bundles")]
    assert all(re.fullmatch(r"[0-9a-f]{64}", path.rsplit("/", 1)[1]) for path in stored)


def test_a_statement_about_another_commit_is_none(repository):
    """Whoever files a statement under a commit it is not about changes nothing that is shown or decided."""
    one, other = (repository.add_commit(Commit(repository.add_tree({}).id, (), "import", name, {})) for name in "ab")
    passed = repository.attest(one, "gate", {"passed": True})
    repository.refs.compare_and_set(f"attestations/{other}/gate", None, passed, "forged")
    assert repository.attestation(other, "gate") is None
    assert repository.filed(other, "gate") == repository.attestation(one, "gate")
