"""Sending: what the other side lacks of some commits, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from fedloom.errors import NotFoundError
from fedloom.values import Digest
from fedloom.versions import objects, recipes, tombstones
from fedloom.versions.content import Content
from fedloom.versions.history import Read, ancestors, ordered
from fedloom.versions.remotes.closure import Named, named, selected
from fedloom.versions.remotes.remote import Parcel, Remote
from fedloom.versions.remotes.transfer import (
    Moved,
    Options,
    Sizes,
    Step,
    Watch,
    apart_from_parents,
    is_kept,
    reader_of,
    tensors_before,
)

_FIRST_ASKED = 16
_IDS_ASKED = 4096
_LEAVES = ("tensor", "blob")
_STEPS_TOGETHER = 64
_OBJECTS_TOGETHER = 512


def send(local: Content, remote: Remote, tips: Iterable[Digest], options: Options, watch: Watch) -> Moved:
    """Put at the remote what `tips` reach and it lacks; raises NotFoundError where that is not here to be sent."""
    outgoing = _Outgoing(local, remote, options)
    steps = outgoing.plan(list(dict.fromkeys(tips)))
    held_back = _held_back(steps, local.commit)
    total = sum(len(step.items) + (step.new and step.id not in held_back) for step in steps)
    before, done = remote.traffic.sent, 0

    def counted(parcels: Iterator[Parcel]) -> Iterator[Parcel]:
        nonlocal done
        for parcel in parcels:
            yield parcel
            done += 1
            watch(done, total, remote.traffic.sent - before)

    for group in _grouped(steps):
        remote.put(counted(outgoing.parcels(group, held_back)))
    moved = tuple(step.id for step in steps if step.new and step.id not in held_back)
    return Moved(done, remote.traffic.sent - before, outgoing.raw(steps), moved, tuple(held_back))


def first_there(
    tips: Collection[Digest], read: Read, missing: Callable[[Collection[Digest]], set[Digest]]
) -> set[Digest]:
    """Find where the other side's history begins: of the commits that `tips` reach, the nearest ones that it has.

    It asks about more commits each time, so a long history takes few questions.
    """
    there: set[Digest] = set()
    asked: set[Digest] = set()
    number = _FIRST_ASKED
    while batch := list(islice((id_ for id_, _ in ancestors(tips, read, there) if id_ not in asked), number)):
        there |= set(batch) - missing(batch)
        asked |= set(batch)
        number *= 2
    return there


class _Outgoing:
    """Decides what to send: reads this side, asks the other."""

    def __init__(self, local: Content, remote: Remote, options: Options) -> None:
        self._local, self._remote, self._options = local, remote, options
        self._reader = reader_of(local)
        self._sizes = Sizes(local)
        self._again: list[Digest] = []

    def plan(self, tips: Sequence[Digest]) -> list[Step]:
        """List the commits to send, parents first, each with what it needs."""
        boundary, order = self._commits(tips)
        there = {found.id for id_ in boundary for found in self._named(id_) if found.needed}
        asked = sorted({found.id for id_ in order for found in self._named(id_)} - there)
        batches = [asked[start : start + _IDS_ASKED] for start in range(0, len(asked), _IDS_ASKED)]
        there |= set(asked).difference(*(self._remote.missing(batch) for batch in batches))
        return [self._step(id_, there) for id_ in order]

    def parcels(self, steps: Sequence[Step], held_back: Collection[Digest]) -> Iterator[Parcel]:
        """Read what some steps send, one object at a time: tensors and blobs, then trees and commits, parents first."""
        for step in steps:
            made = self._computed(step)
            for found, like in step.items:
                if found.kind in _LEAVES:
                    yield made.get(found.id) or self._parcel(found.id, like)
        for step in steps:
            for found, _ in reversed(step.items):  # a tree stands before what it names
                if found.kind not in _LEAVES:
                    yield self._parcel(found.id, None)
            if step.new and step.id not in held_back:
                yield self._parcel(step.id, None)

    def raw(self, steps: Iterable[Step]) -> int:
        """Sum the sizes of everything that the commits of some steps name."""
        return sum(self._sizes.total(self._named(step.id)) for step in steps)

    def _commits(self, tips: Sequence[Digest]) -> tuple[set[Digest], list[Digest]]:
        """Find the commits that are there already, and those to send; what a recipe reads goes along with it."""
        read, goals = self._local.commit, set(tips)
        while True:
            boundary = first_there(goals, read, self._remote.missing)
            order = [id_ for id_, _ in ordered(sorted(goals), read, boundary)][::-1]
            apart = set(apart_from_parents(self._local, order, read)) - goals
            more = {id_ for id_ in apart if self._is_commit(id_)}
            if not more:
                break
            goals |= more
        self._again = [tip for tip in tips if tip in boundary] if self._options.materialized else []
        return boundary - set(self._again), self._again + order

    def _step(self, id_: Digest, there: set[Digest]) -> Step:
        """Decide what to send of one commit; `there` grows by it."""
        step, before = Step(id_, new=id_ not in self._again), tensors_before(id_, self._local.commit, self._reader)
        for found in self._named(id_):
            if found.id in there:
                continue
            if found.kind == "tensor" and not selected(found.path, self._options.only):
                step.left_out += found.needed
            elif is_kept(self._local, found) or self._can_compute(found, id_):
                like = before.get(found.path) if found.kind == "tensor" else None
                step.items.append((found, like if like in there else None))
                there.add(found.id)
            elif found.needed:
                raise NotFoundError(self._absent(found, id_))
        return step

    def _can_compute(self, found: Named, commit: Digest) -> bool:
        computed = found.kind == "tensor" and found.path.partition("/")[0] in objects.PARTS
        return self._options.materialized and computed and self._local.commit(commit).recipe is not None

    def _absent(self, found: Named, commit: Digest) -> str:
        name = found.path.partition("/")[2]
        partly = found.kind == "tensor" and self._local.settings.read().only
        todo = f"fetch it first with `fedloom fetch --only '{name}'`" if partly else "see `fedloom fsck`"
        return f"'{found.path}' of commit {commit[:12]} is neither here nor at the remote: {todo}"

    def _computed(self, step: Step) -> Mapping[Digest, Parcel]:
        """Compute the tensors of one commit that a recipe stands for: only its own model is held in memory."""
        absent = {found.id: like for found, like in step.items if not is_kept(self._local, found)}
        if not absent:
            return {}
        made = recipes.compute(self._local, step.id)
        parcels = {}
        for id_, like in absent.items():
            whole = objects.encode_tensor(made[id_])
            parcels[id_] = Parcel(id_, b"".join([whole.header, whole.payload]), like)
            self._sizes.note(id_, len(parcels[id_].data))
        return parcels

    def _parcel(self, id_: Digest, like: Digest | None) -> Parcel:
        if not self._local.has(id_):
            return Parcel(id_, tombstones.to_send(self._local.store, id_), erased=True)
        data = self._local.database.get(id_)
        self._sizes.note(id_, len(data))
        return Parcel(id_, data, like)

    def _named(self, id_: Digest) -> Iterator[Named]:
        return named(self._local.commit(id_), self._reader)

    def _is_commit(self, id_: Digest) -> bool:
        return self._local.has(id_) and objects.kind_of(self._local.database.get(id_)) == "commit"


def _held_back(steps: Sequence[Step], read: Read) -> list[Digest]:
    """Find the commits that may not be put: they, or what they build on, lack tensors that were not asked for."""
    held: list[Digest] = []
    for step in steps:
        if step.left_out or any(parent in held for parent in read(step.id).parents):
            held.append(step.id)
    return held


def _grouped(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """Put steps together, so that many small commits take few requests; what one is a difference to goes before it."""
    group: list[Step] = []
    inside: set[Digest] = set()
    for step in steps:
        full = len(group) >= _STEPS_TOGETHER or len(inside) >= _OBJECTS_TOGETHER
        if full or any(like in inside for _, like in step.items):
            yield group
            group, inside = [], set()
        group.append(step)
        inside |= {found.id for found, _ in step.items}
    if group:
        yield group
