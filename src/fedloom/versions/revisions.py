"""How a person names a commit: refs long and short, first digits of an id, and steps from there to parents.

    HEAD             the tip of the current branch
    main             a branch; v1: a tag; origin/main: a branch of a remote as last fetched
    origin/merging/main  a merge that is under way there
    heads/main       any ref by its full name, also tags/v1, runs/3, remotes/origin/heads/main
    3fa91c           a commit by its id, or by its first digits (four or more)
    REF~2            two back along first parents;  REF^2: the second parent;  REF~3^2~1: and so on

Rules: a full ref name or a full id means itself; a short name that fits several things which are not the same commit is
an error that lists them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Protocol

from fedloom.errors import NotFoundError, VersionsError
from fedloom.values import Digest
from fedloom.versions.objects import Commit
from fedloom.versions.refs import Refs, is_ref_name
from fedloom.versions.settings import SettingsFile

HEAD = "HEAD"
_SPACES = ("heads/", "tags/", "runs/", "remotes/")
"""What is listed when a name fits nothing."""
_STEPS = re.compile(r"(?P<base>.*?)(?P<steps>(?:[~^]\d*)*)", re.DOTALL)
_STEP = re.compile(r"([~^])(\d*)")
_DIGITS = re.compile(r"[0-9a-f]{4,64}")
_ID_LENGTH = 64
_NAMED = 20


class Source(Protocol):
    """Where names are looked up."""

    refs: Refs
    settings: SettingsFile

    def commit(self, id_: Digest) -> Commit:
        """Read a commit."""
        ...

    def commits_from(self, digits: str) -> Sequence[Digest]:
        """List the commits whose ids begin with these digits."""
        ...


def resolve(source: Source, name: str) -> Digest:
    """Find the one commit that is meant; raises NotFoundError, or VersionsError when several could be."""
    found = _STEPS.fullmatch(name)
    assert found is not None, "every text has a base and no or some steps"
    at = _base(source, found["base"])
    for sign, number in _STEP.findall(found["steps"]):
        count = int(number) if number else 1
        at = _back(source, at, count, name) if sign == "~" else _parent(source, at, count, name)
    return at


def short_name(ref: str) -> str:
    """Write a ref as a person would: `main` for `heads/main`, `origin/main` for `remotes/origin/heads/main`."""
    space, _, name = ref.partition("/")
    if space == "remotes":
        remote, _, rest = name.partition("/")
        return f"{remote}/{short_name(rest)}"
    return name if space in ("heads", "tags") and name else ref


def _base(source: Source, name: str) -> Digest:
    if name == HEAD:
        branch = source.settings.read().branch
        if tip := source.refs.get(f"heads/{branch}"):
            return tip
        raise NotFoundError(f"the current branch '{branch}' has no commit yet: name a commit, such as runs/1")
    if is_ref_name(name) and not name.startswith("attestations/") and (target := source.refs.get(name)):
        return target
    fits = dict(_short(source, name))
    if _DIGITS.fullmatch(name):
        fits |= {id_: id_ for id_ in source.commits_from(name)}
    if len(set(fits.values())) == 1:
        return next(iter(fits.values()))
    raise _ambiguous(name, list(fits)) if fits else _unknown(source, name)


def _short(source: Source, name: str) -> Iterator[tuple[str, Digest]]:
    if not is_ref_name(name):
        return
    remote, _, rest = name.partition("/")
    theirs = [f"remotes/{remote}/heads/{rest}", *([f"remotes/{remote}/{rest}"] if rest.startswith("merging/") else [])]
    for ref in (f"heads/{name}", f"tags/{name}", *(theirs if rest else [])):
        if target := source.refs.get(ref):
            yield ref, target


def _ambiguous(name: str, fits: Sequence[str]) -> VersionsError:
    if all(len(one) == _ID_LENGTH for one in fits):
        told = ", ".join(one[: len(name) + 8] for one in fits[:5])
        return VersionsError(f"'{name}' fits {len(fits)} commits: give more digits ({told})")
    told = ", ".join(f"commit {one[:12]}" if len(one) == _ID_LENGTH else one for one in fits)
    return VersionsError(f"'{name}' is ambiguous, it fits {told}: use the full name")


def _unknown(source: Source, name: str) -> NotFoundError:
    if _DIGITS.fullmatch(name):
        return NotFoundError(f"no commit starts with '{name}': see `fedloom log`")
    refs = [ref for space in _SPACES for ref in source.refs.names(space)]
    more = f" and {len(refs) - _NAMED} more" if len(refs) > _NAMED else ""
    return NotFoundError(f"no commit or ref '{name}'. Refs: {', '.join(refs[:_NAMED]) or 'none yet'}{more}")


def _back(source: Source, at: Digest, count: int, name: str) -> Digest:
    for done in range(count):
        parents = source.commit(at).parents
        if not parents:
            raise NotFoundError(f"'{name}' does not exist: the history ends {done} step{'' if done == 1 else 's'} back")
        at = parents[0]
    return at


def _parent(source: Source, at: Digest, number: int, name: str) -> Digest:
    parents = (at, *source.commit(at).parents)
    if number >= len(parents):
        count = len(parents) - 1
        raise NotFoundError(f"'{name}' does not exist: {at[:12]} has {count} parent{'' if count == 1 else 's'}")
    return parents[number]
