"""History, pure: walks over the graph of commits, and what heads have in common.

Rules: commits hold no clock times, so all order is topological, and answers are git's: a commit is its own ancestor,
and a best common ancestor is one that no other common ancestor descends from. `read` gives a commit by id; what it
raises reaches the caller.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from fedloom.values import Digest
from fedloom.versions.objects import Commit

Read: TypeAlias = Callable[[Digest], Commit]
"""How a walk gets at commits."""


def first_parents(tip: Digest, read: Read) -> Iterator[tuple[Digest, Commit]]:
    """Walk from `tip` along first parents: for a run, its rounds from the last to the first."""
    at: Digest | None = tip
    while at:
        commit = read(at)
        yield at, commit
        at = commit.parents[0] if commit.parents else None


def ancestors(tips: Iterable[Digest], read: Read, without: Iterable[Digest] = ()) -> Iterator[tuple[Digest, Commit]]:
    """Walk all commits that `tips` reach, they themselves too, each once and near ones first.

    without: commits at which the walk stops; they are left out, and so is what is only reached through them.
    """
    seen = set(without)
    queue = deque(tip for tip in dict.fromkeys(tips) if tip not in seen)
    seen.update(queue)
    while queue:
        id_ = queue.popleft()
        commit = read(id_)
        yield id_, commit
        fresh = [parent for parent in dict.fromkeys(commit.parents) if parent not in seen]
        seen.update(fresh)
        queue.extend(fresh)


def is_ancestor(old: Digest, new: Digest, read: Read) -> bool:
    """Whether `new` descends from `old` or is it: whether a ref may move from one to the other without loss."""
    return any(id_ == old for id_, _ in ancestors([new], read))


def between(old: Digest | None, new: Digest, read: Read) -> list[tuple[Digest, Commit]]:
    """List what `new` reaches and `old` does not, children before parents: git's `old..new`; None reaches nothing."""
    known = {id_ for id_, _ in ancestors([old] if old else [], read)}
    return list(ordered([new], read, known))


def ordered(tips: Iterable[Digest], read: Read, without: Iterable[Digest] = ()) -> Iterator[tuple[Digest, Commit]]:
    """Walk what `tips` reach with every child before its parents, and lines of history kept together.

    A branch that was merged comes right after its merge, then the line it was merged into, as a graph is drawn.
    """
    tips = list(dict.fromkeys(tips))
    commits = dict(ancestors(tips, read, without))
    waiting = Counter(parent for commit in commits.values() for parent in dict.fromkeys(commit.parents))
    stack = [tip for tip in reversed(tips) if tip in commits and not waiting[tip]]
    while stack:
        id_ = stack.pop()
        commit = commits[id_]
        yield id_, commit
        for parent in dict.fromkeys(commit.parents):
            waiting[parent] -= 1
            if parent in commits and not waiting[parent]:
                stack.append(parent)


def merge_bases(heads: Iterable[Digest], read: Read) -> list[Digest]:
    """Find the best common ancestors of all heads, sorted: `git merge-base --all`, with `--octopus` for many.

    There may be several (criss-cross merges) or none (histories that share no commit). Each commit carries a bit per
    head that reaches it, and one more below a common commit; the walk ends when only such stale commits are left, so
    of two branches that parted lately little is read.
    """
    tips = list(dict.fromkeys(heads))
    common = (1 << len(tips)) - 1
    stale = common + 1
    flags = {tip: 1 << number for number, tip in enumerate(tips)}
    parents: dict[Digest, tuple[Digest, ...]] = {}
    queue, queued, fresh = deque(tips), set(tips), len(tips)
    while fresh:
        id_ = queue.popleft()
        queued.remove(id_)
        fresh -= flags[id_] < stale
        if id_ not in parents:
            parents[id_] = read(id_).parents
        passed = flags[id_] | stale if flags[id_] == common else flags[id_]
        for parent in dict.fromkeys(parents[id_]):
            before = flags.get(parent, 0)
            flags[parent] = before | passed
            if parent in queued:
                fresh -= before < stale <= flags[parent]
            elif flags[parent] != before:  # what was read already first, or news never catch up with the front
                (queue.appendleft if parent in parents else queue.append)(parent)
                queued.add(parent)
                fresh += flags[parent] < stale
    return independent((id_ for id_, found in flags.items() if found == common), read)


def independent(heads: Iterable[Digest], read: Read) -> list[Digest]:
    """Keep those heads that no other one descends from, sorted: `git merge-base --independent`."""
    left = set(heads)
    if len(left) < 2:
        return sorted(left)
    parents = [parent for head in left for parent in read(head).parents]
    for id_, _ in ancestors(parents, read):
        left.discard(id_)
        if len(left) == 1:
            break
    return sorted(left)
