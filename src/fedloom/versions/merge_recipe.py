"""`merge/1`: the recipe of a merge of branches, from a plan to plain JSON and back, and its model computed anew.

Rules: the recipe names heads with their weights, bases and every decision, so its result does not depend on refs,
on names of branches or on what the history became later. What a recipe gives says nothing while it may name anything:
`faults` holds it to the commit, in one of three forms (see `merge` and `merge_replay`):

    merge        heads: the parents              bases: the best common ancestors of the heads
    cherry-pick  heads: the parent, the picked   bases: a parent of the picked commit
    revert       heads: the parent, and          bases: the commit that is undone, an ancestor of the parent
                 a parent of the undone
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedloom.errors import CorruptObjectError, FedloomError, NotFoundError
from fedloom.values import Digest, Tensors
from fedloom.versions.history import is_ancestor, merge_bases
from fedloom.versions.merge_base import base_side, levels
from fedloom.versions.merge_engine import POLICIES, Plan, merge_sides
from fedloom.versions.merge_sides import Reader, side_of
from fedloom.versions.merge_workspace import Workspace
from fedloom.versions.merging.catalog import as_settings, from_settings
from fedloom.versions.merging.rules import Rule, Rules
from fedloom.versions.objects import Commit, Input, Recipe, is_id

MERGE = "merge/1"

UNFIT = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What an algorithm may raise at inputs and settings that no fedloom has written."""


def merge_recipe(plan: Plan, names: Sequence[str], heads: Sequence[Digest], bases: Sequence[Digest]) -> Recipe:
    """Describe a merge."""
    settings: dict[str, Any] = {
        "rules": [[rule.glob, as_settings(rule.strategy)] for rule in plan.rules.rules],
        "otherwise": as_settings(plan.rules.otherwise) if plan.rules.otherwise else None,
        "optimizer": plan.optimizer,
        "bases": list(bases),
        "settled": dict(plan.settled),
        "replay": plan.replay,
    }
    inputs = [Input(name, id_, weight) for name, id_, weight in zip(names, heads, plan.weights, strict=True)]
    return Recipe(MERGE, settings, tuple(inputs))


def plan_of(recipe: Recipe) -> Plan:
    """Read how a merge was made; raises VersionsError for a strategy this fedloom lacks, or where it is no plan."""
    settings = recipe.settings
    if wrong := next(_unreadable(recipe), ""):
        raise CorruptObjectError(f"a merge's recipe is broken at {wrong}: restore the commit from a copy")
    rules = tuple(Rule(glob, from_settings(strategy)) for glob, strategy in settings["rules"])
    otherwise = from_settings(settings["otherwise"]) if settings["otherwise"] else None
    weights = tuple(float(part.weight) for part in recipe.inputs)
    return Plan(weights, Rules(rules, otherwise), settings["optimizer"], settings["settled"], settings["replay"])


def _unreadable(recipe: Recipe) -> Iterator[str]:
    """Find what has not the form that `merge_recipe` gives it."""
    settings = recipe.settings
    rules, settled, otherwise = settings.get("rules"), settings.get("settled"), settings.get("otherwise", 0)
    if not isinstance(rules, list) or not all(map(_is_rule, rules)):
        yield "'rules'"
    if otherwise is not None and not isinstance(otherwise, dict):
        yield "'otherwise'"
    if settings.get("optimizer") not in POLICIES:
        yield "'optimizer'"
    if not isinstance(settled, dict) or not all(isinstance(word, str) for word in settled.values()):
        yield "'settled'"
    if not isinstance(settings.get("replay"), bool):
        yield "'replay'"
    if not all(0.0 < part.weight < float("inf") for part in recipe.inputs):
        yield "a weight"


def _is_rule(rule: Any) -> bool:
    return isinstance(rule, list) and len(rule) == 2 and isinstance(rule[0], str) and isinstance(rule[1], dict)


class Merge:
    """The algorithm."""

    def needs(self, commit: Commit, source: Reader) -> Sequence[Digest]:
        """The heads, and the bases down to where there is one."""
        heads, bases = _sides(commit)
        return list(dict.fromkeys([*heads, *(id_ for level in levels(bases, source.commit) for id_ in level)]))

    def named(self, commit: Commit) -> Sequence[Digest]:
        """The heads and the bases."""
        heads, bases = _sides(commit)
        return [*heads, *bases]

    def faults(self, commit: Commit, source: Reader) -> Iterator[str]:
        """Hold heads and bases to what the commit says it is."""
        heads, bases = _sides(commit)
        replayed = _replayed(commit)
        if commit.kind not in ("merge", "revert"):
            yield f"its recipe is that of a merge, and it is a commit of kind '{commit.kind}'"
        elif commit.recipe is not None and commit.recipe.settings.get("replay") is not (replayed is not None):
            yield "its recipe and its facts disagree whether one commit is done again or undone"
        elif replayed is None:
            yield from _faults_of_merge(commit, heads, bases, source)
        elif commit.parents != tuple(heads[:1]) or len(heads) != 2 or len(bases) != 1:
            yield "its recipe starts from something else than its parent"
        elif commit.kind == "merge":
            yield from _faults_of_pick(replayed, heads[1], bases[0], source)
        else:
            yield from _faults_of_revert(replayed, heads, bases[0], source)

    def make(self, id_: Digest, commit: Commit, source: Reader) -> Mapping[str, Tensors]:
        """Merge again, in memory."""
        assert commit.recipe is not None, "only a commit with a recipe is made"
        try:
            plan = plan_of(commit.recipe)
            heads, bases = _sides(commit)
            workspace = Workspace(source)
            base = base_side(source, levels(bases, source.commit), plan.rules, workspace)
            merged = merge_sides(plan, base, [side_of(source, head) for head in heads], workspace)
        except UNFIT as error:
            broken = f"commit {id_[:12]} cannot be merged again, its recipe is broken ({error}): restore it from a copy"
            raise CorruptObjectError(broken) from None
        except (NotFoundError, CorruptObjectError):
            raise
        except FedloomError as error:
            raise CorruptObjectError(f"commit {id_[:12]} cannot be merged again: {error}") from None
        parts: dict[str, dict[str, Any]] = {"model": {}, "optimizer": {}}
        for path, entry in merged.entries.items():
            part, _, name = path.partition("/")
            if part in parts and entry.kind == "tensor":
                parts[part][name] = workspace.tensor(entry)
        return parts


def _sides(commit: Commit) -> tuple[list[Digest], list[Digest]]:
    assert commit.recipe is not None, "only a commit with a recipe is made"
    bases = commit.recipe.settings.get("bases")
    if not isinstance(bases, list) or not all(map(is_id, bases)):
        raise CorruptObjectError("a merge names no bases, its recipe is broken: restore it from a copy")
    return [part.id for part in commit.recipe.inputs], bases


def _replayed(commit: Commit) -> Any:
    """Find what the facts name as the one commit that is done again, or undone; None in a merge of branches."""
    return commit.facts.get("reverted", "") if commit.kind == "revert" else commit.facts.get("replayed")


def _faults_of_merge(commit: Commit, heads: list[Digest], bases: list[Digest], source: Reader) -> Iterator[str]:
    if tuple(heads) != commit.parents:
        yield "its recipe merges other commits than its parents"
    elif sorted(bases) != merge_bases(heads, source.commit):
        yield "its recipe's bases are not what its parents have in common"


def _faults_of_pick(picked: Any, head: Digest, base: Digest, source: Reader) -> Iterator[str]:
    if head != picked:
        yield "its recipe does another commit's change again than its facts name"
    elif base not in source.commit(head).parents:
        yield "its recipe's base is no parent of the commit whose change is done again"


def _faults_of_revert(undone: Any, heads: list[Digest], base: Digest, source: Reader) -> Iterator[str]:
    if base != undone:
        yield "its recipe undoes another commit than its facts name"
    elif not is_ancestor(base, heads[0], source.commit):
        yield "its recipe undoes a commit that its parent does not descend from"
    elif heads[1] not in source.commit(base).parents:
        yield "its recipe goes back to something else than a parent of the commit that is undone"
