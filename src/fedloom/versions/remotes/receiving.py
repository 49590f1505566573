"""Receiving: what this side lacks of some commits of the other, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from fedloom.errors import CorruptObjectError, NotFoundError
from fedloom.values import Digest
from fedloom.versions import objects, tombstones
from fedloom.versions.content import Content
from fedloom.versions.history import ordered
from fedloom.versions.objects import Commit, Encoded, Entry, Kind
from fedloom.versions.remotes.closure import Named, named, selected
from fedloom.versions.remotes.remote import Parcel, Remote, Want, opened
from fedloom.versions.remotes.transfer import (
    ERASABLE,
    Kinds,
    Moved,
    Options,
    Sizes,
    Step,
    Watch,
    apart_from_parents,
    is_kept,
    named_by_parents,
    reader_of,
    tensors_before,
)

_WANTS_TOGETHER = 64


def receive(
    local: Content, remote: Remote, tips: Iterable[Digest], have: Collection[Digest], options: Options, watch: Watch
) -> Moved:
    """Bring here what `tips` reach and this side lacks; raises NotFoundError where the remote is not whole.

    have: commits here that the remote may know, so that it need not list what lies behind them. Where `only` differs
    from what was fetched so far, commits that are here are gone through again for tensors that are not.
    """
    local.hold()  # what is found here from now on must stay
    before = remote.traffic.received
    unburied = _unburied(local, remote)
    incoming = _Incoming(local, remote, options)
    incoming.arrived = unburied
    incoming.discover(list(dict.fromkeys(tips)), have)
    steps = incoming.plan()
    total = incoming.arrived + sum(len(step.items) for step in steps)
    for group in _grouped(steps):
        for _ in incoming.bring(group):
            watch(incoming.arrived, total, remote.traffic.received - before)
    return Moved(incoming.arrived, remote.traffic.received - before, incoming.raw(steps), incoming.new_commits(steps))


def _unburied(local: Content, remote: Remote) -> int:
    """Bring what others only said to be erased, where this remote has it; gives how many objects came."""
    said = sorted(id_ for id_, found in tombstones.all_of(local.store).items() if found.says)
    brought = []
    for parcel in remote.get([Want(id_) for id_ in said]) if said else ():
        if not parcel.erased:
            local.database.put(opened(parcel))
            brought.append(parcel.id)
    local.database.flush()
    for id_ in brought:
        tombstones.lift(local.store, id_)
    return len(brought)


class _Incoming:
    """Decides what to bring: reads what is here, asks the other side for the rest."""

    def __init__(self, local: Content, remote: Remote, options: Options) -> None:
        self._local, self._remote, self._options = local, remote, options
        self._again = options.again or set(options.only) != set(local.settings.read().only)
        self._reader = reader_of(local)
        self._sizes, self._kinds = Sizes(local), Kinds(local)
        self._commits: dict[Digest, Commit] = {}
        self._unkept: dict[Digest, Encoded] = {}  # commits that arrived and wait for what they name
        self.arrived = 0

    def discover(self, tips: Sequence[Digest], have: Collection[Digest]) -> None:
        """Find the commits to bring, and bring the trees that say what they are made of."""
        goals, asked = set(tips), set[Digest]()
        while goals:
            self._walk(goals, have)
            self._bring_trees()
            apart = set(apart_from_parents(self._local, self._commits, self._commits.__getitem__))
            apart = {id_ for id_ in apart - asked - self._commits.keys() if not self._local.has(id_)}
            found = self._remote.get([Want(id_) for id_ in sorted(apart)])
            goals = {parcel.id for parcel in found if not parcel.erased and objects.kind_of(parcel.data) == "commit"}
            asked |= apart

    def plan(self) -> list[Step]:
        """List the commits to bring, parents first, each with what of it is not here."""
        stops = {parent for commit in self._commits.values() for parent in commit.parents} - self._commits.keys()
        order = [id_ for id_, _ in ordered(sorted(self._commits), self._read, stops)][::-1]
        coming: set[Digest] = set()
        return [self._step(id_, coming) for id_ in order]

    def bring(self, steps: Sequence[Step]) -> Iterator[Digest]:
        """Bring what some steps need, then keep their commits; gives the id of each object that arrived."""
        likes = {found.id: like for step in steps for found, like in step.items}
        kinds = {found.id: found.kind for step in steps for found, _ in step.items}
        for parcel in self._remote.get([Want(*want) for want in likes.items()]):
            self._keep(parcel, likes[parcel.id], kinds[parcel.id])
            yield parcel.id
        for step in steps:
            self._require_whole(step.id)
            if step.id in self._unkept:
                self._local.database.put(self._unkept.pop(step.id))
        self._local.database.flush()

    def raw(self, steps: Iterable[Step]) -> int:
        """Sum the sizes of everything that the commits name of which something was brought."""
        return sum(self._sizes.total(self._named(step.id)) for step in steps if step.items or step.new)

    def new_commits(self, steps: Iterable[Step]) -> tuple[Digest, ...]:
        """List the commits that were not here before."""
        return tuple(step.id for step in steps if step.new)

    def _walk(self, goals: Collection[Digest], have: Collection[Digest]) -> None:
        """Collect the commits that are reached and not here; those that are, too, where tensors may be absent."""
        front = set(goals)
        while front:
            here = {id_ for id_ in front if self._local.has(id_)}
            found = {id_: self._local.commit(id_) for id_ in here} if self._again else {}
            for parcel in self._remote.walk(sorted(front - here), have) if front - here else ():
                if parcel.id not in self._commits and not self._local.has(parcel.id):
                    self._unkept[parcel.id] = opened(parcel)
                    self.arrived += 1
                    found[parcel.id] = objects.decode_commit(parcel.data)
            self._commits |= found
            reached = {parent for commit in found.values() for parent in commit.parents} - self._commits.keys()
            front = {id_ for id_ in reached if self._again or not self._local.has(id_)}

    def _bring_trees(self) -> None:
        """Bring trees and conflicts level by level, all commits' at once."""
        seen: set[Digest] = set()
        level = {Entry("tree", commit.tree) for commit in self._commits.values()}
        while level:
            absent = {entry.id: entry.kind for entry in level if not self._local.has(entry.id)}
            for parcel in self._remote.get([Want(id_) for id_ in sorted(absent)]):
                self._keep(parcel, None, absent[parcel.id])
            seen |= {entry.id for entry in level}
            level = {below for entry in level for below in self._below(entry) if below.id not in seen}

    def _below(self, entry: Entry) -> Iterator[Entry]:
        """List the trees and conflicts that a tree or conflict names."""
        if entry.kind == "tree":
            found = list((self._reader.tree(entry.id) or {}).values())
        else:
            conflict = self._reader.conflict(entry.id)
            found = [side for side in (conflict.base, *conflict.heads) if side] if conflict else []
        return (below for below in found if below.kind in ("tree", "conflict") and below.keep == "stored")

    def _step(self, id_: Digest, coming: set[Digest]) -> Step:
        step, before = Step(id_, new=id_ in self._unkept), tensors_before(id_, self._read, self._reader)
        for found in self._named(id_):
            is_part = found.kind not in ("tree", "conflict") and selected(found.path, self._options.only)
            if is_part and found.id not in coming and not is_kept(self._local, found):
                like = before.get(found.path) if found.kind == "tensor" else None
                usable = like is not None and (like in coming or self._local.has(like))
                step.items.append((found, like if usable else None))
                coming.add(found.id)
        return step

    def _require_whole(self, id_: Digest) -> None:
        """Refuse to keep a commit of which something is missing, or is not what it is named as."""
        names = list(self._named(id_))
        for found in names:
            wanted = found.needed and (found.kind != "tensor" or selected(found.path, self._options.only))
            if wanted and not is_kept(self._local, found):
                where = f"'{found.path}' of commit {id_[:12]}"
                raise NotFoundError(f"the remote has not got {where}: push it there from a repository that has it")
        if id_ in self._unkept:
            commit = self._commits[id_]
            self._kinds.require(id_, commit, names, named_by_parents(commit, self._read, self._reader))
            self._kinds.note(id_, "commit")

    def _keep(self, parcel: Parcel, like: Digest | None, kind: Kind) -> None:
        if parcel.erased:
            if kind not in ERASABLE:
                told = f"the remote says that {kind} {parcel.id[:12]} was erased"
                raise CorruptObjectError(f"{told}, and a {kind} never is: fetch from a repository that has it")
            tombstones.hear(self._local.store, parcel.id, parcel.data, self._options.name)
        else:
            self._kinds.note(parcel.id, objects.kind_of(parcel.data))
            self._local.database.put(opened(parcel), like)
            self._sizes.note(parcel.id, len(parcel.data))
        self.arrived += 1

    def _named(self, id_: Digest) -> Iterator[Named]:
        return named(self._read(id_), self._reader)

    def _read(self, id_: Digest) -> Commit:
        return self._commits[id_] if id_ in self._commits else self._local.commit(id_)


def _grouped(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """Put steps together, so that many small commits take few requests."""
    group: list[Step] = []
    for step in steps:
        group.append(step)
        if sum(len(one.items) for one in group) >= _WANTS_TOGETHER:
            yield group
            group = []
    if group:
        yield group
