"""Opening a settled conflict again: the merge is done once more in memory, as if nobody had decided anything.

Rules: a commit keeps a person's word for a path and no longer the conflict itself; heads, bases and rules stand in its
recipe, so the conflict comes out as it was, wherever the commit has travelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from fedloom.values import Digest
from fedloom.versions import recipes
from fedloom.versions.content import Content
from fedloom.versions.merge_base import base_side, levels
from fedloom.versions.merge_engine import merge_sides
from fedloom.versions.merge_recipe import MERGE, plan_of
from fedloom.versions.merge_sides import Names, all_names, side_of
from fedloom.versions.merge_workspace import Workspace
from fedloom.versions.objects import Commit, Conflict


class Reopened(NamedTuple):
    """What was settled: the conflicts by path, how paths are parted, and a workspace with all that they name."""

    conflicts: Mapping[str, Conflict]
    names: Mapping[str, Names]
    workspace: Workspace


def settled_words(commit: Commit) -> Mapping[str, str]:
    """Read what a person decided so far about a merge: path to word."""
    if commit.recipe is None or commit.recipe.algorithm != MERGE:
        return {}
    return dict(commit.recipe.settings.get("settled") or {})


def reopened(content: Content, commit: Commit) -> Reopened:
    """Merge again what a commit with a merge's recipe came from, and leave everything open."""
    assert commit.recipe is not None, "only what a merge settled is opened again"
    heads, bases = [part.id for part in commit.recipe.inputs], commit.recipe.settings["bases"]
    plan = replace(plan_of(commit.recipe), settled={})
    steps = levels(bases, content.commit)
    workspace = laid_out(content, [*heads, *(id_ for level in steps for id_ in level)])
    base, sides = base_side(content, steps, plan.rules, workspace), [side_of(content, head) for head in heads]
    found = merge_sides(plan, base, sides, workspace).conflicts
    return Reopened(found, all_names([base, *sides]), workspace)


def laid_out(content: Content, commits: Sequence[Digest]) -> Workspace:
    """Lay out what commits do not store, but compute by a recipe."""
    workspace = Workspace(content)
    for id_ in dict.fromkeys(commits):
        if content.commit(id_).recipe is not None and recipes.unstored(content, id_):
            workspace.lay(recipes.compute(content, id_))
    return workspace
