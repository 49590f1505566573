"""The verbs between repositories: clone, fetch, pull and push, over any remote.

Rules: what a branch was at a remote is kept as `remotes/<name>/heads/<branch>`. Objects go first, then statements
and tags, and branches last, each by compare-and-set. Branches go forward only; tags never move.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from fedloom.errors import ConflictError, NotFoundError, SpecError
from fedloom.values import Digest
from fedloom.versions import objects, protection
from fedloom.versions.content import Content
from fedloom.versions.history import ancestors, is_ancestor
from fedloom.versions.merging.rules import MODEL
from fedloom.versions.remotes import statements
from fedloom.versions.remotes.addresses import ORIGIN, add, connected, kept_form
from fedloom.versions.remotes.guard import HEADS, MERGING, TAGS
from fedloom.versions.remotes.receiving import receive
from fedloom.versions.remotes.remote import Remote, refs_below
from fedloom.versions.remotes.sending import send
from fedloom.versions.remotes.tracking import set_ref, tracking
from fedloom.versions.remotes.transfer import Moved, Options, Watch
from fedloom.versions.store import Store

EVERYTHING = "*"
"""The glob that ends a choice of tensors."""

_NAMED = 4


@dataclass(frozen=True, slots=True)
class RefMove:
    """A ref that a transfer moved, here or there; `old` is None where it is new."""

    name: str
    old: Digest | None
    new: Digest


@dataclass(frozen=True, slots=True)
class Synced:
    """What a verb did: objects and bytes, the refs that moved, and what a person should know besides."""

    moved: Moved
    refs: tuple[RefMove, ...] = ()
    notes: tuple[str, ...] = ()


def quietly(done: int, total: int, bytes_moved: int) -> None:
    """Watch a transfer and say nothing."""


def clone(
    content: Content,
    url: str,
    *,
    only: Sequence[str] = (),
    options: Mapping[str, str] | None = None,
    watch: Watch = quietly,
) -> Synced:
    """Fill a new repository from another one, its `origin`; a clone that was cut off goes on where it stopped.

    Raises ConflictError where the repository has branches or another origin already.
    """
    origin = content.settings.read().remotes.get(ORIGIN)
    if content.refs.names(HEADS) or origin not in (None, kept_form(url, options or {})):
        raise ConflictError("another history is here already: use `fedloom remote add` and `fedloom fetch`")
    if origin is None:
        add(content, ORIGIN, url, options)
    synced = fetch(content, ORIGIN, only=only, watch=watch)
    here = tracking(ORIGIN, HEADS)
    found = {ref.removeprefix(here): target for ref in content.refs.names(here) if (target := content.refs.get(ref))}
    if not found:
        return synced
    chosen = content.settings.read().branch
    branch = chosen if chosen in found else min(found)
    content.settings.change(lambda before: replace(before, branch=branch))
    content.refs.compare_and_set(HEADS + branch, None, found[branch], "clone")
    return replace(synced, refs=(*synced.refs, RefMove(HEADS + branch, None, found[branch])))


def require_reachable(url: str, options: Mapping[str, str] | None = None) -> None:
    """Raise an error where a repository cannot be opened, before anything is made for its clone."""
    trial = Content(Store.in_memory())
    add(trial, ORIGIN, url, options)
    with connected(trial, ORIGIN) as remote:
        refs_below(remote, HEADS)


def fetch(content: Content, name: str, *, only: Sequence[str] = (), watch: Watch = quietly) -> Synced:
    """Bring what a remote's branches reach, and remember where they are; moves no branch of this side.

    only: globs of tensor names; what was chosen before is brought as well, and `*` brings everything again.
    Raises ConflictError where a tag is elsewhere here; everything else has been brought then.
    """
    with connected(content, name) as remote:
        theirs = _branches(remote)
        tags = refs_below(remote, TAGS)
        options = Options(_chosen(content, only), again=EVERYTHING in only, name=name)
        if not content.settings.read().only:  # what is left out from now on must be known before anything is
            content.settings.change(lambda before: replace(before, only=options.only))
        moved = receive(content, remote, theirs.values(), _known_commits(content), options, watch)
        content.settings.change(lambda before: replace(before, only=options.only))
        for target in set(theirs.values()):
            content.commit(target)  # raises where a branch is no commit
        stated = statements.bring(content, remote, name)
        here = {ref: target for ref, target in tags.items() if _is_commit(content, target)}
        new_tags = [ref for ref in here if content.refs.get(ref) is None]
        for ref in new_tags:
            set_ref(content, ref, here[ref], f"fetch {name}")
        moves = [*(RefMove(ref, None, here[ref]) for ref in new_tags), *_track(content, name, theirs)]
        moved = replace(moved, objects=moved.objects + stated.objects, bytes=remote.traffic.received)
    if clashes := [ref for ref, target in here.items() if content.refs.get(ref) != target]:
        todo = "delete yours with `fedloom tag --delete` and fetch again, or keep it"
        raise ConflictError(f"{', '.join(clashes)} are elsewhere here than at {name}: {todo}")
    notes = () if theirs else (f"{name} has no branches yet",)
    return Synced(moved, tuple(moves), (*notes, *_unfit(content, only, theirs.values()), *stated.notes))


def pull(content: Content, name: str, *, only: Sequence[str] = (), watch: Watch = quietly) -> Synced:
    """Fetch, then move the current branch forward to where it is at the remote.

    Raises ConflictError where both sides have commits that the other has not.
    """
    synced = fetch(content, name, only=only, watch=watch)
    branch = content.settings.read().branch
    ours, theirs = content.refs.get(HEADS + branch), content.refs.get(tracking(name, HEADS + branch))
    if theirs is None:
        raise NotFoundError(f"{name} has no branch '{branch}': switch to one that it has, or push yours")
    if ours == theirs:
        return synced
    if ours is not None and is_ancestor(theirs, ours, content.commit):
        return replace(synced, notes=(*synced.notes, f"{branch} is ahead of {name}: `fedloom push {name}` sends it"))
    if ours is not None and not is_ancestor(ours, theirs, content.commit):
        raise ConflictError(f"{branch} here and at {name} have gone apart: merge with `fedloom merge {name}/{branch}`")
    protection.move(content, HEADS + branch, ours, theirs, f"pull {name}")
    return replace(synced, refs=(*synced.refs, RefMove(HEADS + branch, ours, theirs)))


@dataclass(frozen=True, slots=True)
class Pushing:
    """What to push and how.

    refs: branches and tags; the current branch where none is named. only: globs of tensor names to send; a branch
    moves then only if the rest is there already. tags: the tags of all commits that are sent or there as well.
    materialized: compute and send tensors that a recipe stands for.
    """

    refs: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    tags: bool = False
    materialized: bool = False


CURRENT = Pushing()


def push(content: Content, name: str, what: Pushing = CURRENT, watch: Watch = quietly) -> Synced:
    """Send branches and tags to a remote, and move them there.

    Raises ConflictError where the remote has commits that ours do not build on; nothing has been sent then.
    """
    ours = _named(content, what.refs)
    if what.tags:
        ours |= _tags_within(content, ours.values())
    with connected(content, name, create=True) as remote:
        theirs = {**_branches(remote), **(refs_below(remote, TAGS) if any(map(_is_tag, ours)) else {})}
        due = {ref: target for ref, target in ours.items() if theirs.get(ref) != target}
        for ref, target in due.items():
            _require_forward(content, name, RefMove(ref, theirs.get(ref), target))
        goals = ours if what.materialized else due
        moved = send(content, remote, goals.values(), Options(_inside(what.only), what.materialized), watch)
        held = {ref for ref, target in due.items() if target in moved.held_back}
        arrived = {ref: target for ref, target in ours.items() if ref not in held}
        stated = statements.send(content, remote, name, arrived.values())
        moves = [RefMove(ref, theirs.get(ref), due[ref]) for ref in sorted(due.keys() - held, key=_branches_last)]
        for move in moves:
            _move_there(remote, name, move)
        _track(content, name, {**theirs, **arrived})
        moved = replace(moved, objects=moved.objects + stated.objects, bytes=remote.traffic.sent)
    notes = tuple(f"{ref} was not moved: tensors that were left out are not at {name} yet" for ref in sorted(held))
    return Synced(moved, tuple(moves), (*notes, *_unfit(content, what.only, ours.values()), *stated.notes))


def _branches(remote: Remote) -> dict[str, Digest]:
    return {**refs_below(remote, HEADS), **refs_below(remote, MERGING)}


def _is_commit(content: Content, id_: Digest) -> bool:
    return content.has(id_) and objects.kind_of(content.database.get(id_)) == "commit"


def _chosen(content: Content, only: Sequence[str]) -> tuple[str, ...]:
    """Join the globs asked for to those remembered; none means everything."""
    if EVERYTHING in only:
        return ()
    return tuple(sorted({*content.settings.read().only, *_inside(only)}))


def _inside(only: Sequence[str]) -> tuple[str, ...]:
    """Write globs as they are held against names: those of tensors, without the part they are in."""
    return tuple(glob.removeprefix(MODEL) for glob in only)


def _unfit(content: Content, only: Sequence[str], tips: Iterable[Digest]) -> Iterator[str]:
    """Say which globs fit no tensor of the models at some tips: they are probably misspelt."""
    if not only or not (known := {name for tip in tips for name in _names(content, tip)}):
        return
    for glob in _inside(only):
        if not any(fnmatchcase(name, glob) for name in known):
            yield f"--only '{glob}' fits no tensor of these branches; there are {_some(sorted(known))}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _names(content: Content, commit: Digest) -> Iterable[str]:
    entry = content.part(commit, MODEL.rstrip("/")) if content.has(commit) else None
    return content.tree(entry.id) if entry is not None and content.has(entry.id) else ()


def _known_commits(content: Content) -> set[Digest]:
    """List where refs of this side point: what the remote need not list again."""
    names = [ref for space in (HEADS, TAGS, "remotes/") for ref in content.refs.names(space)]
    found = {content.refs.get(ref) for ref in names}
    return {target for target in found if target is not None}


def _track(content: Content, name: str, there: Mapping[str, Digest]) -> list[RefMove]:
    """Remember where the remote's branches are; one that is gone there is forgotten. Gives what is news."""
    moves = []
    for ref, target in there.items():
        known = tracking(name, ref)
        before = content.refs.get(known)
        if not _is_tag(ref) and before != target and content.has(target):  # a push sees what was not fetched
            set_ref(content, known, target, f"seen at {name}")
            moves.append(RefMove(known, before, target))
    for space in (HEADS, MERGING):
        for known in content.refs.names(tracking(name, space)):
            if known.removeprefix(tracking(name, "")) not in there:
                set_ref(content, known, None, f"gone at {name}")
    return moves


def _named(content: Content, refs: Sequence[str]) -> dict[str, Digest]:
    """Find the refs that are meant: branches and tags by their short or full names."""
    branch = content.settings.read().branch
    if not refs and content.refs.get(HEADS + branch) is None:
        raise NotFoundError(f"the current branch '{branch}' has no commits yet: there is nothing to push")
    return dict(_named_one(content, ref) for ref in refs or (branch,))


def _named_one(content: Content, name: str) -> tuple[str, Digest]:
    for ref in (name, HEADS + name, TAGS + name):
        if ref.startswith((HEADS, TAGS, MERGING)) and (target := content.refs.get(ref)):
            return ref, target
    if name.startswith("runs/"):
        raise SpecError(f"a run is pushed as a branch: `fedloom branch NAME {name}`, then push NAME")
    known = ", ".join(ref.partition("/")[2] for space in (HEADS, TAGS) for ref in content.refs.names(space))
    raise NotFoundError(f"there is no branch or tag '{name}' to push. There are: {known or 'none yet'}")


def _tags_within(content: Content, tips: Iterable[Digest]) -> dict[str, Digest]:
    """Find the tags of all commits that some tips reach."""
    reached = {id_ for id_, _ in ancestors(list(tips), content.commit)}
    found = {ref: content.refs.get(ref) for ref in content.refs.names(TAGS)}
    return {ref: target for ref, target in found.items() if target is not None and target in reached}


def _require_forward(content: Content, name: str, move: RefMove) -> None:
    """Refuse a move that would lose commits of the remote, before anything is sent."""
    if move.old is None or move.name.startswith(MERGING):
        return
    short = move.name.partition("/")[2]
    if _is_tag(move.name):
        raise ConflictError(f"tag '{short}' is elsewhere at {name}, and tags do not move: choose another name")
    if not content.has(move.old) or not is_ancestor(move.old, move.new, content.commit):
        todo = f"`fedloom fetch {name}`, then `fedloom merge {name}/{short}`, then push again"
        raise ConflictError(f"{name} has commits on {short} that yours do not build on: {todo}")


def _move_there(remote: Remote, name: str, move: RefMove) -> None:
    """Move a ref at the remote; an answer that was lost on the way is recognised by where the ref is."""
    try:
        remote.move(move.name, move.old, move.new, "push")
    except ConflictError:
        if remote.refs(move.name).get(move.name) == move.new:
            return
        if move.old is None or remote.refs(move.name).get(move.name) == move.old:
            raise
        todo = f"`fedloom fetch {name}`, merge, then push again; what was sent is kept"
        raise ConflictError(f"somebody moved {move.name} at {name} meanwhile: {todo}") from None


def _is_tag(ref: str) -> bool:
    return ref.startswith(TAGS)


def _branches_last(ref: str) -> tuple[bool, str]:
    return not _is_tag(ref), ref
