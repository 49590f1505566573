"""Settling what a merge left open: a conflict and a person's word for it become an entry.

Words: `ours` (the first head), `theirs` (the second of two), a head's number (from 1), `base`, or a branch strategy
such as `weighted_mean` or `ties:density=0.2`. The conflict holds all that is needed, so it can be settled anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fedloom.errors import SpecError, VersionsError
from fedloom.versions.merge_sides import Side
from fedloom.versions.merge_workspace import Workspace
from fedloom.versions.merging.branch import BranchStrategy, Extras
from fedloom.versions.merging.catalog import BRANCH_STRATEGIES
from fedloom.versions.merging.rules import MODEL, parse_strategy
from fedloom.versions.objects import Conflict, Entry

WORDS = ("ours", "theirs", "base")


class Settled(NamedTuple):
    """Where the entry goes (a rename may take it elsewhere), and what it is; None: it is deleted."""

    path: str
    entry: Entry | None


def settle(
    workspace: Workspace, conflict: Conflict, take: str, weights: Sequence[float], sides: Sequence[Side] = ()
) -> Settled:
    """Decide a conflict by a word; raises SpecError for one that means nothing here, VersionsError as strategies do."""
    number = _head(take, len(conflict.heads), conflict.path)
    if number is not None:
        return Settled(_place(conflict, number), conflict.heads[number])
    if take == "base":
        return Settled(conflict.path, conflict.base)
    strategy = parse_strategy(take)
    heads = [n for n, entry in enumerate(conflict.heads) if entry is not None and entry != conflict.base]
    arrays = [conflict.heads[n] for n in heads]
    odd = [entry for entry in (*arrays, conflict.base) if entry is not None and workspace.look(entry) is None]
    if odd or len(heads) < 2 or conflict.problem in ("delete_modify", "rename"):
        raise VersionsError(f"'{conflict.path}' cannot be merged by {take}: take one side, {_sides(conflict)}")
    return Settled(conflict.path, combined(workspace, strategy, conflict, weights, heads, sides))


def combined(
    workspace: Workspace,
    strategy: BranchStrategy,
    contest: Conflict,
    weights: Sequence[float],
    heads: Sequence[int],
    sides: Sequence[Side],
) -> Entry:
    """Merge one contested tensor of the heads that changed it, by a strategy."""
    entries = [entry for n in heads if (entry := contest.heads[n]) is not None]
    merged = strategy.merge(
        workspace.tensor(contest.base) if contest.base else None,
        [workspace.tensor(entry) for entry in entries],
        [weights[n] for n in heads],
        extras(workspace, strategy, contest.path, [sides[n] for n in heads] if sides else []),
    )
    return workspace.add_tensor(merged, entries[0])


def extras(workspace: Workspace, strategy: BranchStrategy, path: str, sides: Sequence[Side]) -> Extras:
    """Look up what a strategy needs beside the tensors: `statistics/fisher/NAME`, `statistics/gram/NAME`."""
    name = path.removeprefix(MODEL)
    found: Mapping[str, list[Entry | None]] = {
        kind: [side.statistics.get(f"{kind}/{name}") for side in sides] for kind in strategy.needs
    }
    arrays = {kind: [workspace.tensor(one) if one else None for one in entries] for kind, entries in found.items()}
    return Extras(path, arrays.get("fisher", ()), arrays.get("gram", ()))


def _head(take: str, count: int, path: str) -> int | None:
    """Read a word that names a head."""
    if take == "theirs" and count != 2:
        raise SpecError(f"'{path}' has {count} heads, so 'theirs' is none of them: take a number from 1 to {count}")
    if take in ("ours", "theirs"):
        return ("ours", "theirs").index(take)
    if not take.isdecimal():
        return None
    if not 1 <= int(take) <= count:
        raise SpecError(f"'{path}' has {count} heads: take a number from 1 to {count}, not {take}")
    return int(take) - 1


def _place(conflict: Conflict, number: int) -> str:
    names = conflict.stats.get("names")
    return str(names[number]) if names and names[number] else conflict.path


def _sides(conflict: Conflict) -> str:
    numbers = [str(n + 1) for n in range(len(conflict.heads))]
    return ", ".join([*(("ours", "theirs") if len(numbers) == 2 else numbers), "base"])


def allowed() -> str:
    """List the words a conflict can be settled with."""
    return ", ".join([*WORDS, "a head's number", *(name for name in BRANCH_STRATEGIES if name not in WORDS)])
