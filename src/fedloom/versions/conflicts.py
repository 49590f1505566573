"""Conflicts: what a merge could not decide. They stand in a commit's tree, so they travel and wait like anything else.

Rules: a commit is open as long as its tree holds a conflict. Settling one makes a new commit with the same parents,
so a merge is one commit in the history however often it was worked on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from fedloom.errors import ConflictError, NotFoundError, nearest
from fedloom.values import Digest
from fedloom.versions.content import Content
from fedloom.versions.merge_recipe import plan_of
from fedloom.versions.merge_reopening import reopened, settled_words
from fedloom.versions.merge_settling import settle
from fedloom.versions.merge_sides import DROPPED, Names, flat, side_of, stacked
from fedloom.versions.merge_workspace import Workspace
from fedloom.versions.merging.rules import MODEL
from fedloom.versions.objects import Commit, Conflict, Entry, Recipe

_NAMED = 3


def open_conflicts(content: Content, commit: Digest) -> dict[str, Conflict]:
    """List the conflicts of a commit by their path, sorted."""
    found = {path: content.conflict(entry.id) for path, entry in _conflicts(content, commit)}
    return dict(sorted(found.items()))


def require_clean(content: Content, commit: Digest) -> None:
    """Raise ConflictError when a commit has open conflicts: no protected ref may point to it."""
    paths = sorted(path for path, _ in _conflicts(content, commit))
    if not paths:
        return
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    raise ConflictError(
        f"commit {commit[:12]} has open conflicts at {', '.join(paths[:_NAMED])}{more}: "
        f"list them with `fedloom conflicts {commit[:12]}`, settle them with `fedloom resolve`"
    )


def resolve(content: Content, commit: Digest, pattern: str, take: str) -> Digest:
    """Settle the conflicts that a path or glob fits and give the commit in which they are settled; it moves no ref.

    Where none of them is open, those that were settled before are settled anew, by the new word.
    take: ours, theirs, base, a head's number or a branch strategy. Raises NotFoundError where nothing fits, SpecError
    and VersionsError as `settle` does; then nothing is settled.
    """
    known = content.commit(commit)
    waiting: Mapping[str, Conflict] = open_conflicts(content, commit)
    chosen, said = [path for path in waiting if fits(path, pattern)], settled_words(known)
    again = [] if chosen else [path for path in said if fits(path, pattern)]
    if not chosen and not again:
        told = nearest(pattern, [*waiting, *said]) if waiting or said else "none is open"
        raise NotFoundError(f"no conflict at '{pattern}' in {commit[:12]}; {told}")
    workspace = Workspace(content, content.database)
    parted: Mapping[str, Names] = {}
    if again:
        waiting, parted, memory = reopened(content, known)
        workspace = memory.keeping(content.database)
    heads = [part.id for part in known.recipe.inputs] if known.recipe else []
    weights = plan_of(known.recipe).weights if known.recipe else ()
    sides = [side_of(content, head) for head in heads]
    parts = content.tree(known.tree)
    entries, names = flat(content, parts)
    names = {**parted, **names}
    for path in chosen or again:
        conflict = waiting[path]
        shares = weights or (1.0,) * len(conflict.heads)
        where, entry = settle(workspace, conflict, take, shares, sides)
        entries.pop(settle(workspace, conflict, said[path], shares, sides).path if again else path, None)
        if entry is not None:
            workspace.keep(entry)
            names[where] = names[path] if where == path else (*names[path][:-1], where.removeprefix(MODEL))
            entries[where] = entry
    tree = stacked(entries, names, content.add_tree)
    return content.add_commit(_settled(known, tree.id, dict.fromkeys(chosen or again, take), newly=len(chosen)))


def _settled(commit: Commit, tree: Digest, taken: Mapping[str, str], *, newly: int) -> Commit:
    """Say in facts and recipe what a person decided."""
    facts = dict(commit.facts)
    if "merge" in facts:
        counts = dict(facts["merge"].get("outcomes", {}))
        counts["conflict"] = counts.get("conflict", 0) - newly
        counts["resolved"] = counts.get("resolved", 0) + newly
        facts["merge"] = {**facts["merge"], "outcomes": {name: count for name, count in counts.items() if count > 0}}
    recipe = commit.recipe
    if recipe is not None:
        settings: dict[str, Any] = {**recipe.settings, "settled": {**recipe.settings.get("settled", {}), **taken}}
        recipe = Recipe(recipe.algorithm, settings, recipe.inputs)
    return replace(commit, tree=tree, facts=facts, recipe=recipe)


def fits(path: str, pattern: str) -> bool:
    """Whether a path or glob, with or without `model/`, means a path."""
    return any(fnmatchcase(name, pattern) or name == pattern for name in (path, path.removeprefix(MODEL)))


def _conflicts(content: Content, commit: Digest) -> Iterator[tuple[str, Entry]]:
    parts = content.tree(content.commit(commit).tree)
    yield from _below(content, "", {name: entry for name, entry in parts.items() if name not in DROPPED})


def _below(content: Content, prefix: str, entries: Mapping[str, Entry]) -> Iterator[tuple[str, Entry]]:
    for name, entry in entries.items():
        if entry.kind == "conflict":
            yield prefix + name, entry
        elif entry.kind == "tree" and entry.keep == "stored":
            yield from _below(content, f"{prefix}{name}/", content.tree(entry.id))
