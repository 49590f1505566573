"""Is a repository whole? Every stored object is held to its id and kind, and everything refs lead to is looked for.

Rules: what may be absent is counted with its reason and never passes for checked. All problems are collected, each
with what a person can do. What a killed process or a power cut left behind and nothing needs is no problem.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from fedloom.errors import CorruptObjectError, FedloomError, VersionsError
from fedloom.values import Digest
from fedloom.versions import objects, tombstones
from fedloom.versions.content import Content
from fedloom.versions.generations import Generations
from fedloom.versions.objects import Kind
from fedloom.versions.parallel import spread
from fedloom.versions.remotes.closure import Named, selected
from fedloom.versions.settings import Settings
from fedloom.versions.tombstones import Tombstone
from fedloom.versions.upkeep import reading
from fedloom.versions.upkeep.computing import Computable
from fedloom.versions.upkeep.reach import Found, Reach, Root, roots
from fedloom.versions.upkeep.reading import Reading

What = Literal["corrupt", "missing", "kind", "ref", "settings", "erased"]
Progress = Callable[[int, int], None]
"""Hears how many objects are checked and how many there are."""

_ID = re.compile(r"[0-9a-f]{64}")
_TOGETHER = 64


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: what, with which object (if any), where it is needed (if it is), and what to do."""

    what: What
    id: Digest | None
    where: str
    told: str
    todo: str

    def __str__(self) -> str:
        """Say it in one line."""
        where = f"{self.where}: " if self.where else ""
        return f"{where}{self.told}" + (f": {self.todo}" if self.todo else "")


@dataclass(frozen=True, slots=True)
class Absence:
    """An object that is named and not here, as it may be."""

    id: Digest
    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was found.

    objects: stored and (unless `quick`) held to their ids. bytes: of their canonical form. reachable, dangling: how
    many of them refs lead to, and do not. cut_off: files that a power cut left unfinished and nothing needs.
    """

    quick: bool
    objects: int
    bytes: int
    reachable: int
    dangling: int
    cut_off: int
    commits: int
    refs: int
    absences: tuple[Absence, ...]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether the repository is whole."""
        return not self.problems

    @property
    def absent(self) -> Mapping[str, int]:
        """Count what is absent by reason."""
        return dict(sorted(Counter(absence.reason for absence in self.absences).items()))

    def as_json(self) -> dict[str, Any]:
        """Turn into plain JSON."""
        return {"ok": self.ok, "absent": self.absent, **asdict(self)}


def fsck(content: Content, *, quick: bool = False, progress: Progress | None = None) -> Report:
    """Check a repository; raises only what the store itself raises.

    quick: look only whether objects are there and uncut; their bytes are not read.
    """
    stored = _stored(content, progress or (lambda _done, _all: None), quick=quick)
    check = _Check(content, stored)
    check.settings()
    tips = check.refs()
    check.history(tips)
    check.leftovers()
    return check.report(quick=quick)


class _Seen(NamedTuple):
    """One stored object: what kind it is and its size, or why it cannot be read."""

    kind: Kind | None
    size: int
    broken: str | None = None
    is_whole: bool = True


def _stored(content: Content, progress: Progress, *, quick: bool) -> dict[Digest, _Seen]:
    """Look at every stored object."""
    ids = list(content.database.ids())
    look = _glance if quick else _read
    seen: dict[Digest, _Seen] = {}
    for start in range(0, len(ids), _TOGETHER):
        some = ids[start : start + _TOGETHER]
        seen.update(zip(some, spread(lambda id_: look(content, id_), some), strict=True))
        progress(len(seen), len(ids))
    return seen


def _read(content: Content, id_: Digest) -> _Seen:
    try:
        data = content.database.get(id_)
        kind, _ = objects.decode(data)
    except VersionsError as error:
        return _Seen(None, 0, str(error), content.has(id_))
    return _Seen(kind, len(data))


def _glance(content: Content, id_: Digest) -> _Seen:
    if content.has(id_):
        return _Seen(None, 0)
    return _Seen(None, 0, f"object {id_[:12]} is corrupt: its stored bytes are cut off", is_whole=False)


@dataclass
class _Check:
    """One pass over refs and history, beside what is stored."""

    content: Content
    stored: Mapping[Digest, _Seen]
    reading: Reading = field(init=False)
    computable: Computable = field(init=False)
    erased: Mapping[Digest, Tombstone] = field(init=False)
    reached: dict[Digest, bool] = field(default_factory=dict)  # whether anything demands it
    only: tuple[str, ...] = ()
    remotes: Sequence[str] = ()
    damaged: Sequence[str] = ()
    absences: dict[Digest, Absence] = field(default_factory=dict)
    problems: dict[tuple[str, str], Problem] = field(default_factory=dict)
    commits: int = 0
    ref_count: int = 0

    def __post_init__(self) -> None:
        self.reading = Reading(self.content)
        self.computable = Computable(self.content)
        self.erased = tombstones.all_of(self.content.store)
        settings = self._settings()
        self.only, self.remotes = settings.only, sorted(settings.remotes)
        self.damaged = self.content.database.damaged()

    def settings(self) -> None:
        """Read every generation of the settings."""
        noun = "the settings"
        generations = Generations(self.content.store, "settings", noun)
        told = reading.gaps(generations, "settings", noun)
        for number in generations.numbers():
            try:
                generations.read(number)
            except FedloomError as error:
                told.append(str(error))
        for one in told:
            self._note(Problem("settings", None, "", one, ""))

    def refs(self) -> list[Root]:
        """Read every move of every ref; gives what they hold."""
        logs, told = reading.logs(self.content)
        for one in told:
            self._note(Problem("ref", None, "", one, ""))
        self.ref_count = sum(bool(moves) and moves[-1].target is not None for moves in logs.values())
        return roots(logs, reading.reflog_since(self.content))

    def history(self, tips: Iterable[Root]) -> None:
        """Look for everything that refs lead to."""
        tips = sorted(tips, key=lambda root: not root.is_current)
        reach = Reach(self.reading)
        for root in tips:
            ref = _ID.sub(lambda id_: id_[0][:12], root.ref)
            where = ref if root.is_current else f"an old move of {ref}"
            self._look(Named("", root.kind, root.id, "needed"), where, None)
            if root.kind == "commit":
                for found in reach.walk([root.id]):
                    self._look(found.named, _place(found), found.commit)
        self.commits = sum(1 for id_ in reach.commits if id_ in self.stored)

    def leftovers(self) -> None:
        """Tell of stored objects that are in the way though nothing needs them."""
        for id_, seen in self.stored.items():
            tombstone = self.erased.get(id_)
            if tombstone is not None and not tombstone.says:
                again = f"object {id_[:12]} was {tombstone}; its bytes are here again"
                self._note(Problem("erased", id_, "", again, f"erase it again with `fedloom erase {id_[:12]}`"))
            elif seen.broken and id_ not in self.reached and seen.is_whole:
                told = f"object {id_[:12]} cannot be read, though nothing needs it"
                self._note(Problem("corrupt", id_, "", told, "`fedloom fsck --repair` removes it"))

    def report(self, *, quick: bool) -> Report:
        """Sum up."""
        whole = {id_ for id_, seen in self.stored.items() if not seen.broken}
        reachable = len(whole & self.reached.keys())
        cut_off = [id_ for id_, seen in self.stored.items() if not seen.is_whole and not self.reached.get(id_)]
        return Report(
            quick,
            len(whole),
            sum(seen.size for seen in self.stored.values()),
            reachable,
            len(whole) - reachable,
            len(cut_off) + len(self.damaged),
            self.commits,
            self.ref_count,
            tuple(self.absences.values()),
            tuple(self.problems.values()),
        )

    def _look(self, named: Named, where: str, commit: Digest | None) -> None:
        """Look at one thing that is named: as strictly as anything that names it demands."""
        seen = self.stored.get(named.id)
        present = seen is not None and not (seen.broken and not seen.is_whole)
        excuse = None if present else self._excuse(named, commit)
        demanded = named.needed or not excuse
        if self.reached.get(named.id, False) or (named.id in self.reached and not demanded):
            return
        self.reached[named.id] = demanded
        if seen is not None and present:
            self._look_at(seen, named, where)
        elif excuse:
            self.absences.setdefault(named.id, Absence(named.id, where, excuse))
        else:
            self.absences.pop(named.id, None)
            if seen is not None:
                self._look_at(seen, named, where)
            else:
                self._note(self._missing(named, where, commit))

    def _look_at(self, seen: _Seen, named: Named, where: str) -> None:
        broken = seen.broken or self.reading.failed.get(named.id)
        if broken:
            self._note(Problem("corrupt", named.id, where, broken, self._todo("brings it back")))
        elif seen.kind not in (None, named.kind):
            told = f"object {named.id[:12]} is a {seen.kind}, and a {named.kind} is named there"
            self._note(
                Problem("kind", named.id, where, told, "the commit was forged, or badly made: take it from a copy")
            )

    def _excuse(self, named: Named, commit: Digest | None) -> str | None:
        """Say why something need not be here; None where it must."""
        if named.id in self.erased and named.kind in tombstones.ERASABLE:
            return str(self.erased[named.id])
        if named.demand == "promised":
            part, _, rest = named.path.partition("/")
            return f"promised by {rest.partition('/')[0]}" if part == "receipts" else "promised by a site"
        if named.demand in ("opaque", "side"):
            return "opaque" if named.demand == "opaque" else "named by a conflict or recipe, and not needed"
        if named.kind == "tensor" and not selected(named.path, self.only):
            return "not fetched"
        if named.demand == "computed" and commit is not None and self.computable.why_not(commit) is None:
            return "computed by recipe"
        return None

    def _missing(self, named: Named, where: str, commit: Digest | None) -> Problem:
        short = named.id[:12]
        if named.demand == "computed" and commit is not None:
            told = f"{named.kind} {short} is neither stored nor can it be computed: {self.computable.why_not(commit)}"
        else:
            told = f"{named.kind} {short} is missing"
        todo = (
            f"restore {self.damaged[0]} from a copy" if self.damaged and not self.remotes else self._todo("brings it")
        )
        return Problem("missing", named.id, where, told, todo)

    def _todo(self, brings: str) -> str:
        if self.remotes:
            return f"`fedloom fsck --repair` {brings} if {' or '.join(self.remotes)} has it"
        return f"`fedloom remote add` a repository that has it, then `fedloom fsck --repair` {brings}"

    def _note(self, problem: Problem) -> None:
        self.problems.setdefault((problem.what, problem.id or problem.told), problem)

    def _settings(self) -> Settings:
        try:
            return self.content.settings.read()
        except CorruptObjectError:
            return Settings()


def _place(found: Found) -> str:
    path = f" {found.named.path}" if found.named.path else ""
    return f"commit {found.commit[:12]}{path}"
