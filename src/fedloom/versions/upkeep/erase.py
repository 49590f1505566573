"""Erasure: the bytes of chosen objects are removed for good, and a tombstone says who did it, when and why.

Rules: history stays: commits, trees and conflicts are not erased, so every id still stands and can be checked. A model
that was computed from what goes is stored first, so no model is lost but those that are erased themselves. The
tombstone is written before the bytes are removed; an erasure that was cut off is finished by erasing again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from fedloom.errors import ConflictError, GateError, NotFoundError, SpecError, VersionsError, nearest
from fedloom.values import Digest
from fedloom.versions import leases, objects, recipes, tombstones
from fedloom.versions.content import Content
from fedloom.versions.history import ordered
from fedloom.versions.objects import Commit, Entry
from fedloom.versions.remotes.closure import Named, below
from fedloom.versions.revisions import HEAD
from fedloom.versions.upkeep import reading
from fedloom.versions.upkeep.computing import Computable
from fedloom.versions.upkeep.reach import Reach, roots
from fedloom.versions.upkeep.reading import Reading

_NEEDED_PARTS = ("model", "preprocessing")
_FEWEST_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Choice:
    """What to erase: objects with where they were found, and what that is in words.

    shared: how many objects were left out because something else is the same bytes.
    """

    objects: Mapping[Digest, str]
    what: str
    shared: int = 0


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did: objects, the bytes freed, and the commits whose models were stored first."""

    objects: tuple[Digest, ...]
    freed: int
    materialized: tuple[Digest, ...]
    shared: int

    def as_json(self) -> dict[str, Any]:
        """Turn into plain JSON."""
        return asdict(self)


def choose_object(content: Content, digits: str) -> Choice:
    """Choose one object by its id or the first digits of it; one that is erased already may be chosen again."""
    found = set(content.database.ids(digits)) if len(digits) >= _FEWEST_DIGITS else set()
    found |= {id_ for id_ in tombstones.all_of(content.store) if id_.startswith(digits)}
    if len(found) != 1 or len(digits) < _FEWEST_DIGITS:
        told = f"{len(found)} objects start" if found else "no object starts"
        raise NotFoundError(f"{told} with '{digits}': give {_FEWEST_DIGITS} digits or more, as many as it takes")
    (id_,) = found
    return Choice({id_: "named by its id"}, f"object {id_[:12]}")


def choose_path(content: Content, path: str, commit: str = HEAD) -> Choice:
    """Choose what a commit has at a path and below, such as `model/head.weight` or `receipts/north`."""
    id_ = content.resolve(commit)
    names = list(below(content.commit(id_), Reading(content)))
    found = {
        named.id: named.path
        for named in names
        if named.kind in tombstones.ERASABLE and (named.path == path or named.path.startswith(f"{path}/"))
    }
    if not found:
        raise NotFoundError(f"commit {id_[:12]} has nothing to erase at '{path}': {_paths(names, path)}")
    here = {one: where for one, where in found.items() if content.has(one) or tombstones.find(content.store, one)}
    if not here:
        raise NotFoundError(
            f"the bytes at '{path}' of commit {id_[:12]} are not stored here: erase them where they are"
        )
    return Choice(here, f"{path} of commit {id_[:12]}")


def choose_updates(content: Content, site: str) -> Choice:
    """Choose every update of a site that is stored in the receipts of any commit.

    An update that is also something else (a model of a round with one site, say) is left.
    """
    found: dict[Digest, str] = {}
    elsewhere: set[Digest] = set()
    sites: set[str] = set()
    for id_, _, names in _history(content):
        for named in names:
            part, _, rest = named.path.partition("/")
            if part == "receipts" and rest:
                sites.add(rest.partition("/")[0])
            if named.kind == "tree" or named.demand == "side":
                continue
            if f"{named.path}/".startswith(f"receipts/{site}/"):
                found[named.id] = f"{named.path} of commit {id_[:12]}"
            else:
                elsewhere.add(named.id)
    if site not in sites:
        raise NotFoundError(f"no commit has a receipt of '{site}': {nearest(site, sites) if sites else 'none has any'}")
    here = {id_: where for id_, where in found.items() if content.has(id_)}
    if not here:
        raise NotFoundError(
            f"no update of '{site}' is stored here: they were never kept, or the site keeps them itself"
        )
    chosen = {id_: where for id_, where in here.items() if id_ not in elsewhere}
    return Choice(chosen, f"the updates of {site}", len(here) - len(chosen))


def erase(content: Content, choice: Choice, *, who: str, why: str, force: bool = False) -> Erased:
    """Erase what was chosen.

    force: also what the model of a protected ref needs, or what a recipe computes again.
    Raises GateError where that is the case and not forced, ConflictError while others write.
    """
    who, why = " ".join(who.split()), " ".join(why.split())
    if not who or not why:
        raise SpecError("say who erases and why: it is all that will be left")
    _require_erasable(content, choice.objects)
    content.lease.hold()  # models that are stored below must not wait for our own clearing
    with leases.alone(content.store):
        if writers := leases.others(content.store, content.lease):
            raise ConflictError(f"{writers[0]} is writing and may use what is to be erased: wait until it is done")
        ids = frozenset(choice.objects)
        history = list(_history(content))
        if not force:
            _require_expendable(content, ids, history)
        stored = [id_ for id_, commit, _ in history if _would_be_lost(content, id_, commit, ids)]
        for id_ in stored:
            recipes.materialize(content, id_)
        for id_ in sorted(ids):
            tombstones.bury(content.store, id_, who, why)
        freed = content.database.discard(ids)
        now = datetime.now(UTC)
        freed += sum(content.store.sweep(folder, now) for folder in ("objects", "bundles"))
    return Erased(tuple(sorted(ids)), freed, tuple(stored), choice.shared)


def _history(content: Content) -> Iterator[tuple[Digest, Commit, list[Named]]]:
    """List all commits that refs lead or led to, old ones first, with everything they name."""
    logs, _ = reading.logs(content)
    source = Reading(content)
    reach = Reach(source)
    tips = [root.id for root in roots(logs, reading.reflog_since(content)) if root.kind == "commit"]
    for _ in reach.walk(tips):
        pass
    here = [id_ for id_ in reach.commits if source.commit(id_) is not None]
    absent = reach.commits.difference(here)
    for id_, commit in list(ordered(sorted(here), content.commit, absent))[::-1]:
        yield id_, commit, list(below(commit, source))


def _require_erasable(content: Content, ids: Iterable[Digest]) -> None:
    for id_ in ids:
        kind = objects.kind_of(content.database.get(id_)) if content.has(id_) else "tensor"
        if kind not in tombstones.ERASABLE:
            todo = "erase what it names, by its id or with --path"
            raise VersionsError(f"object {id_[:12]} is a {kind}, without which history cannot be read: {todo}")


def _require_expendable(
    content: Content, ids: Collection[Digest], history: Sequence[tuple[Digest, Commit, list[Named]]]
) -> None:
    """Refuse to erase what a protected ref's model is made of, and what would come back by a recipe."""
    for ref in content.settings.read().protected:
        tip = content.refs.get(ref)
        for named in below(content.commit(tip), Reading(content)) if tip else ():
            if named.id in ids and named.path.partition("/")[0] in _NEEDED_PARTS:
                raise GateError(
                    f"'{named.path}' is part of the model that {ref} points to, and {ref} is protected: "
                    "move it to another commit first, or give --force"
                )
    computable = Computable(content)
    for id_, commit, names in history:
        again = next((named.path for named in names if named.id in ids and named.demand == "computed"), None)
        if again and not _reads(content, commit, ids) and computable.why_not(id_) is None:
            raise GateError(
                f"'{again}' would be computed again by the recipe of commit {id_[:12]}: "
                "erase the updates it is made of instead (--site S --updates), or give --force"
            )


def _would_be_lost(content: Content, id_: Digest, commit: Commit, ids: Collection[Digest]) -> bool:
    """Whether a model is computed from what goes, and can still be."""
    if commit.recipe is None or not _reads(content, commit, ids) or not recipes.unstored(content, id_):
        return False
    return Computable(content).why_not(id_) is None


def _reads(content: Content, commit: Commit, ids: Collection[Digest]) -> bool:
    """Whether a commit's recipe reads any of these objects: in an input, or in a model it starts from."""
    assert commit.recipe is not None, "only a recipe reads"
    source = Reading(content)
    for part in commit.recipe.inputs:
        held: Mapping[str, Entry] = (source.tree(part.id) or {}) if source.kind(part.id) == "tree" else {}
        if any(entry.id in ids for entry in held.values()):
            return True
    algorithm = recipes.ALGORITHMS.get(commit.recipe.algorithm)
    needed = algorithm.needs(commit, content) if algorithm else ()
    return any(
        named.id in ids and named.path.partition("/")[0] in objects.PARTS
        for one in needed
        for named in below(content.commit(one), source)
    )


def _paths(names: Iterable[Named], path: str) -> str:
    return nearest(path, {named.path for named in names if named.kind in tombstones.ERASABLE})
