"""Branches, tags and protection: what can be made, what is refused, and that nothing is lost unasked."""

import threading

import pytest

from fedloom.errors import ConflictError, NotFoundError, VersionsError
from fedloom.versions import branches
from fedloom.versions.objects import Commit
from fedloom.versions.repository import Repository
from fedloom.versions.store import Store


@pytest.fixture
def repository():
    return Repository(Store.in_memory())


def commit(repository, message, *parents):
    return repository.add_commit(Commit(repository.add_tree({}).id, parents, "round", message))


@pytest.fixture
def started(repository):
    """Two commits, `main` on the second."""
    first = commit(repository, "1")
    second = commit(repository, "2", first)
    repository.refs.compare_and_set("heads/main", None, second, "test")
    return repository, first, second


def grown(repository, name):
    """Put a commit of its own on a branch."""
    tip = repository.refs.get(f"heads/{name}")
    new = commit(repository, f"on {name}", tip)
    repository.refs.compare_and_set(f"heads/{name}", tip, new, "test")
    return new


def test_a_branch_begins_at_the_current_tip_or_where_it_is_told(started):
    """Making one moves nothing else, and the list says which is current and which is protected."""
    repository, first, second = started
    assert repository.branch("north") == second
    assert repository.branch("old", "main~1") == first
    assert [(one.name, one.tip, one.current, one.protected) for one in repository.branches()] == [
        ("main", second, True, True),
        ("north", second, False, False),
        ("old", first, False, False),
    ]
    assert repository.refs.log("heads/old")[-1].why == "made at main~1"


def test_a_branch_that_is_there_is_not_overwritten(started):
    """Neither by one process nor by the slower of two."""
    repository, _, second = started
    with pytest.raises(ConflictError, match="there is a branch 'main' already: `fedloom switch main` goes to it"):
        repository.branch("main", "main~1")
    assert repository.resolve("main") == second

    made, lost = [], []

    def make(start):
        try:
            made.append(Repository(repository.store).branch("race", start))
        except ConflictError:
            lost.append(start)

    threads = [threading.Thread(target=make, args=(start,)) for start in ("main", "main~1") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(lost)) == (1, 7)
    assert repository.resolve("race") == made[0]


@pytest.mark.parametrize("name", ["Main", "a b", "../x", "", "-x", "x.ref", "heads/x", "tags/x", "runs/1", "a" * 64])
def test_names_that_would_be_mistaken_are_refused(started, name):
    """No branch or tag looks like an option, another kind of ref, or an id."""
    repository, *_ = started
    for make in (repository.branch, repository.tag, lambda n: repository.switch(n, create=True)):
        with pytest.raises(VersionsError, match=r"choose another name|is no name for a"):
            make(name)
    assert repository.refs.names() == ["heads/main"]
    assert branches.current(repository) == "main"


def test_switch_makes_another_branch_the_current_one(started):
    """Only the setting moves; with `create` the branch is made first."""
    repository, first, second = started
    repository.branch("north", "main~1")
    assert repository.switch("north") == first
    assert branches.current(Repository(repository.store)) == "north"
    assert repository.resolve("HEAD") == first
    assert repository.switch("south", create=True, start="main") == second
    assert branches.current(repository) == "south"
    with pytest.raises(ConflictError, match="there is a branch 'main' already"):
        repository.switch("main", create=True)
    assert branches.current(repository) == "south"


def test_switching_to_a_branch_that_is_not_there_says_what_to_do(started):
    """The nearest name, or the remote branch to start from."""
    repository, first, _ = started
    repository.branch("north")
    with pytest.raises(NotFoundError, match=r"there is no branch 'nort'.*did you mean 'north'.*switch -c nort"):
        repository.switch("nort")
    repository.refs.compare_and_set("remotes/origin/heads/trial", None, first, "fetch")
    with pytest.raises(NotFoundError, match="make it with `fedloom switch -c trial origin/trial`"):
        repository.switch("trial")
    assert branches.current(repository) == "main"


def test_before_the_first_commit_a_branch_is_only_chosen(repository):
    """In a new repository `switch -c` says where the first run shall go; there is no ref yet, and nothing to branch."""
    assert repository.switch("trial", create=True) is None
    assert branches.current(repository) == "trial"
    assert repository.refs.names() == []
    with pytest.raises(NotFoundError, match="the current branch 'trial' has no commit yet"):
        repository.branch("other")


def test_work_that_nothing_else_has_is_not_deleted(started):
    """A branch goes when another branch, a tag or a remote has its commits; else only with force."""
    repository, _, second = started
    repository.branch("done")
    assert repository.delete_branch("done") == second
    repository.branch("open")
    tip = grown(repository, "open")
    with pytest.raises(ConflictError, match="no other branch or tag has the commits of 'open'"):
        repository.delete_branch("open")
    for ref in ("tags/kept", "remotes/origin/heads/open", "heads/later"):
        repository.refs.compare_and_set(ref, None, commit(repository, "on top", tip), "test")
        assert repository.delete_branch("open") == tip
        repository.refs.compare_and_set("heads/open", None, tip, "back")
        repository.refs.compare_and_set(ref, repository.refs.get(ref), None, "test")
    repository.refs.compare_and_set("runs/1", None, tip, "a run is no home")
    with pytest.raises(ConflictError, match="--force"):
        repository.delete_branch("open")
    assert repository.delete_branch("open", force=True) == tip
    assert [move.target for move in repository.refs.log("heads/open")][-2:] == [tip, None]
    assert repository.branch("open", tip[:10]) == tip


def test_the_current_and_protected_branches_stay(started):
    """Force does not delete them either."""
    repository, *_ = started
    repository.branch("safe")
    repository.protect("safe")
    for name, why in (("main", "is the current branch"), ("safe", "is protected"), ("nowhere", "there is no branch")):
        with pytest.raises(VersionsError, match=why):
            repository.delete_branch(name, force=True)
    assert [one.name for one in repository.branches()] == ["main", "safe"]


def test_a_merge_under_way_keeps_its_branch(started):
    """The branch it would move is not taken from under it."""
    repository, *_ = started
    tip = repository.branch("trial")
    candidate = commit(repository, "merge", tip)
    repository.refs.compare_and_set("merging/trial", None, candidate, "test")
    with pytest.raises(ConflictError, match="under way"):
        repository.delete_branch("trial", force=True)


def test_a_tag_never_moves(started):
    """It names one commit until it is deleted; its past is kept."""
    repository, first, second = started
    assert repository.tag("v1", "main~1") == first
    with pytest.raises(ConflictError, match="there is a tag 'v1' already: a tag never moves"):
        repository.tag("v1")
    assert repository.tags() == {"v1": first}
    assert repository.delete_tag("v1") == first
    assert repository.tags() == {}
    assert repository.tag("v1") == second
    with pytest.raises(NotFoundError, match=r"there is no tag 'v2': did you mean 'v1'"):
        repository.delete_tag("v2")


def test_protection_is_kept_in_the_settings(started):
    """Branches and tags that are there, by short or full name; a typo is no protection."""
    repository, *_ = started
    repository.branch("trial")
    repository.tag("v1")
    assert repository.protect("trial") == "heads/trial"
    assert repository.protect("tags/v1") == "tags/v1"
    assert repository.protect("trial") == "heads/trial"
    assert Repository(repository.store).settings.read().protected == ("heads/main", "heads/trial", "tags/v1")
    with pytest.raises(ConflictError, match="tag 'v1' is protected"):
        repository.delete_tag("v1")
    with pytest.raises(NotFoundError, match="there is no branch or tag 'trail' to protect"):
        repository.protect("trail")
    assert repository.unprotect("trial") == "heads/trial"
    assert repository.unprotect("heads/main") == "heads/main"
    with pytest.raises(NotFoundError, match="'trial' is not protected; protected: tags/v1"):
        repository.unprotect("trial")


def test_the_current_branch_can_be_protected_before_its_first_commit(repository):
    """Otherwise its first merge could slip through."""
    repository.switch("trial", create=True)
    assert repository.protect("trial") == "heads/trial"


def test_merge_base_by_name(started):
    """The bases of branches that parted, as a method of the repository."""
    repository, _, second = started
    for name in ("a", "b", "c"):
        repository.branch(name)
        grown(repository, name)
    heads = [repository.resolve(name) for name in "abc"]
    assert repository.merge_base(*heads) == [second]
    assert repository.merge_base(heads[0], commit(repository, "stranger")) == []
