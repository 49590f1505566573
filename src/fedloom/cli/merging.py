"""`fedloom merge`, `conflicts`, `resolve`, `cherry-pick`, `revert`: what came out, and what to type next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedloom.cli.opening import chosen, open_repository
from fedloom.cli.output import console, figure, print_json
from fedloom.cli.tables import print_table
from fedloom.errors import EXIT_CONFLICT, EXIT_OK, SpecError, VersionsError
from fedloom.local.measure import Measured, judge_candidate
from fedloom.pipeline.spec import FILE, read_spec
from fedloom.telemetry.metrics import worst
from fedloom.values import Digest, tensor_spec
from fedloom.versions import merge_landing
from fedloom.versions.conflicts import fits, open_conflicts
from fedloom.versions.history import is_ancestor
from fedloom.versions.merge import How, MergeOutcome, merge
from fedloom.versions.merge_reopening import settled_words
from fedloom.versions.merge_replay import cherry_pick, revert_commit
from fedloom.versions.objects import Conflict, Entry
from fedloom.versions.repository import Repository

_SHORT = 12
_NAMED = 4
_PLAIN = ("unchanged", "same", "taken", "deleted", "dropped")
"""Outcomes that need no attention; all others are shown with every name there is room for."""

Judge = Callable[[Digest, Sequence[Digest]], Measured | None]


@dataclass(frozen=True, slots=True)
class MergeWishes:
    """What was typed."""

    strategy: str | None
    rules: tuple[str, ...]
    weights: str
    optimizer: str
    allow_unrelated: bool
    measured: bool


@dataclass(frozen=True, slots=True)
class Replay:
    """What was typed."""

    verb: Literal["cherry-pick", "revert"]
    mainline: int | None
    rules: tuple[str, ...]
    measured: bool


def merge_branches(folder: Path, names: Sequence[str], wishes: MergeWishes, *, as_json: bool) -> int:
    """Merge branches into the current one, and move it where nothing is open and the gate lets it."""
    if not names:
        raise SpecError("name the branches to merge, or give --continue or --abort")
    repository = open_repository(folder)
    branch = repository.settings.read().branch
    ours = merge_landing.tip(repository, branch)
    how = How(
        wishes.strategy,
        (*wishes.rules, *_standing_rules(folder)),
        _weights(wishes.weights, (branch, *names)),
        wishes.optimizer,  # type: ignore[arg-type]  # merge says what is allowed
        wishes.allow_unrelated,
    )
    outcome = merge(repository, ours, [repository.resolve(name) for name in names], how, names=(branch, *names))
    return _landed(repository, folder, branch, outcome, as_json=as_json, measured=wishes.measured)


def replay(folder: Path, name: str, wishes: Replay, *, as_json: bool) -> int:
    """Do or undo one commit's change on the current branch."""
    repository = open_repository(folder)
    branch = repository.settings.read().branch
    verb = cherry_pick if wishes.verb == "cherry-pick" else revert_commit
    head = merge_landing.tip(repository, branch)
    commit = repository.resolve(name)
    outcome = verb(repository, head, commit, mainline=wishes.mainline, rules=wishes.rules)
    again = verb is cherry_pick and outcome.kind != "up-to-date" and is_ancestor(commit, head, repository.commit)
    if again and not as_json:
        console().print(f"{commit[:_SHORT]} is part of {branch} already: its change is done once more")
    return _landed(repository, folder, branch, outcome, as_json=as_json, measured=wishes.measured)


def continue_merge(folder: Path, names: Sequence[str], *, measured: bool, as_json: bool) -> int:
    """Move the current branch to the merge under way."""
    _require_no(names, "--continue")
    repository = open_repository(folder)
    branch = repository.settings.read().branch
    judge = _judge(repository, folder, branch, measured=measured, quiet=as_json)
    commit, verdict = merge_landing.conclude(repository, branch, judge)
    if as_json:
        print_json({"kind": "merged", "branch": branch, "commit": commit, "measured": _measured_json(verdict)})
    else:
        console().print(f"{branch} is at {commit[:_SHORT]}")
    return EXIT_OK


def abort_merge(folder: Path, names: Sequence[str], *, measured: bool, as_json: bool) -> int:  # noqa: ARG001  as above
    """Give up the merge under way."""
    _require_no(names, "--abort")
    repository = open_repository(folder)
    branch = repository.settings.read().branch
    commit = merge_landing.abort(repository, branch)
    if as_json:
        print_json({"kind": "aborted", "branch": branch, "commit": commit})
    else:
        console().print(f"merge {commit[:_SHORT]} is given up; {branch} stays where it was")
    return EXIT_OK


def print_conflicts(folder: Path, name: str | None, *, as_json: bool) -> int:
    """List open conflicts."""
    repository = open_repository(folder)
    branch = repository.settings.read().branch
    waiting = None if name else merge_landing.under_way(repository, branch)
    commit = waiting or chosen(repository, name)
    found = open_conflicts(repository, commit)
    if as_json:
        print_json({"commit": commit, "conflicts": _conflicts_json(repository, found)})
    elif not found:
        going_on = ": go on with `fedloom merge --continue`" if waiting else ""
        console().print(f"no conflicts in {commit[:_SHORT]}{going_on}")
    else:
        _print_conflicts(console(), repository, commit, found)
    return EXIT_CONFLICT if found else EXIT_OK


def resolve_conflicts(folder: Path, path: str, take: str, *, as_json: bool) -> int:
    """Settle conflicts of the merge under way."""
    repository = open_repository(folder)
    branch = repository.settings.read().branch
    before = open_conflicts(repository, merge_landing.require_under_way(repository, branch))
    commit = merge_landing.resolve(repository, branch, path, take)
    left = open_conflicts(repository, commit)
    settled = [name for name in before if name not in left]
    settled = settled or [name for name in settled_words(repository.commit(commit)) if fits(name, path)]
    if as_json:
        print_json({"commit": commit, "settled": settled, "open": list(left)})
        return EXIT_OK
    out = console()
    out.print(f"{', '.join(settled)}: {take}{_whose(repository, commit, take)}")
    if left:
        out.print(f"{len(left)} open: {_some(list(left))}")
    else:
        out.print("nothing is open any more. next: fedloom merge --continue")
    return EXIT_OK


# landing


def _landed(
    repository: Repository, folder: Path, branch: str, outcome: MergeOutcome, *, as_json: bool, measured: bool
) -> int:
    """Say what a merge came to, take it to its branch, and say what is to be done."""
    out = console()
    if not as_json:
        _print_outcome(out, repository, branch, outcome)
    judge = _judge(repository, folder, branch, measured=measured, quiet=as_json)
    verdict = merge_landing.land(repository, branch, outcome, judge)
    if as_json:
        print_json(_outcome_json(repository, branch, outcome, verdict))
    elif outcome.conflicts:
        _print_conflicts(out, repository, outcome.commit, outcome.conflicts)
    elif outcome.kind != "up-to-date":
        out.print(f"{branch} is at {outcome.commit[:_SHORT]}")
    return EXIT_CONFLICT if outcome.conflicts else EXIT_OK


def _standing_rules(folder: Path) -> tuple[str, ...]:
    """Read the rules the pipeline has for every merge; those that are typed come first."""
    return read_spec(folder / FILE)[0].merge.rules if (folder / FILE).is_file() else ()


def _judge(repository: Repository, folder: Path, branch: str, *, measured: bool, quiet: bool) -> Judge | None:
    """Give what measures a candidate before the branch moves, or says why it cannot; None where nobody wants it."""
    if not measured:
        return None
    if not (folder / FILE).is_file():
        return _unmeasured(quiet=quiet)
    judge, protected = judge_candidate(folder), f"heads/{branch}" in repository.settings.read().protected

    def judged(candidate: Digest, parents: Sequence[Digest]) -> Measured:
        found = judge(candidate, parents)
        if not quiet:
            _print_measured(console(), branch, found, protected=protected)
        return found

    return judged


def _unmeasured(*, quiet: bool) -> Judge:
    """Say of a candidate that nothing is known about it: a clone has no sites."""

    def judged(candidate: Digest, parents: Sequence[Digest]) -> None:  # noqa: ARG001  as a judge is called
        if not quiet:
            console().print(f"not measured: there is no {FILE} here")

    return judged


def _require_no(names: Sequence[str], option: str) -> None:
    if names:
        raise SpecError(f"{option} is about the merge under way: leave out {', '.join(names)}")


def _weights(text: str, names: Sequence[str]) -> list[float] | None:
    """Read `main=1,b=2`: one weight for each branch, this one too."""
    if not text:
        return None
    given = {}
    for part in text.split(","):
        name, _, weight = part.rpartition("=")
        try:
            given[name.strip()] = number = float(weight)
        except ValueError:
            raise SpecError(f"weight '{part.strip()}' must be NAME=NUMBER, such as {names[0]}=2") from None
        if not 0.0 < number < float("inf"):
            raise SpecError(f"weight '{part.strip()}' cannot be: a weight is a number above 0, such as {names[0]}=2")
    if given.keys() != set(names):
        raise SpecError(f"--weights must name each branch once: {', '.join(f'{name}=1' for name in names)}")
    return [given[name] for name in names]


# for a person


def _print_outcome(out: Console, repository: Repository, branch: str, outcome: MergeOutcome) -> None:
    commit = repository.commit(outcome.commit)
    if outcome.kind == "up-to-date":
        out.print(f"{branch} has all of it already")
        return
    if outcome.kind == "fast-forward":
        out.print(f"{branch} can go straight on to {outcome.commit[:_SHORT]}: {commit.message}")
        return
    out.print(commit.message)
    if not outcome.outcomes:
        out.print("it was begun elsewhere and is taken up here")
        return
    if commit.recipe is not None and commit.kind == "merge" and "replayed" not in commit.facts:
        total = sum(part.weight for part in commit.recipe.inputs)
        shares = [f"{part.name} {part.weight / total:.0%}" for part in commit.recipe.inputs]
        base = ", ".join(id_[:_SHORT] for id_ in outcome.bases) or "none"
        out.print(Text(f"base {base}; weights {', '.join(shares)}", style="dim"))
    print_table(out, _outcome_table(outcome.outcomes))


def _outcome_table(outcomes: Mapping[str, str]) -> Table:
    by_outcome: dict[str, list[str]] = {}
    for path, outcome in sorted(outcomes.items()):
        by_outcome.setdefault(outcome, []).append(path)
    plain = [name for name in _PLAIN if name in by_outcome]
    rest = sorted(name for name in by_outcome if name not in (*_PLAIN, "conflict"))
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("outcome", no_wrap=True)
    table.add_column("entries", justify="right")
    table.add_column("")
    for name in (*plain, *rest, *(["conflict"] if "conflict" in by_outcome else [])):
        paths = by_outcome[name]
        style = "red" if name == "conflict" else ""
        table.add_row(Text(name, style=style), str(len(paths)), "" if name == "unchanged" else _some(paths))
    return table


def _print_conflicts(out: Console, repository: Repository, commit: Digest, conflicts: Mapping[str, Conflict]) -> None:
    names = _head_names(repository, commit, conflicts)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("conflict", "problem", "base", *names):
        table.add_column(heading, no_wrap=heading == "conflict")
    for heading in ("cosine", "opposite", "change"):
        table.add_column(heading, justify="right")
    for path, conflict in conflicts.items():
        sides = [_side(repository, entry) for entry in (conflict.base, *conflict.heads)]
        table.add_row(Text(path, style="red"), conflict.problem, *sides, *_figures(conflict.stats))
    out.print()
    print_table(out, table, dispensable=("change", "opposite"))
    if told := _sides_told(repository, commit):
        out.print(told)
    for path, conflict in conflicts.items():
        if "reason" in conflict.stats:
            out.print(f"{path}: {conflict.stats['reason']}")
    sides_ = "ours|theirs" if len(names) == 2 else f"1..{len(names)}"
    example = next(iter(conflicts))
    out.print("\nnext:")
    out.print(f"  fedloom resolve '{example}' --take {sides_}|base|weighted_mean|…   (a glob settles several)")
    out.print("  fedloom merge --continue        or --abort")


def _head_names(repository: Repository, commit: Digest, conflicts: Mapping[str, Conflict]) -> list[str]:
    names = _owners(repository, commit)
    count = max(len(conflict.heads) for conflict in conflicts.values())
    if len(names) == count:
        return names
    return [f"head {n + 1}" for n in range(count)]


def _sides_told(repository: Repository, commit: Digest) -> str:
    """Say whose each side is: the first head's, which is not the current branch where another one contains that."""
    names, branch = _owners(repository, commit), repository.settings.read().branch
    if not names:
        return ""
    words = ("ours", "theirs") if len(names) == 2 else ("1 or ours", *(str(n + 1) for n in range(1, len(names))))
    told = ", ".join(f"{word} is {name}'s" for word, name in zip(words, names, strict=True))
    return f"sides: {told}" + ("" if branch in names else f"; {branch} has no side, for the others contain it")


def _owners(repository: Repository, commit: Digest) -> list[str]:
    """Name the heads of a merge in order; those of a replay are the current branch and a commit."""
    recipe = repository.commit(commit).recipe
    replayed = {"onto": repository.settings.read().branch, "picked": "the picked commit", "before": "its parent"}
    is_replay = recipe is not None and recipe.settings.get("replay")
    return [replayed.get(part.name, part.name) if is_replay else part.name for part in recipe.inputs] if recipe else []


def _whose(repository: Repository, commit: Digest, take: str) -> str:
    """Say which branch a word for a side means."""
    names, words = _owners(repository, commit), {"ours": 1, "theirs": 2}
    number = int(take) if take.isdecimal() else words.get(take, 0)
    return f", which is {names[number - 1]}'s" if 0 < number <= len(names) else ""


def _side(repository: Repository, entry: Entry | None) -> str:
    """Describe what one side has: dtype and shape of a tensor."""
    if entry is None:
        return "–"
    if entry.kind != "tensor" or entry.keep != "stored":
        return entry.kind if entry.keep == "stored" else entry.keep
    try:
        spec = tensor_spec("", repository.tensor(entry.id))
    except VersionsError:
        return entry.id[:8]
    return f"{spec.dtype} {list(spec.shape)}"


def _figures(stats: Mapping[str, Any]) -> list[str]:
    """Write cosine of the changes, share of opposite signs, and the changes' size beside the base's."""
    norms = [figure(norm) for norm in stats.get("relative_norms", ())]
    opposite = stats.get("opposite_signs")
    return [
        figure(stats["cosine"]) if stats.get("cosine") is not None else "",
        f"{opposite:.0%}" if opposite is not None else "",
        " ".join(norms[:_NAMED]),
    ]


def _print_measured(out: Console, branch: str, found: Measured, *, protected: bool) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("measured")
    for heading in (found.metric, "worst site", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for id_, evaluation in found.evaluations.items():
        lowest = worst(evaluation.sites, found.metric)
        name = "candidate" if id_ == found.candidate else "parent"
        low, where = (figure(lowest[1]), lowest[0]) if lowest else ("–", "")
        table.add_row(f"{name} {id_[:_SHORT]}", figure(evaluation.pooled[found.metric]), low, where)
    out.print()
    print_table(out, table)
    for rule in found.rules:
        value = rule["value"] if isinstance(rule["value"], str) else figure(rule["value"])
        out.print(f"  {'holds ' if rule['holds'] else 'BROKEN'} {rule['rule']} (it is {value})")
    if not found.passed:
        waits = "stays, and the merge waits: `fedloom merge --continue` measures it again, `--abort` drops it"
        out.print(f"{branch} {waits if protected else 'is not protected, so it moves all the same'}")


def _some(paths: Sequence[str]) -> str:
    more = len(paths) - _NAMED
    return ", ".join(paths[:_NAMED]) + (f" and {more} more" if more > 0 else "")


# for machines


def _outcome_json(
    repository: Repository, branch: str, outcome: MergeOutcome, verdict: Measured | None
) -> dict[str, Any]:
    return {
        "kind": outcome.kind,
        "branch": branch,
        "commit": outcome.commit,
        "bases": list(outcome.bases),
        "outcomes": dict(outcome.outcomes),
        "conflicts": _conflicts_json(repository, outcome.conflicts),
        "measured": _measured_json(verdict),
    }


def _conflicts_json(repository: Repository, conflicts: Mapping[str, Conflict]) -> list[dict[str, Any]]:
    return [
        {
            "path": path,
            "problem": conflict.problem,
            "base": _entry_json(repository, conflict.base),
            "heads": [_entry_json(repository, entry) for entry in conflict.heads],
            "stats": dict(conflict.stats),
        }
        for path, conflict in conflicts.items()
    ]


def _entry_json(repository: Repository, entry: Entry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    return {"kind": entry.kind, "id": entry.id, "keep": entry.keep, "is": _side(repository, entry)}


def _measured_json(found: Measured | None) -> dict[str, Any] | None:
    if found is None:
        return None
    by_commit = {id_: evaluation.as_json() for id_, evaluation in found.evaluations.items()}
    return {"metric": found.metric, "passed": found.passed, "rules": [dict(r) for r in found.rules], "at": by_commit}
