"""From a merge's commit to the branch: landing it, what is under way, going on with it, giving it up.

Rules: the ref `merging/<branch>` holds the commit until the branch has moved to it, so a process killed anywhere
leaves the merge to be continued, and a push takes it to where somebody can settle it. The branch moves last; a ref
that was not taken away in time is recognised, for the branch then holds its commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

from fedloom.errors import ConflictError, NotFoundError
from fedloom.values import Digest
from fedloom.versions import protection
from fedloom.versions.conflicts import require_clean
from fedloom.versions.conflicts import resolve as settled
from fedloom.versions.content import Content
from fedloom.versions.history import is_ancestor
from fedloom.versions.merge import MergeOutcome

_Verdict = TypeVar("_Verdict")
Measure: TypeAlias = Callable[[Digest, Sequence[Digest]], _Verdict]
"""Measures a candidate beside its parents and states the gate's verdict about it, before a branch moves."""


def merging_ref(branch: str) -> str:
    """Name the ref that holds a merge under way into a branch."""
    return f"merging/{branch}"


def under_way(content: Content, branch: str) -> Digest | None:
    """Find the commit of a merge that has not reached its branch; None when there is none."""
    candidate = content.refs.get(merging_ref(branch))
    head = content.refs.get(f"heads/{branch}")
    arrived = candidate is not None and head is not None and is_ancestor(candidate, head, content.commit)
    return None if arrived else candidate


def require_none_under_way(content: Content, branch: str) -> None:
    """Raise ConflictError when a merge into this branch waits to be continued."""
    if candidate := under_way(content, branch):
        raise ConflictError(
            f"a merge into {branch} is under way ({candidate[:12]}): "
            "go on with `fedloom merge --continue`, or drop it with `fedloom merge --abort`"
        )


def tip(content: Content, branch: str) -> Digest:
    """Find what a merge, cherry-pick or revert starts from; raises where one is under way, or nothing is there yet."""
    require_none_under_way(content, branch)
    head = content.refs.get(f"heads/{branch}")
    if head is None:
        raise NotFoundError(f"branch {branch} has no commit yet: start it with `fedloom run`, or switch to another")
    return head


def land(
    content: Content, branch: str, outcome: MergeOutcome, measure: Measure[_Verdict] | None = None
) -> _Verdict | None:
    """Take a merge to its branch, as far as it goes: with open conflicts it is kept as under way; gives the verdict.

    What a protected branch goes forward to, and a commit that a gate has to judge, is measured first, where `measure`
    is given: a run on some of the sites says nothing of the others. Raises as `conclude` does.
    """
    if outcome.kind == "up-to-date":
        return None
    if outcome.kind == "fast-forward":
        ref = f"heads/{branch}"
        head, new = content.refs.get(ref), outcome.commit
        verdict = measure(new, [head] if head else []) if measure and _wants_judging(content, ref, new) else None
        protection.move(content, ref, head, new, "fast-forward")
        return verdict
    keep(content, branch, outcome.commit)
    return None if outcome.conflicts else conclude(content, branch, measure)[1]


def resolve(content: Content, branch: str, pattern: str, take: str) -> Digest:
    """Settle conflicts of the merge under way, see `conflicts.resolve`; gives the commit that is now under way."""
    candidate = require_under_way(content, branch)
    onward = settled(content, candidate, pattern, take)
    content.refs.compare_and_set(merging_ref(branch), candidate, onward, f"{pattern}: {take}")
    return onward


def keep(content: Content, branch: str, candidate: Digest) -> None:
    """Remember a merge's commit as under way; raises ConflictError when another one is."""
    ref = merging_ref(branch)
    before = content.refs.get(ref)
    require_none_under_way(content, branch)
    content.refs.compare_and_set(ref, before, candidate, content.commit(candidate).message)


def conclude(content: Content, branch: str, measure: Measure[_Verdict] | None = None) -> tuple[Digest, _Verdict | None]:
    """Move a branch to the merge under way, measured first where `measure` is given; gives commit and verdict.

    Raises ConflictError while conflicts are open or when the branch went elsewhere, GateError when the gate of a
    protected branch refuses; the merge then stays under way.
    """
    candidate = require_under_way(content, branch)
    require_clean(content, candidate)
    head = content.refs.get(f"heads/{branch}")
    if head and not is_ancestor(head, candidate, content.commit):
        raise ConflictError(
            f"{branch} has moved to {head[:12]} since the merge began: `fedloom merge --abort`, and merge again"
        )
    parents = content.commit(candidate).parents
    verdict = measure(candidate, parents) if measure else None
    protection.move(content, f"heads/{branch}", head, candidate, content.commit(candidate).message)
    _forget(content, branch)
    return candidate, verdict


def abort(content: Content, branch: str) -> Digest:
    """Give up the merge under way; its commit stays until gc. Raises NotFoundError when there is none."""
    candidate = require_under_way(content, branch)
    _forget(content, branch)
    return candidate


def require_under_way(content: Content, branch: str) -> Digest:
    """Find the commit of the merge under way; raises NotFoundError when there is none."""
    candidate = under_way(content, branch)
    if candidate is None:
        raise NotFoundError(f"no merge into {branch} is under way: start one with `fedloom merge BRANCH`")
    return candidate


def _wants_judging(content: Content, ref: str, commit: Digest) -> bool:
    if ref in content.settings.read().protected:
        return True
    return protection.is_recombined(content.commit(commit)) and content.attestation(commit, protection.GATE) is None


def _forget(content: Content, branch: str) -> None:
    ref = merging_ref(branch)
    content.refs.compare_and_set(ref, content.refs.get(ref), None, "done")
