"""History: walks and common ancestors, compared with git's own answers on random graphs."""

import shutil
import subprocess
from time import perf_counter

import numpy as np
import pytest

from fedloom.errors import NotFoundError
from fedloom.values import Digest
from fedloom.versions.history import (
    ancestors,
    between,
    first_parents,
    independent,
    is_ancestor,
    merge_bases,
    ordered,
)
from fedloom.versions.objects import Commit

GRAPHS = 240


def fake_id(name: str) -> Digest:
    return Digest(name.rjust(64, "0"))


def reader(parents: dict[str, str]):
    """Read commits from a table of names to the names of their parents, and note what was read."""
    commits = {
        fake_id(name): Commit(fake_id("f"), tuple(map(fake_id, of)), "round", name) for name, of in parents.items()
    }
    seen = []

    def read(id_: Digest) -> Commit:
        seen.append(id_)
        return commits[id_]

    return read, seen


def test_the_walk_goes_from_the_tip_to_the_root():
    """Newest first, each with its id, the root last."""
    read, _ = reader({"c": "b", "b": "a", "a": ""})
    walked = list(first_parents(fake_id("c"), read))
    assert [commit.message for _, commit in walked] == ["c", "b", "a"]
    assert [id_ for id_, _ in walked] == [fake_id(name) for name in "cba"]


def test_only_first_parents_are_followed():
    """A branch that was merged in is not part of the line; its commits are not even read."""
    read, seen = reader({"d": "cb", "c": "a", "b": "a", "a": ""})
    assert [commit.message for _, commit in first_parents(fake_id("d"), read)] == ["d", "c", "a"]
    assert fake_id("b") not in seen


def test_the_walk_is_lazy():
    """Who looks at the tip reads one commit, however long the history."""
    read, seen = reader({"c": "b", "b": "a", "a": ""})
    next(first_parents(fake_id("c"), read))
    assert seen == [fake_id("c")]


def test_a_long_history_is_no_problem():
    """A run of 20,000 rounds is walked without recursion."""
    root = Commit(fake_id("f"), (), "import", "0")

    def read_long(id_: Digest) -> Commit:
        number = int(id_, 16)
        return Commit(fake_id("f"), (Digest(f"{number - 1:064x}"),), "round", str(number)) if number else root

    assert sum(1 for _ in first_parents(Digest(f"{20_000:064x}"), read_long)) == 20_001


def test_a_missing_commit_stops_the_walk_with_its_error():
    """What the reader raises reaches the caller, after the commits that are there."""

    def read(id_: Digest) -> Commit:
        if id_ == fake_id("b"):
            return Commit(fake_id("f"), (fake_id("a"),), "round", "b")
        raise NotFoundError(f"object {id_[:12]} is missing")

    walk = first_parents(fake_id("b"), read)
    assert next(walk)[1].message == "b"
    with pytest.raises(NotFoundError):
        next(walk)


# what heads have in common

CRISS_CROSS = {"f": "de", "g": "ed", "d": "bc", "e": "cb", "b": "a", "c": "a", "a": ""}


def names(ids) -> str:
    return "".join(sorted(id_.lstrip("0") for id_ in ids))


def test_two_merges_of_each_other_have_two_bases():
    """Criss-cross: both sides merged both branches, so no single commit is the best."""
    read, _ = reader(CRISS_CROSS)
    assert names(merge_bases([fake_id("d"), fake_id("e")], read)) == "bc"
    assert names(merge_bases([fake_id("f"), fake_id("g")], read)) == "de"


def test_a_head_that_contains_the_other_has_it_as_base():
    """A fast-forward: the base is the older head; a head alone, or twice, is its own base; of none there is none."""
    read, _ = reader(CRISS_CROSS)
    assert names(merge_bases([fake_id("f"), fake_id("b")], read)) == "b"
    assert names(merge_bases([fake_id("f"), fake_id("f")], read)) == "f"
    assert names(merge_bases([fake_id("f")], read)) == "f"
    assert merge_bases([], read) == []


def test_unrelated_histories_have_no_base():
    """Two roots share nothing; nor do three heads of which one is a stranger."""
    read, _ = reader({"c": "a", "d": "a", "a": "", "b": ""})
    assert merge_bases([fake_id("c"), fake_id("b")], read) == []
    assert merge_bases([fake_id("c"), fake_id("d"), fake_id("b")], read) == []
    assert names(independent([fake_id("c"), fake_id("a"), fake_id("b")], read)) == "bc"


def line(length: int, **more: tuple[int, ...]):
    """Make a line of `length` commits by number, and read it; `more` are further commits, c7=(5,) on commit 5."""
    parents = {number: (number - 1,) if number else () for number in range(length)}
    parents.update({int(name[1:]): of for name, of in more.items()})
    seen = []

    def read(id_: Digest) -> Commit:
        seen.append(id_)
        return Commit(fake_id("f"), tuple(Digest(f"{of:064x}") for of in parents[int(id_, 16)]), "round", "m")

    return read, seen


def number(value: int) -> Digest:
    return Digest(f"{value:064x}")


def test_ten_thousand_commits_take_less_than_a_second():
    """Walks are linear in the history, also where every second commit is a merge."""
    size = 10_000
    merges = {f"c{n}": (n - 1, n - 2) for n in range(2, size, 2)}
    read, _ = line(size, **merges, c20000=(9_999,), c20001=(40,), c20002=(41, 39))
    began = perf_counter()
    assert merge_bases([number(20_000), number(20_001)], read) == [number(40)]
    assert merge_bases([number(20_000), number(20_001), number(20_002)], read) == [number(40)]
    assert not is_ancestor(number(20_001), number(20_000), read)
    assert len(between(number(40), number(20_000), read)) == size - 40
    assert perf_counter() - began < 1


def test_branches_that_parted_lately_are_compared_without_reading_the_whole_history():
    """The walk stops where only what is below a common commit is left."""
    read, seen = line(10_000, c20000=(9_990,), c20001=(9_992,))
    assert merge_bases([number(20_000), number(20_001)], read) == [number(9_990)]
    assert len(seen) < 20


def test_between_and_ancestors_say_what_is_new():
    """`old..new` leaves out all that old reaches; from nothing, all is new; children come before parents."""
    read, _ = reader(CRISS_CROSS)
    assert [commit.message for _, commit in between(fake_id("d"), fake_id("f"), read)] == ["f", "e"]
    assert names(id_ for id_, _ in between(None, fake_id("d"), read)) == "abcd"
    assert between(fake_id("f"), fake_id("d"), read) == []
    found = [id_.lstrip("0") for id_, _ in ancestors([fake_id("f")], read, without=[fake_id("b")])]
    assert found[0] == "f"
    assert sorted(found) == ["a", "c", "d", "e", "f"]


# git's answers


def random_graph(rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Parents of up to 30 commits by number: lines that merge each other's recent commits, now and then a new root."""
    parents: list[tuple[int, ...]] = [()]
    lines = [[0] for _ in range(rng.integers(2, 6))]
    merging, strangers = rng.choice([0.2, 0.5, 0.9]), rng.choice([0, 0, 0.1])
    for size in range(1, rng.integers(6, 31)):
        own, *others = (lines[at] for at in rng.permutation(len(lines)))
        merged = [int(rng.choice(other[-2:])) for other in others if rng.random() < merging]
        parents.append(() if rng.random() < strangers else tuple(dict.fromkeys([own[-1], *merged])))
        own.append(size)
    return parents


class Git:
    """One repository of git with all graphs in it."""

    def __init__(self, folder, graphs):
        self.folder = folder
        self.run("init", "--quiet", "--bare", ".")
        stream, mark = [], 0
        for graph in graphs:
            first = mark + 1
            for parents in graph:
                mark += 1
                stream.append(f"commit refs/heads/c{mark}\nmark :{mark}")
                stream.append(f"committer T <t@t.invalid> {10**9 + mark} +0000\ndata 0")
                stream += [f"{'merge' if nth else 'from'} :{first + of}" for nth, of in enumerate(parents)]
        self.run("fast-import", "--quiet", "--export-marks=marks", text="\n".join([*stream, ""]))
        marks = [row.split() for row in (folder / "marks").read_text().splitlines()]
        ids = {int(name[1:]): Digest(id_.rjust(64, "0")) for name, id_ in marks}
        self.graphs = []
        for graph in graphs:
            done = sum(map(len, self.graphs))
            own = [ids[done + 1 + of] for of in range(len(graph))]
            self.graphs.append(own)

    def run(self, *words, text=None, code=0):
        done = subprocess.run(
            ["git", *words], cwd=self.folder, input=text, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode <= code, done.stderr
        return sorted(Digest(row.rjust(64, "0")) for row in done.stdout.split())


@pytest.fixture(scope="module")
def by_git(tmp_path_factory):
    """Random graphs, as git knows them and as we read them."""
    if not shutil.which("git"):
        pytest.skip("there is no git to compare with")
    rng = np.random.default_rng(7)
    graphs = [random_graph(rng) for _ in range(GRAPHS)]
    git = Git(tmp_path_factory.mktemp("git"), graphs)
    commits = {}
    for graph, ids in zip(graphs, git.graphs, strict=True):
        for parents, id_ in zip(graph, ids, strict=True):
            commits[id_] = Commit(fake_id("f"), tuple(ids[of] for of in parents), "round", "m")
    return git, commits.__getitem__


def heads_of(ids, rng, most):
    """Choose heads among the youngest, in any order."""
    young = ids[-max(2 * most, len(ids) // 3) :]
    return [young[at] for at in rng.permutation(len(young))[:most]]


def test_bases_of_two_are_those_of_git(by_git):
    """`git merge-base --all A B`, on random graphs with merges; several of them have more than one base."""
    git, read = by_git
    rng, several, none = np.random.default_rng(8), 0, 0
    for ids in git.graphs:
        pair = heads_of(ids, rng, 2)
        expected = git.run("merge-base", "--all", *(id_[24:] for id_ in pair), code=1)
        assert merge_bases(pair, read) == expected
        several += len(expected) > 1
        none += not expected
    assert several > GRAPHS // 20, "the graphs are too tame to show anything"
    assert none, "no graph has unrelated heads"


def test_bases_of_many_are_those_of_git(by_git):
    """`git merge-base --octopus --all`, and `--independent`, of three to five heads."""
    git, read = by_git
    rng, several, fewer = np.random.default_rng(9), 0, 0
    for ids in git.graphs:
        heads = heads_of(ids, rng, int(rng.integers(3, 6)))
        words = [id_[24:] for id_ in heads]
        expected = git.run("merge-base", "--octopus", "--all", *words, code=1)
        assert merge_bases(heads, read) == expected
        kept = git.run("merge-base", "--independent", *words)
        assert independent(heads, read) == kept
        several += len(expected) > 1
        fewer += len(kept) < len(heads)
    assert several > GRAPHS // 20
    assert fewer > GRAPHS // 10


def test_what_is_between_two_commits_is_what_git_lists(by_git):
    """`git rev-list old..new`, with every child before its parents; an ancestor has nothing of its own."""
    git, read = by_git
    rng = np.random.default_rng(10)
    for ids in git.graphs[: GRAPHS // 2]:
        old, new = heads_of(ids, rng, 2)
        found = between(old, new, read)
        assert sorted(id_ for id_, _ in found) == git.run("rev-list", f"{old[24:]}..{new[24:]}")
        place = {id_: at for at, (id_, _) in enumerate(found)}
        assert all(place[id_] < place[of] for id_, commit in found for of in commit.parents if of in place)
        assert is_ancestor(old, new, read) == (merge_bases([old, new], read) == [old])
        assert len(between(old, old, read)) == 0


def test_the_order_keeps_lines_together():
    """After a merge comes what was merged, whole, then the line it was merged into."""
    read, _ = reader({"f": "ce", "e": "d", "d": "a", "c": "b", "b": "a", "a": ""})
    assert "".join(commit.message for _, commit in ordered([fake_id("f")], read)) == "fedcba"
    assert "".join(commit.message for _, commit in ordered([fake_id("a"), fake_id("c")], read)) == "cba"
