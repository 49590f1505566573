"""Branches, tags, the current branch, and which refs are protected.

Rules: a branch is the ref `heads/NAME`, a tag is `tags/NAME` and never moves. Nothing that names commits which no
other ref has is deleted without force, and what is deleted stays in the reflog.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from fedloom.errors import ConflictError, NotFoundError, VersionsError, nearest
from fedloom.values import Digest
from fedloom.versions.content import Content
from fedloom.versions.history import ancestors, is_ancestor
from fedloom.versions.merge_landing import require_none_under_way
from fedloom.versions.refs import is_ref_name
from fedloom.versions.revisions import HEAD
from fedloom.versions.settings import Settings

HEADS, TAGS = "heads/", "tags/"
_SPACES = ("heads/", "tags/", "runs/", "remotes/", "attestations/", "merging/")
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Branch:
    """One branch: where it points, and whether it is the current one or protected."""

    name: str
    tip: Digest
    current: bool
    protected: bool


def current(content: Content) -> str:
    """Name the branch that `run`, `merge` and `revert` move; it need not have a commit yet."""
    return content.settings.read().branch


def branches(content: Content) -> list[Branch]:
    """List all branches, sorted by name."""
    settings = content.settings.read()
    return [
        Branch(name, tip, name == settings.branch, f"{HEADS}{name}" in settings.protected)
        for name, tip in _targets(content, HEADS)
    ]


def create(content: Content, name: str, start: str = HEAD) -> Digest:
    """Make a branch at a commit; raises ConflictError when there is one of that name."""
    _require_name(name, "branch")
    return _create(content, HEADS, name, start)


def delete(content: Content, name: str, *, force: bool = False) -> Digest:
    """Delete a branch and give where it pointed; refuses the current one, a protected one, and unmerged work.

    Work is unmerged when no other branch, tag or remote branch has it; `force` deletes it all the same.
    """
    settings, ref = content.settings.read(), f"{HEADS}{name}"
    tip = _tip(content, name)
    if name == settings.branch:
        raise ConflictError(f"'{name}' is the current branch: `fedloom switch` to another one first")
    if ref in settings.protected:
        raise ConflictError(f"'{name}' is protected: `fedloom protect --remove {name}` first")
    require_none_under_way(content, name)
    if not force and not _kept_elsewhere(content, ref, tip):
        raise ConflictError(f"no other branch or tag has the commits of '{name}': merge it, or delete it with --force")
    content.refs.compare_and_set(ref, tip, None, "deleted")
    return tip


def switch(content: Content, name: str) -> Digest:
    """Make an existing branch the current one; gives its tip."""
    tip = _tip(content, name)
    content.settings.change(lambda before: replace(before, branch=name))
    return tip


def switch_to_new(content: Content, name: str, start: str = HEAD) -> Digest | None:
    """Make a branch and switch to it; before the first commit of a repository it has none (None) until `run` ends."""
    _require_name(name, "branch")
    unborn = start == HEAD and content.refs.get(f"{HEADS}{current(content)}") is None
    tip = None if unborn else _create(content, HEADS, name, start)
    content.settings.change(lambda before: replace(before, branch=name))
    return tip


def tags(content: Content) -> dict[str, Digest]:
    """List all tags by name, sorted."""
    return dict(_targets(content, TAGS))


def tag(content: Content, name: str, start: str = HEAD) -> Digest:
    """Name a commit for good; raises ConflictError when the name is taken, for a tag never moves."""
    _require_name(name, "tag")
    return _create(content, TAGS, name, start)


def delete_tag(content: Content, name: str) -> Digest:
    """Delete a tag and give what it named."""
    ref = f"{TAGS}{name}"
    target = content.refs.get(ref) if is_ref_name(ref) else None
    if target is None:
        raise NotFoundError(f"there is no tag '{name}': {_choices(name, tags(content))}")
    if ref in content.settings.read().protected:
        raise ConflictError(f"tag '{name}' is protected: `fedloom protect --remove tags/{name}` first")
    content.refs.compare_and_set(ref, target, None, "deleted")
    return target


def protect(content: Content, name: str) -> str:
    """Protect a branch or a tag and give its full name; it must be there, or be the current branch."""
    ref = _ref(content, name)
    content.settings.change(lambda before: replace(before, protected=tuple(sorted({*before.protected, ref}))))
    return ref


def unprotect(content: Content, name: str) -> str:
    """Take the protection from a ref and give its full name; raises NotFoundError when it has none."""

    def edit(before: Settings) -> Settings:
        if ref not in before.protected:
            raise NotFoundError(f"'{name}' is not protected; protected: {', '.join(before.protected) or 'nothing'}")
        return replace(before, protected=tuple(other for other in before.protected if other != ref))

    known = content.settings.read().protected
    ref = next((full for full in (name, f"{HEADS}{name}", f"{TAGS}{name}") if full in known), name)
    content.settings.change(edit)
    return ref


def _create(content: Content, space: str, name: str, start: str) -> Digest:
    content.hold()  # what is found from now on stays
    target, ref = content.resolve(start), f"{space}{name}"
    noun = "branch" if space == HEADS else "tag"
    todo = f"`fedloom switch {name}` goes to it" if space == HEADS else "a tag never moves, so choose another name"
    taken = ConflictError(f"there is a {noun} '{name}' already: {todo}")
    if content.refs.get(ref) is not None:
        raise taken
    try:
        content.refs.compare_and_set(ref, None, target, f"made at {start}")
    except ConflictError:
        raise taken from None
    return target


def _tip(content: Content, name: str) -> Digest:
    ref = f"{HEADS}{name}"
    if is_ref_name(ref) and (tip := content.refs.get(ref)):
        return tip
    known = [found for found, _ in _targets(content, HEADS)]
    fetched = [found for found in content.refs.names("remotes/") if found.endswith(f"/{ref}")]
    if fetched:
        remote = fetched[0].split("/")[1]
        raise NotFoundError(
            f"there is no branch '{name}' here: make it with `fedloom switch -c {name} {remote}/{name}`"
        )
    raise NotFoundError(f"there is no branch '{name}': {_choices(name, known)}; `fedloom switch -c {name}` makes one")


def _kept_elsewhere(content: Content, ref: str, tip: Digest) -> bool:
    """Whether another branch, tag or remote branch reaches a commit; near ones are looked at first."""
    names = (name for space in (HEADS, TAGS, "remotes/") for name in content.refs.names(space) if name != ref)
    others = {target for name in names if (target := content.refs.get(name))}
    return any(id_ == tip for id_, _ in ancestors(sorted(others), content.commit))


def _ref(content: Content, name: str) -> str:
    """Give the full name of a branch or tag that is there, or of the current branch."""
    for ref in (name, f"{HEADS}{name}", f"{TAGS}{name}"):
        if not is_ref_name(ref) or not ref.startswith((HEADS, TAGS)):
            continue
        if content.refs.get(ref) or ref == f"{HEADS}{current(content)}":
            return ref
    known = [ref for space in (HEADS, TAGS) for ref in content.refs.names(space)]
    raise NotFoundError(f"there is no branch or tag '{name}' to protect: {_choices(name, known)}")


def _targets(content: Content, space: str) -> Iterator[tuple[str, Digest]]:
    for ref in content.refs.names(space):
        if target := content.refs.get(ref):
            yield ref.removeprefix(space), target


def _require_name(name: str, noun: str) -> None:
    if not is_ref_name(name):
        allowed = "lower-case letters, digits, '.', '_', '-' and '/', with no sign at the start of a part"
        raise VersionsError(f"'{name}' is no name for a {noun}: use {allowed}")
    if name.startswith(_SPACES) or _ID.fullmatch(name):
        raise VersionsError(f"'{name}' would be mistaken for something else: choose another name for the {noun}")


def _choices(name: str, known: Iterable[str]) -> str:
    names = list(known)
    return nearest(name, names) if names else "there is none yet"


def set_aside(content: Content, ref: str, new: Digest) -> str | None:
    """Keep what a ref points to under a name of its own when it moves to where that is not; gives the name.

    None where nothing would be lost: the new commit descends from it, or another branch, tag or run holds it.
    """
    old = content.refs.get(ref)
    if old is None or is_ancestor(old, new, content.commit):
        return None
    others = (name for space in ("heads/", "tags/", "runs/") for name in content.refs.names(space) if name != ref)
    if holder := next((name for name in others if content.refs.get(name) == old), None):
        return holder
    place = f"replaced/{ref.removeprefix('heads/')}"
    number = 1 + max((int(name.rpartition("/")[2]) for name in content.refs.names(f"{place}/")), default=0)
    content.refs.compare_and_set(f"{place}/{number}", None, old, f"before {ref} moved to {new[:12]}")
    return f"{place}/{number}"
