"""The merge of N sides: what becomes of every entry, in five steps.

(1) renames are made in all sides; (2) each name is decided by ids alone; (3) vocabularies and what is indexed by them
are united; (4) statistics are pooled; (5) what is left is contested: a rule, the strategy, or a conflict.
Rules: pure but for the workspace, so a recipe gives the same; the order of heads matters only for `ours`, for inputs
and notes, and for the last bits of sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fedloom.errors import VersionsError
from fedloom.values import Tensor
from fedloom.versions.merge_settling import combined, extras, settle
from fedloom.versions.merge_sides import Side
from fedloom.versions.merge_workspace import Workspace
from fedloom.versions.merging.averaging import WeightedMean
from fedloom.versions.merging.branch import BranchStrategy
from fedloom.versions.merging.disagreement import disagreement
from fedloom.versions.merging.pooling import Group, NoCounts, groups, pool
from fedloom.versions.merging.renames import RenameClash, align
from fedloom.versions.merging.rules import MODEL, Rules
from fedloom.versions.merging.threeway import Decision, decisions
from fedloom.versions.merging.vocabulary import aligned, united
from fedloom.versions.objects import Conflict, Entry

Policy = Literal["drop", "base", "mean"]
POLICIES: tuple[Policy, ...] = ("drop", "base", "mean")

_OPTIMIZER = "optimizer/"
_INPUTS = "inputs/"
_NOTES = "notes"


@dataclass(frozen=True, slots=True)
class Plan:
    """How to merge.

    weights: one a head. optimizer: what becomes of the optimizer's state. settled: path to a person's word, see
    `merge_settling`. replay: the sides are a commit, its parent and another: its change is done again, or undone, so
    statistics and notes of the data are the first side's.
    """

    weights: tuple[float, ...]
    rules: Rules = field(default_factory=Rules)
    optimizer: Policy = "drop"
    settled: Mapping[str, str] = field(default_factory=dict)
    replay: bool = False


@dataclass(slots=True)
class Merged:
    """What came out: entries by path, how each came about (unchanged ones too), and what is open."""

    entries: dict[str, Entry] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    conflicts: dict[str, Conflict] = field(default_factory=dict)


def merge_sides(plan: Plan, base: Side, heads: Sequence[Side], workspace: Workspace) -> Merged:
    """Merge heads that have `base` in common."""
    work = _Work(plan, base, heads, workspace)
    work.rename()  # (1)
    work.decide()  # (2)
    work.unite()  # (3)
    work.pool()  # (4)
    for path, decision in work.decided.items():  # (5)
        if path not in work.done:
            work.one(path, decision)
    work.optimizer()
    return work.merged


class _Work:
    """One merge under way."""

    def __init__(self, plan: Plan, base: Side, heads: Sequence[Side], workspace: Workspace) -> None:
        self.plan = plan
        self.sides = heads
        self.workspace = workspace
        self.base: Mapping[str, Entry] = _without_optimizer(base.entries)
        self.heads: Sequence[Mapping[str, Entry]] = [_without_optimizer(side.entries) for side in heads]
        self.old_optimizer = {path: entry for path, entry in base.entries.items() if path.startswith(_OPTIMIZER)}
        self.base_facts = base.facts
        self.decided: dict[str, Decision] = {}
        self.done: set[str] = set()
        self.merged = Merged()

    def rename(self) -> None:
        """Make renames of model tensors in all sides."""
        told = [_told(side.facts) for side in self.sides]
        found = align(_model(self.base), [_model(head) for head in self.heads], told)
        self.base = {**_model(self.base, inside=False), **found.base}
        self.heads = [
            {**_model(head, inside=False), **moved} for head, moved in zip(self.heads, found.heads, strict=True)
        ]
        for new in found.renamed.values():
            self.merged.outcomes[new] = "renamed"
        for old, clash in found.clashes.items():
            self._clash(old, clash)

    def decide(self) -> None:
        """Decide by ids."""
        self.decided = dict(decisions(self.base, self.heads, self.workspace.look))

    def unite(self) -> None:
        """Unite vocabularies that facts name, and align the tensors indexed by them."""
        indexed: dict[str, dict[str, int]] = {}
        for name, axis in self._axes().items():
            indexed.setdefault(axis["keys"], {})[MODEL + name] = axis["axis"]
        for keys, tensors in indexed.items():
            self._unite(keys, {path: axis for path, axis in tensors.items() if path in self.decided})

    def pool(self) -> None:
        """Pool statistics that several heads changed."""
        for group in groups(self.decided):
            members = [path for path in group.members.values() if path not in self.done]
            if len(members) == len(group.members) and self._differs(members) and not self._ruled(members):
                self._pool(group)

    def one(self, path: str, decision: Decision) -> None:
        """Decide one entry that belongs to nothing else."""
        base, heads = self.base.get(path), [head.get(path) for head in self.heads]
        if decision.settled:
            self._put(path, decision.entry(base, heads), _SETTLED[decision.outcome])
            return
        rule = self._rule(path)
        strategy = rule or self._otherwise(path)
        contest = Conflict(path, decision.outcome, base, tuple(heads))
        if strategy is not None and strategy.takes is not None:
            self._put(path, heads[strategy.takes], strategy.id.partition("/")[0])
        elif path == _NOTES and rule is None and not self.plan.replay and (notes := self._notes(heads)) is not None:
            self._put(path, self.workspace.add_json(notes), "united")
        elif path.startswith(_INPUTS) or (path == _NOTES and self.plan.replay):
            self._put(path, *self._input(base, heads))
        elif strategy is not None and decision.mergeable and _able(strategy, base, decision):
            merged = combined(self.workspace, strategy, contest, self.plan.weights, decision.changed, self.sides)
            self._put(path, merged, strategy.id.partition("/")[0])
        else:
            unable = {"reason": _why_not(strategy, decision)} if strategy and decision.mergeable else {}
            self._conflict(contest, {**self._stats(contest, decision), **unable})

    def optimizer(self) -> None:
        """Do with the optimizer's state as the policy says: it belongs to a model that is no more."""
        states = [_optimizer(side.entries) for side in self.sides]
        if self.plan.optimizer == "drop" or not any((self.old_optimizer, *states)):
            for path in {path for state in states for path in state}:
                self.merged.outcomes[path] = "dropped"
        elif self.plan.optimizer == "base":
            for path, entry in self.old_optimizer.items():
                self._put(path, entry, "base's")
        else:
            self._mean_state(states)

    # steps

    def _put(self, path: str, entry: Entry | None, outcome: str) -> None:
        self.done.add(path)
        if entry is not None:
            self.merged.entries[path] = entry
        if self.merged.outcomes.get(path) != "renamed" or outcome not in ("unchanged", "same", "taken"):
            self.merged.outcomes[path] = outcome

    def _conflict(self, contest: Conflict, stats: Mapping[str, Any]) -> None:
        """Leave an entry open, or settle it where a person has said how."""
        conflict = Conflict(contest.path, contest.problem, contest.base, contest.heads, stats)
        take = self.plan.settled.get(contest.path)
        if take is None:
            self._put(contest.path, self.workspace.add_conflict(conflict), "conflict")
            self.merged.conflicts[contest.path] = conflict
            return
        where, entry = settle(self.workspace, conflict, take, self.plan.weights, self.sides)
        self._put(contest.path, None, "resolved")
        self._put(where, entry, "resolved")

    def _clash(self, old: str, clash: RenameClash) -> None:
        contest = Conflict(old, "rename", clash.base, clash.heads)
        self._conflict(contest, {"names": list(clash.names)})

    def _axes(self) -> dict[str, dict[str, Any]]:
        """Collect what facts say about tensors with a row a word; where sides disagree, nothing is known."""
        told: dict[str, dict[str, Any]] = {}
        unsure = set()
        for side in (self.base_facts, *(side.facts for side in self.sides)):
            for name, axis in dict(side.get("axes") or {}).items():
                if told.setdefault(name, axis) != axis or not {"axis", "keys"} <= set(axis):
                    unsure.add(name)
        return {name: axis for name, axis in told.items() if name not in unsure}

    def _unite(self, keys: str, tensors: Mapping[str, int]) -> None:
        entries = [self.base.get(keys), *(head.get(keys) for head in self.heads)]
        lists = [_words(self.workspace.json(entry)) for entry in entries]
        start, words = lists[0], [found for found in lists[1:] if found is not None]
        if len(words) < len(self.heads) or (entries[0] is not None and start is None):
            return  # it is no vocabulary, or one head has none
        if len({tuple(found) for found in lists if found is not None}) < 2 or keys in self.done:
            return
        if all(self.decided[path].settled for path in (keys, *tensors)):
            return  # one head changed it, or all alike
        if any(path not in head for path in tensors for head in self.heads):
            return  # what is indexed is gone somewhere: that is decided first
        vocabulary = united(start, words)
        rows = {path: self._aligned(vocabulary, path, axis) for path, axis in tensors.items()}
        made = {path: array for path, array in rows.items() if array is not None}
        if len(made) < len(rows):  # words and rows only fit together as one side has them
            together = sorted({keys, *tensors})
            reason = f"rows were changed differently: give a strategy, or take one side of {' and '.join(together)}"
            for path in together:
                self._conflict(self._contest(path, "contested"), {"reason": reason})
            return
        self._put(keys, self.workspace.add_json(list(vocabulary.words)), "united")
        for path, array in made.items():
            self._put(path, self.workspace.add_tensor(array, self.heads[0][path]), "aligned")

    def _aligned(self, vocabulary: Any, path: str, axis: int) -> Tensor | None:
        strategy = self._rule(path) or self._otherwise(path)
        return aligned(
            vocabulary,
            self.workspace.tensor(self.base[path]) if path in self.base else None,
            [self.workspace.tensor(head[path]) for head in self.heads],
            self.plan.weights,
            strategy,
            extras(self.workspace, strategy or WeightedMean(), path, self.sides),
            axis=axis,
        )

    def _differs(self, members: Sequence[str]) -> bool:
        """Whether two heads or more changed a group, and not alike."""
        base = _ids(self.base, members)
        return len({ids for head in self.heads if (ids := _ids(head, members)) != base}) > 1

    def _pool(self, group: Group) -> None:
        members = list(group.members.values())
        if self.plan.replay and group.kind == "batch_norm":
            for path in members:
                self._put(path, self.heads[0].get(path), "first parent's")
            return
        if self.plan.replay or any(self.workspace.look(e) is None for e in self._versions(members)):
            return  # step 5 decides each on its own
        base = self._arrays(self.base, members)
        pooled = pool(group, base or None, [self._arrays(head, members) for head in self.heads])
        for path in members:
            if not isinstance(pooled, NoCounts):
                like = next((head[path] for head in self.heads if path in head), None)
                self._put(path, self.workspace.add_tensor(pooled[path], like), "pooled")
            elif not self.decided[path].settled:
                self._conflict(self._contest(path, "no_counts"), {"reason": pooled.reason})

    def _versions(self, paths: Iterable[str]) -> list[Entry]:
        return [side[path] for path in paths for side in (self.base, *self.heads) if path in side]

    def _arrays(self, side: Mapping[str, Entry], paths: Iterable[str]) -> dict[str, Tensor]:
        return {path: self.workspace.tensor(side[path]) for path in paths if path in side}

    def _contest(self, path: str, problem: str) -> Conflict:
        return Conflict(path, problem, self.base.get(path), tuple(head.get(path) for head in self.heads))

    def _ruled(self, paths: Sequence[str]) -> bool:
        takes = self.plan.rules.otherwise is not None and self.plan.rules.otherwise.takes is not None
        return takes or any(self._rule(path) for path in paths)

    def _rule(self, path: str) -> BranchStrategy | None:
        return next((rule.strategy for rule in self.plan.rules.rules if rule.fits(path)), None)

    def _otherwise(self, path: str) -> BranchStrategy | None:
        """The strategy where no rule fits: for the model; elsewhere only one that takes a side means anything."""
        strategy = self.plan.rules.otherwise
        return strategy if strategy and (path.startswith(MODEL) or strategy.takes is not None) else None

    def _stats(self, contest: Conflict, decision: Decision) -> Mapping[str, Any]:
        if not decision.mergeable:
            return {}
        arrays = [self.workspace.tensor(entry) for n in decision.changed if (entry := contest.heads[n]) is not None]
        return disagreement(self.workspace.tensor(contest.base) if contest.base else None, arrays)

    def _notes(self, heads: Sequence[Entry | None]) -> list[Any] | None:
        lists = [self.workspace.json(head) for head in heads if head is not None]
        if not all(isinstance(found, list) for found in lists):
            return None
        notes: list[Any] = []
        for note in (note for found in lists for note in found):
            if note not in notes:
                notes.append(note)
        return notes

    def _input(self, base: Entry | None, heads: Sequence[Entry | None]) -> tuple[Entry | None, str]:
        """Merge JSON objects by key; what is contested is the first parent's, for the parents hold the truth."""
        objects = [self.workspace.json(head) for head in heads]
        if self.plan.replay or not all(isinstance(found, dict) for found in objects):
            return heads[0], "first parent's"
        start = self.workspace.json(base)
        return self.workspace.add_json(_merged_object(start if isinstance(start, dict) else {}, objects)), "by key"

    def _mean_state(self, states: Sequence[Mapping[str, Entry]]) -> None:
        for path in sorted({path for state in states for path in state}):
            entries = [state.get(path) for state in states]
            specs = {self.workspace.look(entry) if entry else None for entry in entries}
            if len(specs) != 1 or None in specs:
                raise VersionsError(
                    f"the optimizer's state cannot be averaged: '{path}' is not alike in all branches. "
                    "Choose `--optimizer drop` or `--optimizer base`"
                )
            contest = Conflict(path, "contested", None, tuple(entries))
            everyone = range(len(entries))
            if len({entry.id for entry in entries if entry}) == 1:
                self._put(path, entries[0], "same")
            else:
                mean = combined(self.workspace, WeightedMean(), contest, self.plan.weights, everyone, self.sides)
                self._put(path, mean, "mean")


_SETTLED = {"unchanged": "unchanged", "take": "taken", "same": "same", "delete": "deleted"}


def _able(strategy: BranchStrategy, base: Entry | None, decision: Decision) -> bool:
    """Whether a strategy can merge as many versions as there are, with or without a base."""
    count = len(decision.changed)
    enough = strategy.least <= count <= (strategy.most or count)
    return enough and (base is not None or not strategy.needs_base)


def _why_not(strategy: BranchStrategy, decision: Decision) -> str:
    if strategy.needs_base and decision.outcome == "add_add":
        return f"{strategy.id} combines changes, and the base has no such tensor"
    return f"{strategy.id} cannot merge {len(decision.changed)} versions"


def _merged_object(base: Mapping[str, Any], heads: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge by key: a key that a head still has stays, for all heads went into the result."""
    merged = {}
    for key in sorted({key for head in heads for key in head}):
        values = [head[key] for head in heads if key in head]
        changed = [value for value in values if key not in base or value != base[key]]
        alike = all(value == changed[0] for value in changed)
        merged[key] = changed[0] if changed and alike else values[0]
    return merged


def _model(entries: Mapping[str, Entry], *, inside: bool = True) -> dict[str, Entry]:
    return {path: entry for path, entry in entries.items() if path.startswith(MODEL) is inside}


def _optimizer(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    return {path: entry for path, entry in entries.items() if path.startswith(_OPTIMIZER)}


def _without_optimizer(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    return {path: entry for path, entry in entries.items() if not path.startswith(_OPTIMIZER)}


def _told(facts: Mapping[str, Any]) -> dict[str, str]:
    """Read renames a commit tells: `renames`, old name to new, of model tensors."""
    return {MODEL + old: MODEL + new for old, new in dict(facts.get("renames") or {}).items()}


def _words(value: Any) -> list[str] | None:
    return value if isinstance(value, list) and all(isinstance(word, str) for word in value) else None


def _ids(side: Mapping[str, Entry], paths: Iterable[str]) -> tuple[str | None, ...]:
    return tuple(side[path].id if path in side else None for path in paths)
