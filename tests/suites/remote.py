"""What every remote must do; each kind of remote subclasses this."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fedloom.errors import ConflictError, CorruptObjectError, NotFoundError, VersionsError
from fedloom.values import DTYPES, Digest
from fedloom.versions import objects, tombstones
from fedloom.versions.content import Content
from fedloom.versions.objects import Conflict, Entry, Input, Recipe
from fedloom.versions.remotes.receiving import receive
from fedloom.versions.remotes.remote import Parcel, Remote, Want, opened
from fedloom.versions.remotes.sending import send
from fedloom.versions.remotes.transfer import Moved, Options
from tests.versions.remotes.histories import (
    all_named,
    commit,
    everything,
    missing_from,
    model,
    not_whole,
    repository,
    rounds,
)

NOWHERE = Digest("f" * 64)


@dataclass
class Side:
    """The other side: a remote to it for a repository, and what lies there."""

    content: Content
    open: Any

    def fresh(self) -> Content:
        """Look at what lies there as a process started now would."""
        return Content(self.content.store)

    @contextmanager
    def remote(self, near: Content) -> Iterator[Remote]:
        """Connect a repository."""
        with self.open(near) as remote:
            yield remote

    def send(self, near: Content, *tips: Digest, **options: Any) -> Moved:
        """Send commits from a repository, over a new connection."""
        with self.remote(near) as remote:
            return send(near, remote, tips, Options(**options), unwatched)

    def receive(self, near: Content, *tips: Digest, have: tuple[Digest, ...] = (), **options: Any) -> Moved:
        """Bring commits to a repository, over a new connection."""
        with self.remote(near) as remote:
            return receive(near, remote, tips, have, Options(**options), unwatched)


def unwatched(done: int, total: int, bytes_moved: int) -> None:
    """Hold progress to what it promises."""
    assert 0 <= done <= total
    assert bytes_moved >= 0


class CutError(Exception):
    """The network, gone."""


class Cut:
    """A remote whose line is cut after some objects."""

    def __init__(self, remote: Remote, after: int) -> None:
        self._remote, self._left = remote, after
        self.traffic, self.refs, self.walk = remote.traffic, remote.refs, remote.walk
        self.missing, self.move = remote.missing, remote.move

    def _count(self, parcels: Any) -> Any:
        for parcel in parcels:
            if not self._left:
                raise CutError
            self._left -= 1
            yield parcel

    def get(self, wants: Any) -> Any:
        """Bring some."""
        return self._count(self._remote.get(wants))

    def put(self, parcels: Any) -> None:
        """Send some, each at once as if the cut came right after it."""
        for parcel in self._count(parcels):
            self._remote.put([parcel])


class RemoteSuite:
    """Subclasses say how to make a side."""

    @pytest.fixture
    def side(self, tmp_path) -> Side:
        raise NotImplementedError

    # the five methods

    def test_an_empty_remote_has_nothing(self, side):
        """No refs, no objects; a commit that is not there is a NotFoundError."""
        with side.remote(repository()) as remote:
            assert remote.refs("heads/") == {}
            assert remote.missing([NOWHERE]) == {NOWHERE}
            assert list(remote.get([Want(NOWHERE)])) == []
            with pytest.raises(NotFoundError):
                list(remote.walk([NOWHERE], []))

    def test_what_is_put_can_be_got(self, side):
        """Objects of every kind and dtype come back bit by bit, in the order asked for; absent ones are left out."""
        near = repository()
        tensors = {
            tag: np.frombuffer(bytes(range(240)) * 8, dtype).copy() for tag, dtype in DTYPES.items() if tag != "BOOL"
        }
        tensors |= {"BOOL": np.array([True, False]), "0-d": np.array(2.5), "empty": np.zeros((0, 3), np.float16)}
        tip = commit(near, tensors, parts={"code": near.add_blob(b"\x00\xff" * 50_000)})
        near.attest(tip, "evaluation", {"loss": 0.5})
        ids = list(everything(near))
        with side.remote(near) as remote:
            assert remote.missing(ids) == set(ids)
            remote.put(sorted((Parcel(*item) for item in everything(near).items()), key=late))
            assert remote.missing([*ids, NOWHERE]) == {NOWHERE}
        with side.remote(repository()) as remote:
            got = list(remote.get([Want(id_) for id_ in (*ids[::-1], NOWHERE)]))
        assert [parcel.id for parcel in got] == ids[::-1]
        assert {parcel.id: bytes(parcel.data) for parcel in got} == everything(near)

    def test_an_earlier_version_saves_bytes(self, side):
        """A tensor that is sent or asked for with an earlier version the other side has takes less."""
        near = repository()
        first, second = rounds(near, 1)
        old, new = (near.tree(near.part(id_, "model").id)["head.3.w"].id for id_ in (first, second))
        with side.remote(near) as remote:
            remote.put([Parcel(old, near.database.get(old))])
            whole = remote.traffic.sent
            remote.put([Parcel(new, near.database.get(new), old)])
            assert remote.traffic.sent - whole < 0.8 * whole
        here = repository()
        here.database.put(opened(Parcel(old, near.database.get(old))))
        with side.remote(here) as remote:
            before = remote.traffic.received
            (parcel,) = remote.get([Want(new, old)])
            assert bytes(parcel.data) == bytes(near.database.get(new))
            assert remote.traffic.received - before < 0.8 * whole

    def test_refs_move_by_compare_and_set(self, side):
        """Who knows where a ref is may move it forward; who does not is told, and nothing moves."""
        near = repository()
        ids = rounds(near, 3)
        side.send(near, ids[-1])
        with side.remote(near) as remote:
            remote.move("heads/main", None, ids[0], "push")
            remote.move("heads/main", ids[0], ids[1], "push")
            for stale in (None, ids[0], ids[2]):
                with pytest.raises(ConflictError):
                    remote.move("heads/main", stale, ids[3], "push")
            assert remote.refs("heads/") == {"heads/main": ids[1]}
        with side.remote(near) as other, side.remote(near) as remote:
            assert other.refs("heads/main") == {"heads/main": ids[1]}
            remote.move("heads/main", ids[1], ids[2], "push")
            with pytest.raises(ConflictError):
                other.move("heads/main", ids[1], ids[3], "push")
        assert [move.target for move in side.fresh().refs.log("heads/main")] == ids[:3]

    def test_a_ref_moves_only_where_it_may(self, side):
        """Not to what is not there, not to another kind of object, not backwards, not outside of the known spaces."""
        near = repository()
        ids = rounds(near, 1)
        other = commit(near, model(5), branch=None)
        side.send(near, ids[-1], other)
        statement = near.attest(ids[1], "gate", {"passed": True})
        with side.remote(near) as remote:
            remote.put([Parcel(statement, near.database.get(statement))])
            remote.move("heads/main", None, ids[1], "push")
            remote.move("tags/v1", None, ids[0], "push")
            for name, old, new in [
                ("heads/x", None, NOWHERE),
                ("heads/x", None, near.commit(ids[0]).tree),
                ("heads/main", ids[1], ids[0]),
                ("heads/main", ids[1], other),
                ("tags/v1", ids[0], ids[1]),
                ("remotes/origin/heads/main", None, ids[0]),
                ("runs/1", None, ids[0]),
                (f"attestations/{ids[0]}/gate", None, ids[1]),
                (f"attestations/{ids[0]}/gate", None, statement),
                (f"attestations/{ids[1]}/evaluation", None, statement),
            ]:
                with pytest.raises(VersionsError):
                    remote.move(name, old, new, "push")
            assert {**remote.refs("heads/"), **remote.refs("tags/")} == {"heads/main": ids[1], "tags/v1": ids[0]}

    def test_history_is_walked_from_the_tips_to_what_is_known(self, side):
        """Commits come near ones first, without those that are known and what lies behind them."""
        near = repository()
        ids = rounds(near, 4)
        side.send(near, ids[-1])
        with side.remote(repository()) as remote:
            assert [parcel.id for parcel in remote.walk([ids[4]], [ids[1]])] == [ids[4], ids[3], ids[2]]
            assert [parcel.id for parcel in remote.walk([ids[2]], [])] == ids[2::-1]

    def test_bytes_that_are_not_their_own_are_never_kept(self, side):
        """An object whose bytes have another id is refused on its way there, and what came before it is kept."""
        near = repository()
        good, bad = (objects.encode_blob(data * 30_000) for data in (b"good", b"bad!"))
        with side.remote(near) as remote:
            with pytest.raises(CorruptObjectError):
                remote.put([Parcel(good.id, b"".join(good[1:])), Parcel(bad.id, b"".join(good[1:]))])
            assert bad.id in remote.missing([bad.id])

    # sending and receiving

    def test_everything_travels_and_nothing_twice(self, side):
        """What is sent is whole there; sending again sends no object; a new round sends only what it changed."""
        near = repository()
        ids = rounds(near, 2, frozen=2)
        first = side.send(near, ids[-1])
        assert not missing_from(side.fresh(), [ids[-1]])
        assert first.objects == len(everything(near)) == len(everything(side.fresh()))
        assert first.commits == tuple(ids)
        assert first.bytes < 0.65 * first.raw
        assert side.send(near, ids[-1]).objects == 0
        ids.append(commit(near, model(3, 2), ids[-1]))
        later = side.send(near, ids[-1])
        assert later.objects == 4 + 1 + 2 + 1  # tensors of two layers, notes, two trees, a commit
        assert later.bytes < 0.45 * later.raw
        here = repository()
        assert side.receive(here, ids[-1]).objects == len(everything(near))
        assert everything(here) == everything(near)
        assert side.receive(here, ids[-1]).objects == 0

    def test_a_difference_never_travels_with_its_base(self, side):
        """What objects are differences to is there before they are sent: of one batch any may arrive first."""
        near = repository()
        ids = rounds(near, 3)
        with side.remote(near) as remote:
            put, batches = remote.put, []
            remote.put = lambda parcels: batches.append(list(parcels)) or put(batches[-1])
            send(near, remote, [ids[-1]], Options(), unwatched)
        likes = [{parcel.like for parcel in batch if parcel.like} for batch in batches]
        assert any(likes)
        assert not any(like & {parcel.id for parcel in batch} for like, batch in zip(likes, batches, strict=True))

    def test_only_news_is_received(self, side):
        """Who has the history up to a round gets the next round, as differences."""
        near, here = repository(), repository()
        ids = rounds(near, 2, frozen=2)
        side.send(near, ids[-1])
        side.receive(here, ids[1])
        got = side.receive(here, ids[2], have=(ids[1],))
        assert got.objects == 4 + 1 + 2 + 1
        assert got.commits == (ids[2],)
        assert got.bytes < 0.45 * got.raw
        assert not missing_from(here, [ids[2]])

    @pytest.mark.parametrize("after", [0, 3, 11, 17])
    def test_sending_goes_on_where_it_was_cut(self, side, after):
        """What arrived before the cut is not sent again, and there was never a commit with holes."""
        near = repository()
        ids = rounds(near, 2)
        with side.remote(near) as remote, pytest.raises(CutError):
            send(near, Cut(remote, after), [ids[-1]], Options(), unwatched)
        assert not_whole(side.fresh()) == []
        assert side.send(near, ids[-1]).objects == len(everything(near)) - after
        assert everything(side.fresh()) == everything(near)

    @pytest.mark.parametrize("after", [0, 5, 16, 21])
    def test_receiving_goes_on_where_it_was_cut(self, side, after):
        """What arrived before the cut is not asked for again, and there was never a commit with holes."""
        near, here = repository(), repository()
        ids = rounds(near, 2)
        side.send(near, ids[-1])
        with side.remote(here) as remote, pytest.raises(CutError):
            receive(here, Cut(remote, after), [ids[-1]], [], Options(), unwatched)
        here.database.flush()
        assert not_whole(here) == []
        kept = len(everything(here))
        assert kept >= after
        assert side.receive(here, ids[-1]).objects == len(everything(near)) - kept
        assert everything(here) == everything(near)

    def test_a_long_history_takes_few_questions(self, side):
        """Of three hundred commits, whether they are there is asked in a few requests, not in hundreds."""
        near = repository()
        tip = commit(near, {"w": np.zeros(3)})
        entry = near.part(tip, "model")
        for number in range(300):
            tip = commit(near, entry, tip, branch=None, message=f"{number}")
        with side.remote(near) as remote:
            asked: list[int] = []
            missing = remote.missing
            remote.missing = lambda ids: asked.append(len(ids)) or missing(ids)
            send(near, remote, [tip], Options(), unwatched)
            assert len(asked) < 10
        here = repository()
        assert len(side.receive(here, tip).commits) == 301

    def test_merges_bring_both_lines(self, side):
        """Of criss-cross history each commit travels once, parents first."""
        near = repository()
        root = commit(near, model())
        left, right = (commit(near, model(step), root, branch=None) for step in (1, 2))
        one = commit(near, model(3), left, right, branch=None, kind="merge")
        two = commit(near, model(4), right, left, branch=None, kind="merge")
        tip = commit(near, model(5), one, two, branch=None, kind="merge")
        sent = side.send(near, tip)
        assert len(sent.commits) == len(set(sent.commits)) == 6
        assert all(
            sent.commits.index(parent) < sent.commits.index(id_)
            for id_ in sent.commits
            for parent in near.commit(id_).parents
        )
        here = repository()
        assert set(side.receive(here, tip).commits) == set(sent.commits)
        assert not missing_from(here, [tip])

    # what need not be there

    def test_opaque_and_promised_are_not_demanded(self, side):
        """A commitment is never sent, nor is what a site keeps, though it is held here."""
        near, here = repository(), repository()
        held = near.add_tensors({"w": np.ones(3)})
        receipts = {
            "a": Entry("tree", NOWHERE, "opaque"),
            "b": Entry("tree", Digest("e" * 64), "promised"),
            "c": Entry("tree", held.id, "promised"),
            "d": Entry("tree", near.add_tensors({"w": np.zeros(3)}).id, "opaque"),
        }
        tip = commit(near, model(), parts={"receipts": near.add_tree(receipts)})
        side.send(near, tip)
        kept = {id_ for entry in (held, receipts["d"]) for id_ in (entry.id, near.tree(entry.id)["w"].id)}
        assert not kept & set(everything(side.fresh()))
        side.receive(here, tip)
        assert not kept & set(everything(here))
        assert not missing_from(here, [tip])

    def test_what_a_recipe_computes_need_not_travel(self, side):
        """The tensors of a commit with a recipe may be absent on both sides; where they are held they travel."""
        near, here = repository(), repository()
        root, merged = recipe_history(near)
        derived = set(all_named(near, merged)) - set(all_named(near, root))
        side.send(near, merged)
        assert not derived & set(everything(side.fresh()))
        side.receive(here, merged)
        assert not derived & set(everything(here))
        wanted = near.model(merged)
        assert {name: array.tobytes() for name, array in here.model(merged).items()} == {
            name: array.tobytes() for name, array in wanted.items()
        }
        again = side.send(near, merged, materialized=True)
        assert derived <= set(everything(side.fresh()))
        assert again.objects == len(derived)
        assert side.send(near, merged, materialized=True).objects == 0

    def test_what_builds_on_a_recipe_travels(self, side):
        """A stored model whose parent is only computed is sent whole: there is nothing it could be a difference to."""
        near, here = repository(), repository()
        _, merged = recipe_history(near)
        tip = commit(near, {name: array + np.float32(1) for name, array in near.model(merged).items()}, merged)
        side.send(near, tip)
        side.receive(here, tip)
        assert {name: a.tobytes() for name, a in here.model(tip).items()} == {
            name: a.tobytes() for name, a in near.model(tip).items()
        }

    def test_conflicts_travel_with_their_sides(self, side):
        """A conflict in a model, and every side of it, can be looked at elsewhere."""
        near, here = repository(), repository()
        sides = [near.add_tensors({"w": np.full(30_000, number, np.float32)}) for number in range(3)]
        base, ours, theirs = (near.tree(entry.id)["w"] for entry in sides)
        conflict = near.add_conflict(Conflict("model/w", "contested", base, (ours, theirs), {"cosine": -1.0}))
        tip = commit(near, near.add_tree({"w": conflict}))
        side.send(near, tip)
        side.receive(here, tip)
        found = here.conflict(conflict.id)
        assert [here.tensor(entry.id)[0] for entry in (found.base, *found.heads) if entry] == [0, 1, 2]

    def test_what_was_erased_travels_as_its_tombstone(self, side):
        """An erased object is not missed: its tombstone takes its place, on the way there and on the way back."""
        near, here = repository(), repository()
        tip = commit(near, model())
        gone = next(all_named(near, tip))
        near.store.create(f"erased/{gone}", [b'{"why": "asked to"}'])
        near.database.discard([gone])
        side.send(near, tip)
        assert str(tombstones.find(side.fresh().store, gone)).startswith("erased, says a push, by unknown")
        side.receive(here, tip)
        assert tombstones.find(here.store, gone).why == "asked to"
        assert tombstones.find(here.store, gone).says == "a remote"
        assert not missing_from(here, [tip])
        assert side.send(near, tip).objects == side.receive(here, tip).objects == 0

    def test_what_was_erased_here_does_not_come_back(self, side):
        """Fetching again does not bring what this side erased."""
        near, here = repository(), repository()
        ids = rounds(near, 1, frozen=4)
        side.send(near, ids[1])
        gone = next(all_named(near, ids[0]))
        here.store.create(f"erased/{gone}", [b"{}"])
        side.receive(here, ids[1])
        assert not here.has(gone)

    def test_what_was_erased_there_is_not_sent_again(self, side):
        """An object that the other side erased stays erased, though this side has it."""
        near, far = repository(), side.fresh()
        tip = commit(near, model())
        gone = next(all_named(near, tip))
        far.store.create(f"erased/{gone}", [b"{}"])
        assert side.send(near, tip).objects == len(everything(near)) - 1
        assert not side.fresh().has(gone)
        assert side.fresh().has(tip)

    def test_a_hole_there_is_named_and_not_taken_over(self, side):
        """Where the other side has lost an object, receiving ends with its path, and keeps no commit that names it."""
        near, here = repository(), repository()
        ids = rounds(near, 1)
        side.send(near, ids[1])
        lost = next(iter(set(all_named(near, ids[1])) - set(all_named(near, ids[0]))))
        side.fresh().database.discard([lost])
        with pytest.raises(NotFoundError, match=rf"the remote has not got 'model/.*' of commit {ids[1][:12]}"):
            side.receive(here, ids[1])
        here.database.flush()
        assert not here.has(ids[1])
        assert not_whole(here) == []

    def test_what_is_nowhere_is_named(self, side):
        """A hole on this side ends sending before anything was sent, with the path of what is missing."""
        near = repository()
        tip = commit(near, near.add_tree({"w": Entry("tensor", NOWHERE)}))
        with pytest.raises(NotFoundError, match=r"'model/w' of commit .* is neither here nor at the remote"):
            side.send(near, tip)
        assert everything(side.fresh()) == {}

    # some tensors only

    def test_some_tensors_can_be_received(self, side):
        """With globs only the tensors that fit come; with more globs later, those of the same commits follow."""
        near, here = repository(), repository()
        ids = rounds(near, 1)
        side.send(near, ids[1])
        side.receive(here, ids[1], only=("encoder.*",))
        names = here.tree(here.part(ids[1], "model").id)
        assert {name for name, entry in names.items() if here.has(entry.id)} == {
            n for n in names if n.startswith("enc")
        }
        side.receive(here, ids[1], only=("encoder.*", "head.2.*"))
        assert {name for name, entry in names.items() if not here.has(entry.id)} == {"head.3.w", "head.3.b"}

    def test_some_tensors_can_be_sent(self, side):
        """With globs a commit is put only once the rest of it is there."""
        near = repository()
        ids = rounds(near, 1)
        part = side.send(near, ids[1], only=("encoder.*",))
        assert part.commits == ()
        assert part.held_back == tuple(ids)
        assert not_whole(side.fresh()) == []
        assert not set(ids) & set(everything(side.fresh()))
        rest = side.send(near, ids[1], only=("head.*",))
        assert rest.commits == tuple(ids)
        assert not missing_from(side.fresh(), [ids[1]])
        assert part.objects + rest.objects == len(everything(near))


def late(parcel: Parcel) -> int:
    """Order tensors and blobs before what names them, and the commit last."""
    return ["tensor", "blob", "tree", "commit", "attestation"].index(objects.kind_of(parcel.data))


def recipe_history(content: Content) -> tuple[Digest, Digest]:
    """Commit a root, and a round whose model is a recipe: the mean of two sites' updates, which are stored."""
    from fedloom.values import Contribution
    from fedloom.versions.merging.fedavg import FedAvg
    from fedloom.versions.recipes import fold_recipe

    start = {"w": np.zeros(30_000, np.float32), "frozen": np.ones(30_000, np.float32)}
    root = commit(content, start)
    updates = [{**start, "w": np.full(30_000, value, np.float32)} for value in (1.0, 4.0)]
    made = FedAvg().merge(start, [Contribution(f"s{i}", update, 1.0) for i, update in enumerate(updates)], {})
    entries = {f"s{i}": content.add_tensors(update) for i, update in enumerate(updates)}
    inputs = [Input(name, entry.id, 1.0) for name, entry in entries.items()]
    recipe: Recipe = fold_recipe({"use": "fedavg"}, inputs)
    named = content.name_tensors(made.tensors)
    return root, commit(content, named, root, recipe=recipe, parts={"receipts": content.add_tree(entries)})
