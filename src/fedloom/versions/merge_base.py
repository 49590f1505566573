"""What the heads of a merge have in common, and how much each of them weighs.

Rules: where there are several best common ancestors they are merged first, in memory, onto what they in turn have in
common (git's recursive merge); what that leaves open, or what a strategy that takes a side would decide, is as their
own base has it. Levels are walked in a loop, so a long criss-cross needs no deep stack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from fedloom.values import Digest
from fedloom.versions.history import merge_bases
from fedloom.versions.merge_engine import Plan, merge_sides
from fedloom.versions.merge_sides import EMPTY, Reader, Side, all_names, side_of
from fedloom.versions.merge_workspace import Workspace
from fedloom.versions.merging.rules import Rules
from fedloom.versions.objects import Commit


def levels(bases: Sequence[Digest], read: Callable[[Digest], Commit]) -> list[list[Digest]]:
    """List the bases, then the bases of these if they are several, and so on."""
    remembered = cache(read)  # each level walks much of the history again
    found = [list(bases)]
    while len(found[-1]) > 1:
        found.append(merge_bases(found[-1], remembered))
    return found


def base_side(reader: Reader, steps: Sequence[Sequence[Digest]], rules: Rules, workspace: Workspace) -> Side:
    """Make the one base of a merge from its `levels`: empty for unrelated histories, virtual for several bases."""
    side = EMPTY
    for level in reversed(steps):
        if len(level) == 1:
            side = side_of(reader, level[0])
        elif level:
            side = _virtual(reader, side, level, rules, workspace)
    return side


def _virtual(reader: Reader, below: Side, level: Sequence[Digest], rules: Rules, workspace: Workspace) -> Side:
    sides = [side_of(reader, id_) for id_ in level]
    decided = _without_sides(rules)
    weighed = decided.rules or decided.otherwise
    plan = Plan(default_weights(level, reader.commit) if weighed else (1.0,) * len(level), decided)
    merged = merge_sides(plan, below, sides, workspace)
    settled = {path: below.entries.get(path) for path in merged.conflicts}
    entries = {path: entry for path, entry in {**merged.entries, **settled}.items() if entry is not None}
    names = all_names([below, *sides])
    return replace(sides[0], entries=entries, names={path: names[path] for path in entries}, statistics={})


def _without_sides(rules: Rules) -> Rules:
    """Leave out strategies that take a side, or that need statistics of one."""
    kept = tuple(rule for rule in rules.rules if rule.strategy.takes is None and not rule.strategy.needs)
    otherwise = rules.otherwise
    return Rules(kept, None if otherwise and (otherwise.takes is not None or otherwise.needs) else otherwise)


def default_weights(heads: Sequence[Digest], read: Callable[[Digest], Commit]) -> tuple[float, ...]:
    """Weigh heads by the rows behind their last rounds; equally where one of them tells none."""
    rows = [rows_behind(head, read) for head in heads]
    return tuple(rows) if all(rows) else (1.0,) * len(heads)


def rows_behind(head: Digest, read: Callable[[Digest], Commit]) -> float:
    """Sum the weights of a head's last round; of a merge, of the last rounds it brings together; 0 where none was."""
    total, seen, stack = 0.0, set(), [head]
    while stack:
        id_ = stack.pop()
        if id_ in seen:
            continue
        seen.add(id_)
        commit = read(id_)
        if commit.recipe is not None and commit.kind == "round":
            total += sum(part.weight for part in commit.recipe.inputs)
        else:
            stack += reversed(commit.parents if commit.kind == "merge" else commit.parents[:1])
    return total
