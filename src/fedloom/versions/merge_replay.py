"""cherry-pick and revert of one commit: its change is done again on another commit, or undone.

Rules: both are 3-way merges: picked, the base is the commit's parent; reverted, the base is the commit and the other
head its parent. A contested number becomes X + (C - parent), or X - (C - parent): a sum of changes, not training. The
gradient was taken elsewhere, so the result says `replayed` or `reverted` and has to pass the gate like a merge.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedloom.errors import SpecError
from fedloom.values import Digest
from fedloom.versions.content import Content
from fedloom.versions.history import is_ancestor
from fedloom.versions.merge import MergeOutcome, Sides, combine
from fedloom.versions.merge_engine import Plan
from fedloom.versions.merge_sides import DROPPED
from fedloom.versions.merging.changing import TaskArithmetic
from fedloom.versions.merging.rules import Rules, parse_rules
from fedloom.versions.objects import Entry

_ALIKE = (1.0, 1.0)


def cherry_pick(
    content: Content, onto: Digest, picked: Digest, *, mainline: int | None = None, rules: Sequence[str] = ()
) -> MergeOutcome:
    """Do a commit's change again on another one; `mainline` is the parent (from 1) a merge's change is counted from.

    A commit that the other one descends from is no exception: it may have been undone since. Where it makes no
    difference, the outcome is up-to-date.
    """
    parent = _parent(content, picked, mainline)
    sides = Sides((onto, picked), (parent,), ("onto", "picked"), "merge", (onto,))
    message = f"replay {picked[:12]}: {content.commit(picked).message}"
    outcome = combine(content, sides, _plan(rules), {"replayed": picked, "merge": {"bases": [parent]}}, message)
    if is_ancestor(picked, onto, content.commit) and _kept(content, outcome.commit) == _kept(content, onto):
        return MergeOutcome("up-to-date", onto)
    return outcome


def revert_commit(
    content: Content, onto: Digest, undone: Digest, *, mainline: int | None = None, rules: Sequence[str] = ()
) -> MergeOutcome:
    """Undo a commit's change on another one that descends from it; `mainline` as for `cherry_pick`."""
    parent = _parent(content, undone, mainline)
    if not is_ancestor(undone, onto, content.commit):
        raise SpecError(f"{undone[:12]} is no part of {onto[:12]}: there is nothing to undo")
    sides = Sides((onto, parent), (undone,), ("onto", "before"), "revert", (onto,))
    message = f"revert {undone[:12]}: {content.commit(undone).message}"
    return combine(content, sides, _plan(rules), {"reverted": undone, "merge": {"bases": [undone]}}, message)


def _kept(content: Content, commit: Digest) -> dict[str, Entry]:
    """List the parts that a replay keeps: the optimizer's state and what is said about one model alone it drops."""
    parts = content.tree(content.commit(commit).tree)
    return {name: entry for name, entry in parts.items() if name not in (*DROPPED, "optimizer")}


def _plan(rules: Sequence[str]) -> Plan:
    return Plan(_ALIKE, Rules(parse_rules(rules).rules, TaskArithmetic()), replay=True)


def _parent(content: Content, commit: Digest, mainline: int | None) -> Digest:
    parents = content.commit(commit).parents
    short = commit[:12]
    if not parents:
        raise SpecError(f"{short} is the start of a history: it has no parent, so it changed nothing")
    if len(parents) > 1 and mainline is None:
        raise SpecError(
            f"{short} is a merge of {len(parents)}: say which parent its change counts from, `--mainline 1`"
        )
    if not 1 <= (mainline or 1) <= len(parents):
        raise SpecError(f"{short} has {len(parents)} parent(s): --mainline cannot be {mainline}")
    return parents[(mainline or 1) - 1]
