"""How commits are named: refs long and short, HEAD, digits, steps to parents; what is ambiguous is refused."""

from dataclasses import replace

import pytest

from fedloom.errors import NotFoundError, VersionsError
from fedloom.versions.objects import Commit
from fedloom.versions.repository import Repository
from fedloom.versions.revisions import short_name
from fedloom.versions.store import Store


@pytest.fixture
def repository():
    return Repository(Store.in_memory())


def commit(repository, message, *parents):
    tree = repository.add_tree({}).id
    return repository.add_commit(Commit(tree, parents, "merge" if len(parents) > 1 else "round", message))


@pytest.fixture
def history(repository):
    """A merge `m` of `b` (on `a`) and `side`, on the branch `main`."""
    ids = {"a": commit(repository, "a")}
    ids["b"] = commit(repository, "b", ids["a"])
    ids["side"] = commit(repository, "side", ids["a"])
    ids["m"] = commit(repository, "m", ids["b"], ids["side"])
    repository.refs.compare_and_set("heads/main", None, ids["m"], "test")
    return repository, ids


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("HEAD", "m"),
        ("main~0", "m"),
        ("HEAD~", "b"),
        ("HEAD~1", "b"),
        ("main~2", "a"),
        ("heads/main^", "b"),
        ("main^1", "b"),
        ("main^2", "side"),
        ("main^0", "m"),
        ("main^2~1", "a"),
        ("main~~", "a"),
        ("main^^", "a"),
    ],
)
def test_steps_lead_to_parents(history, name, found):
    """`~N` goes N back along first parents, `^N` to the N-th parent; steps follow each other, and work on ids too."""
    repository, ids = history
    assert repository.resolve(name) == ids[found]
    assert repository.resolve(name.replace("heads/main", ids["m"][:10]).replace("main", ids["m"])) == ids[found]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("main~3", "'main~3' does not exist: the history ends 2 steps back"),
        ("main^3", r"'main\^3' does not exist: [0-9a-f]{12} has 2 parents"),
        ("main~1^2", "has 1 parent$"),
        ("mian~1", "no commit or ref 'mian'. Refs: heads/main"),
        ("~1", "no commit or ref ''"),
    ],
)
def test_steps_that_lead_nowhere_say_where_they_stop(history, name, told):
    """A parent that is not there is not found."""
    repository, _ = history
    with pytest.raises(NotFoundError, match=told):
        repository.resolve(name)


def test_head_is_the_current_branch(history):
    """HEAD follows the setting; on a branch without a commit it says so."""
    repository, ids = history
    repository.refs.compare_and_set("heads/trial", None, ids["side"], "test")
    repository.settings.change(lambda before: replace(before, branch="trial"))
    assert repository.resolve("HEAD") == ids["side"]
    repository.settings.change(lambda before: replace(before, branch="new"))
    with pytest.raises(NotFoundError, match="the current branch 'new' has no commit yet"):
        repository.resolve("HEAD~1")


def test_tags_and_branches_of_remotes_have_short_names(history):
    """`v1` is a tag, `origin/main` what was last fetched; their full names mean the same."""
    repository, ids = history
    repository.refs.compare_and_set("tags/v1", None, ids["a"], "test")
    repository.refs.compare_and_set("remotes/origin/heads/main", None, ids["b"], "test")
    assert repository.resolve("v1") == repository.resolve("tags/v1") == ids["a"]
    assert repository.resolve("origin/main") == repository.resolve("remotes/origin/heads/main") == ids["b"]
    assert repository.resolve("origin/main~1") == ids["a"]
    assert short_name("tags/v1") == "v1"
    assert short_name("remotes/origin/heads/main") == "origin/main"
    assert short_name("runs/3") == "runs/3"


def test_a_name_that_fits_two_commits_lists_both(history):
    """A branch and a tag of one name are ambiguous, unless they are the same commit; the full name always works."""
    repository, ids = history
    repository.refs.compare_and_set("heads/v1", None, ids["a"], "test")
    repository.refs.compare_and_set("tags/v1", None, ids["a"], "test")
    assert repository.resolve("v1") == ids["a"]
    repository.refs.compare_and_set("heads/v1", ids["a"], ids["b"], "test")
    with pytest.raises(VersionsError, match="'v1' is ambiguous, it fits heads/v1, tags/v1: use the full name"):
        repository.resolve("v1~1")
    assert repository.resolve("heads/v1") == ids["b"]
    repository.refs.compare_and_set("heads/origin/main", None, ids["a"], "test")
    repository.refs.compare_and_set("remotes/origin/heads/main", None, ids["b"], "test")
    with pytest.raises(VersionsError, match="it fits heads/origin/main, remotes/origin/heads/main"):
        repository.resolve("origin/main")


def test_a_branch_named_like_the_digits_of_another_commit_is_ambiguous(history):
    """Neither is guessed; more digits, or the full name, say which."""
    repository, ids = history
    digits = ids["a"][:5]
    repository.refs.compare_and_set(f"heads/{digits}", None, ids["b"], "test")
    with pytest.raises(VersionsError, match=f"'{digits}' is ambiguous, it fits heads/{digits}, commit {ids['a'][:12]}"):
        repository.resolve(digits)
    assert repository.resolve(ids["a"][:6]) == ids["a"]
    assert repository.resolve(f"heads/{digits}") == ids["b"]


def test_statements_are_no_commits(history):
    """The ref of an attestation does not name a commit."""
    repository, ids = history
    repository.attest(ids["a"], "gate", {"passed": True})
    with pytest.raises(NotFoundError):
        repository.resolve(f"attestations/{ids['a']}/gate")


def test_a_long_list_of_refs_is_cut(history):
    """An unknown name lists twenty refs and counts the others."""
    repository, ids = history
    for number in range(30):
        repository.refs.compare_and_set(f"runs/{number}", None, ids["a"], "test")
    with pytest.raises(NotFoundError, match=r"Refs: heads/main, runs/0, .* and 11 more$"):
        repository.resolve("absent")
