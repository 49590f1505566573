"""Protection: what a protected branch takes is judged behind its tip too, and by no other commit's gate."""

import pytest

from fedloom.errors import GateError
from fedloom.versions import protection
from fedloom.versions.objects import Recipe
from tests.versions.remotes.histories import commit, model, repository, rounds

MAIN = "heads/main"


@pytest.fixture
def content():
    return repository()


def fork(content):
    """Commit a root with two rounds beside each other; main is at the first."""
    root, first = rounds(content, 1)
    return root, first, commit(content, model(2), root, branch=None)


def refused(content, old, new, told="never measured"):
    with pytest.raises(GateError, match=told):
        protection.move(content, MAIN, old, new, "test")
    assert content.refs.get(MAIN) == old


@pytest.mark.parametrize("kind", ["train", "round", "revert", "merge"])
def test_what_is_built_on_an_unmeasured_merge_is_refused(content, kind):
    """A round on top takes the merge along, whatever kind it says it is; with the merge's gate it goes through."""
    _, first, other = fork(content)
    merge = commit(content, model(3), first, other, branch=None, kind=kind)
    on_top = commit(content, model(4), merge, branch=None, kind="train")
    refused(content, first, merge)
    refused(content, first, on_top, f"{merge[:12]} was never measured: measure it with `fedloom merge {merge[:12]}`")
    content.attest(merge, "gate", {"passed": True})
    protection.move(content, MAIN, first, on_top, "test")


@pytest.mark.parametrize("fact", ["replayed", "reverted"])
def test_a_replayed_change_is_judged_by_its_facts(content, fact):
    """A commit of one parent that says it was replayed, or whose recipe merges, needs a gate."""
    from dataclasses import replace

    _, first, other = fork(content)
    plain = content.commit(commit(content, model(3), first, branch=None, kind="train"))
    refused(content, first, content.add_commit(replace(plain, facts={fact: other})))
    refused(content, first, content.add_commit(replace(plain, recipe=Recipe("merge/1", {}, ()))))
    protection.move(content, MAIN, first, content.add_commit(plain), "test")


def test_a_passed_gate_covers_what_its_commit_was_made_from(content):
    """The merged model was measured as it is: merges inside the branch that went in need no gate of their own."""
    root, first, other = fork(content)
    inner = commit(content, model(3), other, commit(content, model(5), root, branch=None), branch=None, kind="merge")
    outer = commit(content, model(4), first, inner, branch=None, kind="merge")
    content.attest(outer, "gate", {"passed": True})
    protection.move(content, MAIN, first, outer, "test")
    assert [id_ for id_, _ in protection.judged(content, first, outer)] == [outer]


def test_what_main_has_already_is_not_judged_again(content):
    """Only what is new counts: an old unmeasured merge does not stop what comes after."""
    _, first, other = fork(content)
    merge = commit(content, model(3), first, other, kind="merge")
    protection.move(content, MAIN, merge, commit(content, model(4), merge, branch=None), "test")


@pytest.mark.parametrize("body", [{}, {"passed": None}, {"passed": 1}, {"passed": "true"}, {"passed": False}])
def test_anything_but_true_is_no(content, body):
    """A gate that does not plainly say so did not pass; it is no crash either."""
    _, first, other = fork(content)
    merge = commit(content, model(3), first, other, branch=None, kind="merge")
    content.attest(merge, "gate", body)
    refused(content, first, merge, "did not pass its gate")


def test_a_gate_about_another_commit_is_none(content):
    """A statement filed under a commit, but about another or of another type, does not count."""
    _, first, other = fork(content)
    merge = commit(content, model(3), first, other, branch=None, kind="merge")
    for id_ in (content.attest(first, "gate", {"passed": True}), content.attest(merge, "wish", {"passed": True})):
        ref = f"attestations/{merge}/gate"
        content.refs.compare_and_set(ref, content.refs.get(ref), id_, "planted")
        refused(content, first, merge)
