"""Merging branches: N commits become one that has them as parents, or a commit with conflicts to settle.

Rules: nothing here moves a ref (see `merge_landing`). Heads that another head descends from are left out, so a merge
of what is there already is none, and a merge of a descendant is a fast-forward; of one with open conflicts, it goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from fedloom.errors import RefusedError, SpecError, nearest
from fedloom.values import Digest
from fedloom.versions.conflicts import open_conflicts, require_clean
from fedloom.versions.content import Content
from fedloom.versions.history import independent, merge_bases
from fedloom.versions.merge_base import base_side, default_weights, levels
from fedloom.versions.merge_engine import Merged, Plan, Policy, merge_sides
from fedloom.versions.merge_recipe import merge_recipe
from fedloom.versions.merge_reopening import laid_out
from fedloom.versions.merge_sides import all_names, side_of, stacked
from fedloom.versions.merging.catalog import as_settings
from fedloom.versions.merging.rules import MODEL, Rules, parse_rules
from fedloom.versions.objects import Commit, CommitKind, Conflict

Kind = Literal["up-to-date", "fast-forward", "merged", "conflicts"]
_CARRIED = ("pipeline", "learner", "codec", "privacy", "axes")
"""Facts a merge has too where all its heads tell the same."""


@dataclass(frozen=True, slots=True)
class How:
    """The wishes of the person who merges.

    strategy: for contested model tensors where no rule fits, such as `weighted_mean`, `ties:density=0.2` or `ours`;
    None: they become conflicts. rules: such as `head.*=ours`; the first that fits decides. weights: one a head, ours
    first; None: the rows behind each. optimizer: drop, base or mean. store: False leaves the merged tensors to the
    recipe.
    """

    strategy: str | None = None
    rules: Sequence[str] = ()
    weights: Sequence[float] | None = None
    optimizer: Policy = "drop"
    allow_unrelated: bool = False
    store: bool = True


@dataclass(frozen=True, slots=True)
class MergeOutcome:
    """What a merge came to.

    commit: what the branch may move to; with conflicts, what is to be settled. bases: the best common ancestors.
    outcomes: how every entry came about, by path. conflicts: what is open, by path.
    """

    kind: Kind
    commit: Digest
    bases: tuple[Digest, ...] = ()
    outcomes: Mapping[str, str] = field(default_factory=dict)
    conflicts: Mapping[str, Conflict] = field(default_factory=dict)

    @property
    def base(self) -> Digest | None:
        """The common ancestor where there is exactly one."""
        return self.bases[0] if len(self.bases) == 1 else None


@dataclass(frozen=True, slots=True)
class Sides:
    """The commits of a merge: heads in order with the names to call them by, and what they have in common."""

    heads: tuple[Digest, ...]
    bases: tuple[Digest, ...]
    names: tuple[str, ...]
    kind: CommitKind = "merge"
    parents: tuple[Digest, ...] = ()


_PLAIN = How()


def merge(
    content: Content,
    ours: Digest,
    theirs: Sequence[Digest],
    how: How = _PLAIN,
    *,
    message: str = "",
    names: Sequence[str] = (),
) -> MergeOutcome:
    """Merge commits into `ours`; `names` are those of the heads, ours first, for messages and the recipe.

    Raises SpecError for a rule or strategy that makes no sense, RefusedError for unrelated histories and for data a
    strategy lacks, ConflictError where a head has open conflicts.
    """
    rules = _rules(how)
    given = [ours, *theirs]
    called = dict(zip(reversed(given), reversed([*names, *(id_[:12] for id_ in given[len(names) :])]), strict=True))
    tips = independent(given, content.commit)
    heads = [id_ for id_ in dict.fromkeys(given) if id_ in tips]
    if heads == [ours]:
        return MergeOutcome("up-to-date", ours)
    if len(heads) == 1:
        waiting = open_conflicts(content, heads[0])  # somebody else's merge under way: it is taken up here
        return MergeOutcome("conflicts" if waiting else "fast-forward", heads[0], conflicts=waiting)
    bases = tuple(merge_bases(heads, content.commit))
    if not bases and not how.allow_unrelated:
        told = " and ".join(called[id_] for id_ in heads)
        raise RefusedError(f"{told} have no commit in common: `--allow-unrelated` merges them all the same")
    weights = _weights(content, how, given, heads)
    plan = Plan(weights, rules, how.optimizer)
    sides = Sides(tuple(heads), bases, tuple(called[id_] for id_ in heads), "merge", tuple(heads))
    facts = {"merge": _settings(how, plan, sides)}
    others = ", ".join(called[id_] for id_ in heads if id_ != ours)
    return combine(content, sides, plan, facts, message or f"merge {others} into {called[ours]}", store=how.store)


def combine(
    content: Content, sides: Sides, plan: Plan, facts: Mapping[str, Any], message: str, *, store: bool = True
) -> MergeOutcome:
    """Merge sides by a plan and commit what comes out, open conflicts and all."""
    for head in (*sides.heads, *sides.bases):
        require_clean(content, head)
    _check_counts(plan.rules, len(sides.heads))
    laid = [side_of(content, head) for head in sides.heads]
    if unused := plan.rules.unused({path for side in laid for path in side.entries}):
        paths = sorted({path.removeprefix(MODEL) for side in laid for path in side.entries})
        raise SpecError(f"rule '{unused[0]}' fits nothing in these branches; {nearest(unused[0], paths)}")
    steps = levels(sides.bases, content.commit)
    memory = laid_out(content, [*sides.heads, *(id_ for level in steps for id_ in level)])
    base = base_side(content, steps, plan.rules, memory)
    workspace = memory.keeping(content.database, tensors=store)
    merged = merge_sides(plan, base, laid, workspace)
    if store:
        for entry in merged.entries.values():
            workspace.keep(entry)
    tree = stacked(merged.entries, all_names([base, *laid]), content.add_tree)
    carried = {key: laid[0].facts[key] for key in _CARRIED if key in laid[0].facts and _alike(key, laid)}
    told = {**carried, **_with_counts(facts, merged)}
    recipe = merge_recipe(plan, sides.names, sides.heads, sides.bases)
    commit = content.add_commit(Commit(tree.id, sides.parents, sides.kind, message, told, recipe))
    kind: Kind = "conflicts" if merged.conflicts else "merged"
    return MergeOutcome(kind, commit, sides.bases, merged.outcomes, merged.conflicts)


def _rules(how: How) -> Rules:
    if how.optimizer not in get_args(Policy):
        raise SpecError(f"no optimizer policy '{how.optimizer}'; {nearest(how.optimizer, get_args(Policy))}")
    return parse_rules(how.rules, how.strategy)


def _check_counts(rules: Rules, count: int) -> None:
    """Refuse a strategy that could never merge this many branches."""
    for strategy in (*(rule.strategy for rule in rules.rules), *([rules.otherwise] if rules.otherwise else [])):
        if not strategy.least <= count <= (strategy.most or count):
            wanted = f"exactly {strategy.most}" if strategy.most == strategy.least else f"{strategy.least} or more"
            raise SpecError(f"{strategy.id} is for {wanted} branches, and these are {count}: choose another strategy")


def _weights(content: Content, how: How, given: Sequence[Digest], heads: Sequence[Digest]) -> tuple[float, ...]:
    if how.weights is None:
        return default_weights(heads, content.commit)
    if len(how.weights) != len(given):
        raise SpecError(f"{len(given)} weights are needed, one for each branch that is merged")
    if wrong := [weight for weight in how.weights if not 0.0 < weight < float("inf")]:
        raise SpecError(f"weight {wrong[0]:g} cannot be: a weight is a number above 0, such as 1 or 0.5")
    by_head = dict(zip(given, how.weights, strict=True))
    return tuple(float(by_head[head]) for head in heads)


def _settings(how: How, plan: Plan, sides: Sides) -> dict[str, Any]:
    return {
        "strategy": as_settings(plan.rules.otherwise) if plan.rules.otherwise else None,
        "rules": list(how.rules),
        "weights": dict(zip(sides.names, plan.weights, strict=True)),
        "bases": list(sides.bases),
        "optimizer": plan.optimizer,
    }


def _with_counts(facts: Mapping[str, Any], merged: Merged) -> dict[str, Any]:
    """Say in the facts of the merge how many entries came about in which way."""
    counts: dict[str, int] = {}
    for outcome in merged.outcomes.values():
        counts[outcome] = counts.get(outcome, 0) + 1
    return {key: {**value, "outcomes": counts} if key == "merge" else value for key, value in facts.items()}


def _alike(key: str, sides: Sequence[Any]) -> bool:
    return all(side.facts.get(key) == sides[0].facts[key] for side in sides)
