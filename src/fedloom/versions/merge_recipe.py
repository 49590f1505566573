"""`merge/1`: the recipe of a merge of branches, from a plan to plain JSON and back, and its model computed anew.

Rules: the recipe names heads with their weights, bases and every decision, so its result does not depend on refs,
on names of branches or on what the history became later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedloom.errors import CorruptObjectError, FedloomError, NotFoundError
from fedloom.values import Digest, Tensors
from fedloom.versions.merge_base import base_side, levels
from fedloom.versions.merge_bench import Bench
from fedloom.versions.merge_engine import Plan, merge_sides
from fedloom.versions.merge_sides import Reader, side_of
from fedloom.versions.merging.catalog import as_settings, from_settings
from fedloom.versions.merging.rules import Rule, Rules
from fedloom.versions.objects import Commit, Input, Recipe

MERGE = "merge/1"


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
    """Read how a merge was made; raises VersionsError for a strategy this fedloom lacks."""
    settings = recipe.settings
    rules = tuple(Rule(glob, from_settings(strategy)) for glob, strategy in settings["rules"])
    otherwise = from_settings(settings["otherwise"]) if settings["otherwise"] else None
    weights = tuple(float(part.weight) for part in recipe.inputs)
    return Plan(weights, Rules(rules, otherwise), settings["optimizer"], settings["settled"], settings["replay"])


class Merge:
    """The algorithm."""

    def needs(self, commit: Commit, source: Reader) -> Sequence[Digest]:
        """The heads, and the bases down to where there is one."""
        heads, bases = _sides(commit)
        return list(dict.fromkeys([*heads, *(id_ for level in levels(bases, source.commit) for id_ in level)]))

    def make(self, id_: Digest, commit: Commit, source: Reader) -> Mapping[str, Tensors]:
        """Merge again, in memory."""
        assert commit.recipe is not None, "only a commit with a recipe is made"
        try:
            plan = plan_of(commit.recipe)
            heads, bases = _sides(commit)
            bench = Bench(source)
            base = base_side(source, levels(bases, source.commit), plan.rules, bench)
            merged = merge_sides(plan, base, [side_of(source, head) for head in heads], bench)
        except (KeyError, TypeError, ValueError) as error:
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
                parts[part][name] = bench.tensor(entry)
        return parts


def _sides(commit: Commit) -> tuple[list[Digest], list[Digest]]:
    assert commit.recipe is not None, "only a commit with a recipe is made"
    bases = commit.recipe.settings.get("bases")
    if not isinstance(bases, list):
        raise CorruptObjectError("a merge names no bases, its recipe is broken: restore it from a copy")
    return [part.id for part in commit.recipe.inputs], bases
