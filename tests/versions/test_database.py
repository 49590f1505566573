"""The database: small objects in bundles, versions as differences, nothing lost to power cuts or to other processes."""

import os
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fedloom.errors import CorruptObjectError, NotFoundError, StorageError
from fedloom.values import Digest
from fedloom.versions import database, objects, small
from fedloom.versions.database import SMALL, Database
from fedloom.versions.encoding import KEYFRAME_EVERY, read_form
from fedloom.versions.objects import Commit, Encoded
from fedloom.versions.repository import FOLDER, Repository
from fedloom.versions.store import Store


@pytest.fixture(params=["disk", "memory"])
def store(request, tmp_path):
    return Store.on_disk(tmp_path / "store") if request.param == "disk" else Store.in_memory()


@pytest.fixture
def disk(tmp_path):
    return Store.on_disk(tmp_path / "store")


def blob(text: str) -> Encoded:
    return objects.encode_blob(text.encode())


def canonical(encoded: Encoded) -> bytes:
    return encoded.header + bytes(encoded.payload)


def versions(count: int, size: int = 30_000, seed: int = 0) -> list[Encoded]:
    """Make versions of one tensor, each some small steps from the one before."""
    rng = np.random.default_rng(seed)
    weights, made = rng.normal(0, 0.05, size), []
    for _ in range(count):
        made.append(objects.encode_tensor(weights.astype(np.float32)))
        weights = weights + rng.normal(0, 1e-5, size)
    return made


def put_all(base: Database, made: list[Encoded]) -> None:
    before = None
    for encoded in made:
        base.put(encoded, before)
        before = encoded.id
    base.flush()


def file_of(encoded: Encoded) -> str:
    return f"objects/{encoded.id[:2]}/{encoded.id}"


def form_of(store: Store, encoded: Encoded):
    return read_form(store.get(file_of(encoded)))


def bundle_paths(store: Store) -> list[str]:
    return store.paths("bundles")


# small objects


def test_small_objects_wait_and_then_share_a_file(store):
    """Before the flush they can be read but are no files; after it all are in one, to be read by whoever comes."""
    base, made = Database(store), [blob(str(n)) for n in range(50)]
    for encoded in made:
        base.put(encoded)
    assert store.paths("") == []
    assert all(base.has(encoded.id) and base.get(encoded.id) == canonical(encoded) for encoded in made)
    base.flush()
    assert len(store.paths("")) == len(bundle_paths(store)) == 1
    for reader in (base, Database(store)):
        assert all(reader.get(encoded.id) == canonical(encoded) for encoded in made)
        assert list(reader.ids()) == sorted(encoded.id for encoded in made)


def test_a_flush_of_nothing_writes_nothing(store):
    """Objects that are there already are not written again, by the same database or by a later one."""
    for _ in range(2):
        base = Database(store)
        for _ in range(2):
            base.put(blob("once"))
            base.flush()
    assert len(store.paths("")) == 1


def test_size_decides_where_an_object_lies(store):
    """One byte below the limit goes into a bundle, the limit itself has a file."""
    base = Database(store)
    rng = np.random.default_rng(0)
    overhead = len(objects.encode_blob(bytes(60_000)).header)
    below, at = (objects.encode_blob(rng.bytes(SMALL - overhead - missing)) for missing in (1, 0))
    put_all(base, [below, at])
    assert [found.split("/")[0] for found in store.paths("")] == ["bundles", "objects"]
    assert store.exists(file_of(at))
    assert {base.get(each.id).nbytes for each in (below, at)} == {SMALL - 1, SMALL}


def test_a_small_object_is_one_read_of_its_own_bytes(store):
    """Reading one of many reads neither the others nor the index again."""
    base = Database(store)
    put_all(base, [blob("x" * 1000 + str(n)) for n in range(200)])
    base.get(blob("x" * 1000 + "0").id)
    asked = []
    real = store.get_range
    store.get_range = lambda path, start, length: asked.append(length) or real(path, start, length)
    store.get = lambda path: pytest.fail("a whole file was read")
    base.get(blob("x" * 1000 + "7").id)
    assert len(asked) == 1
    assert asked[0] < 1100


def test_memory_is_bounded(store, monkeypatch):
    """Where much is waiting it is written without a flush."""
    monkeypatch.setattr(database, "_WAITING", 100_000)
    base, rng = Database(store), np.random.default_rng(0)
    made = [objects.encode_blob(rng.bytes(30_000)) for _ in range(10)]
    for encoded in made:
        base.put(encoded)
    assert len(bundle_paths(store)) == 2
    assert all(base.get(encoded.id) == canonical(encoded) for encoded in made)


def test_a_bundle_that_another_process_wrote_is_found(store):
    """A reader that has looked already looks again for what it does not know."""
    reader, writer = Database(store), Database(store)
    put_all(writer, [blob("early")])
    assert reader.has(blob("early").id)
    put_all(writer, [blob("late")])
    assert reader.get(blob("late").id) == canonical(blob("late"))
    assert Database(store).has(blob("late").id)
    assert not reader.has(blob("never").id)
    with pytest.raises(NotFoundError, match=f"object {blob('never').id[:12]} is missing from the repository"):
        reader.get(blob("never").id)


def test_ids_by_their_first_digits(store):
    """Files, bundles and what waits are listed together, each once, in order."""
    base = Database(store)
    made = versions(3) + [blob(str(n)) for n in range(100)]
    put_all(base, made)
    base.put(blob("waiting"))
    every = sorted(each.id for each in [*made, blob("waiting")])
    assert list(base.ids()) == every
    for prefix in (every[0][:2], every[50][:3], every[99]):
        assert list(base.ids(prefix)) == [id_ for id_ in every if id_.startswith(prefix)]


# merging bundles


@pytest.fixture
def few(monkeypatch):
    """Let five bundles be many."""
    monkeypatch.setattr(small, "MOST_BUNDLES", 5)


def test_many_bundles_become_few(store, few):
    """Past the limit a flush merges them; all objects stay, for old readers as well."""
    base, reader = Database(store), Database(store)
    made = [blob(str(n)) for n in range(23)]
    for encoded in made:
        put_all(base, [encoded])
        assert len(bundle_paths(store)) <= 6
        assert reader.has(encoded.id)
    for each in (base, reader, Database(store)):
        assert all(each.get(encoded.id) == canonical(encoded) for encoded in made)
        assert len(list(each.ids())) == 23


def test_a_merge_that_dies_loses_nothing(disk, few, monkeypatch):
    """Killed after the merged bundle is written or between removals, everything is there, some of it twice."""
    base = Database(disk)
    for n in range(5):
        put_all(base, [blob(str(n))])
    removed = []

    def die(path: str) -> bool:
        if len(removed) == 2:
            raise KeyboardInterrupt
        removed.append(path)
        return Store.delete(disk, path)

    monkeypatch.setattr(disk, "delete", die)
    with pytest.raises(KeyboardInterrupt):
        put_all(base, [blob("5")])
    monkeypatch.undo()
    later = Database(disk)
    assert all(later.get(blob(str(n)).id) == canonical(blob(str(n))) for n in range(6))


def test_the_merged_bundle_is_there_before_the_others_go(disk, few, monkeypatch):
    """No removal happens before a bundle that is on the disk holds the objects."""
    base = Database(disk)
    for n in range(5):
        put_all(base, [blob(str(n))])
    left = []
    real = disk.delete
    monkeypatch.setattr(disk, "delete", lambda path: left.append(check_all(disk)) or real(path))

    def check_all(store: Store) -> bool:
        merged = max(store.listing("bundles"), key=lambda stat: stat.size)
        return merged.size > 300

    put_all(base, [blob("5")])
    assert left == [True] * 6


def test_bundles_with_the_same_objects_survive_their_merge(disk, few):
    """Where the merged bundle equals one of its sources, that one stays."""
    everything = [blob(str(n)) for n in range(6)]
    put_all(Database(disk), everything)
    for n in range(6):
        lonely = Store.in_memory()
        put_all(Database(lonely), [everything[n]])
        (path,) = bundle_paths(lonely)
        disk.create(path, [lonely.get(path)])
    base = Database(disk)
    put_all(base, [blob("0")])
    base.consolidate(1)
    assert len(bundle_paths(disk)) == 1
    assert all(Database(disk).has(encoded.id) for encoded in everything)


def test_large_bundles_are_not_merged_again(store, few, monkeypatch):
    """What has grown large stays, so that a long history is not copied over and over."""
    monkeypatch.setattr(small, "_LARGE", 3_000)
    base, rng = Database(store), np.random.default_rng(0)
    large = objects.encode_blob(rng.bytes(5_000))
    put_all(base, [large])
    (first,) = bundle_paths(store)
    for n in range(20):
        put_all(base, [blob(str(n))])
    assert first in bundle_paths(store)
    assert len(bundle_paths(store)) < 10


MERGER = """
import sys
from pathlib import Path
from fedloom.versions import objects, small
from fedloom.versions.database import Database
from fedloom.versions.store import Store
small.MOST_BUNDLES = 4
base = Database(Store.on_disk(Path(sys.argv[1])))
for n in range(60):
    base.put(objects.encode_blob(f"{sys.argv[2]} {n}".encode()))
    base.flush()
    base.get(objects.encode_blob(f"{sys.argv[2]} {n // 2}".encode()).id)
"""


def test_processes_that_merge_at_once_lose_nothing(disk, tmp_path):
    """Three processes write, merge each other's bundles away and read; all objects of all are there at the end."""
    running = [subprocess.Popen([sys.executable, "-c", MERGER, str(tmp_path / "store"), str(k)]) for k in range(3)]
    assert [process.wait(timeout=60) for process in running] == [0, 0, 0]
    base = Database(disk)
    for k in range(3):
        for n in range(60):
            assert base.get(blob(f"{k} {n}").id) == canonical(blob(f"{k} {n}"))
    assert len(bundle_paths(disk)) < 20


# differences


def test_versions_are_differences_to_a_keyframe(store):
    """A keyframe every eight versions, the others against it at their distance, and all come back bit by bit."""
    base, made = Database(store), versions(2 * KEYFRAME_EVERY + 1)
    put_all(base, made)
    forms = [form_of(store, encoded) for encoded in made]
    for number, form in enumerate(forms):
        keyframe = made[number - number % KEYFRAME_EVERY]
        assert form.base == (None if made[number] is keyframe else keyframe.id)
        assert form.distance == number % KEYFRAME_EVERY
    for reader in (base, Database(store)):
        assert all(reader.get(encoded.id) == canonical(encoded) for encoded in made)


@pytest.mark.parametrize("like", ["unknown", "small", "other shape", "corrupt", "missing keyframe"])
def test_an_earlier_version_that_is_no_use_is_no_harm(store, like):
    """Whatever `like` names, the object is stored and comes back."""
    base, (first, second, third) = Database(store), versions(3)
    put_all(base, [first, second])
    other = objects.encode_tensor(np.zeros((2, 15_000), np.float32))
    put_all(base, [other])
    base.put(blob("small"))
    named = {"unknown": Digest("ab" * 32), "small": blob("small").id, "other shape": other.id, "corrupt": first.id}
    if like == "corrupt":
        store.replace(file_of(first), [store.get(file_of(first))[:-9] + b"\0" * 9])
    if like == "missing keyframe":
        store.delete(file_of(first))
    base.put(third, named.get(like, second.id))
    assert form_of(store, third).base is None
    assert Database(store).get(third.id) == canonical(third)


def test_a_keyframe_cleared_out_meanwhile_is_noticed(store):
    """Where the keyframe goes while the difference is written, the object is written anew without it."""
    base, (first, second) = Database(store), versions(2)
    put_all(base, [first])
    real = store.create
    store.create = lambda path, *rest, **options: real(path, *rest, **options) and store.delete(file_of(first))
    base.put(second, first.id)
    assert Database(store).get(second.id) == canonical(second)


def test_a_difference_whose_keyframe_is_gone_is_mended_by_a_put(store):
    """A version that cannot be read any more is stored anew by whoever has it."""
    base, (first, second) = Database(store), versions(2)
    put_all(base, [first, second])
    store.delete(file_of(first))
    told = f"is stored as a difference to {first.id[:12]}, which is missing or corrupt"
    with pytest.raises(CorruptObjectError, match=told):
        base.get(second.id)
    base.put(second)
    assert base.get(second.id) == canonical(second)


def test_ids_and_bytes_do_not_depend_on_threads(tmp_path):
    """Stored by one thread or by eight, the same objects lie under the same names in the same forms."""
    made = [versions(3, seed=seed) for seed in range(6)]
    stores = [Store.on_disk(tmp_path / str(threads)) for threads in (1, 8)]
    for store, threads in zip(stores, (1, 8), strict=True):
        base = Database(store)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda line, base=base: put_all(base, line), made))
            list(pool.map(base.put, [blob(str(n % 7)) for n in range(50)]))
        base.flush()
    one, other = ({path: store.get(path) for path in store.paths("objects")} for store in stores)
    assert one == other
    assert list(Database(stores[0]).ids()) == list(Database(stores[1]).ids())


def test_the_caller_may_change_an_array_after_it_was_put(store):
    """What is stored is what was there when `put` was called, in a file or waiting for a flush."""
    repository = Repository(store)
    arrays = {name: np.ones(size, np.float32) for name, size in (("large", 40_000), ("small", 40))}
    tree = repository.add_tensors(arrays)
    for array in arrays.values():
        array[:] = 2
    repository.database.flush()
    assert all((found == 1).all() for found in Repository(store).tensors(tree.id).values())


# damage and power cuts


@pytest.mark.parametrize("damage", [b"", b"fls", "half", "zeros"])
def test_a_file_cut_off_by_a_power_cut_is_written_anew(disk, damage):
    """It is no object for `has`, corrupt for `get`, and whole again after the next put."""
    (encoded,) = versions(1)
    put_all(Database(disk), [encoded])
    good = disk.get(file_of(encoded))
    bad = {"half": good[: len(good) // 2], "zeros": bytes(len(good))}.get(damage, damage)
    disk.replace(file_of(encoded), [bad])
    base = Database(disk)
    assert not base.has(encoded.id)
    with pytest.raises(CorruptObjectError, match=f"object {encoded.id[:12]} is corrupt: .*Restore objects/"):
        base.get(encoded.id)
    put_all(base, [encoded])
    assert base.has(encoded.id)
    assert disk.get(file_of(encoded)) == good


@pytest.mark.parametrize("keep", [0, 3, 60, 600, -1])
def test_a_bundle_that_was_cut_off_is_written_anew(disk, keep):
    """Its objects are missed, not misread; what can still be read is; the next put and flush bring all back."""
    made = [blob("y" * 200 + str(n)) for n in range(10)]
    put_all(Database(disk), made)
    (path,) = bundle_paths(disk)
    good = disk.get(path)
    disk.replace(path, [good[:keep]])
    base = Database(disk)
    assert base.damaged() == [path]
    readable = [encoded for encoded in made if base.has(encoded.id)]
    assert len(readable) < 10
    assert all(base.get(encoded.id) == canonical(encoded) for encoded in readable)
    put_all(base, made)
    for reader in (base, Database(disk)):
        assert all(reader.get(encoded.id) == canonical(encoded) for encoded in made)


def test_a_bundle_of_the_same_objects_that_was_cut_off_is_replaced(disk):
    """The new bundle has the name of the broken one and takes its place."""
    put_all(Database(disk), [blob("a"), blob("b")])
    (path,) = bundle_paths(disk)
    good = disk.get(path)
    disk.replace(path, [good[:20]])
    base = Database(disk)
    put_all(base, [blob("a"), blob("b")])
    assert disk.get(path) == good
    assert base.damaged() == []
    assert base.get(blob("a").id) == canonical(blob("a"))


def test_damage_in_a_bundle_is_one_sentence(disk):
    """A flipped bit in a stored object is corrupt under its own id, and names the file to restore."""
    encoded = blob("z" * 500)
    put_all(Database(disk), [encoded, blob("other")])
    (path,) = bundle_paths(disk)
    good = bytearray(disk.get(path))
    place = Database(disk)._small._known()[encoded.id][1]
    for at in range(place.start, place.start + place.size):
        bad = bytearray(good)
        bad[at] ^= 0x20
        disk.replace(path, [bad])
        with pytest.raises(CorruptObjectError, match=rf"object {encoded.id[:12]} is .*(Restore {path}|upgrade)"):
            Database(disk).get(encoded.id)
        assert Database(disk).get(blob("other").id) == canonical(blob("other"))


def test_check_gives_the_reason(store):
    """None for a sound object; a sentence for a missing one, a damaged one, and one whose keyframe is damaged."""
    base, (first, second) = Database(store), versions(2)
    put_all(base, [first, second])
    assert base.check(second.id) is None
    assert "is missing" in str(base.check(Digest("00" * 32)))
    good = store.get(file_of(first))
    store.replace(file_of(first), [good[:-40] + bytes(40)])
    assert file_of(first) in str(base.check(first.id))
    assert file_of(first) in str(base.check(second.id))


class PowerCut:
    """Watches what is brought to the disk; `cut` takes away everything else, as a power cut may.

    A file that was not synced becomes empty; a name in a folder that was not synced since is gone.
    """

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.folder = folder
        self.files: set[int] = set()
        self.names: dict[int, set[str]] = {}
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._watched)

    def _watched(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            self.names[found.st_ino] = set(os.listdir(descriptor))
        else:
            self.files.add(found.st_ino)

    def names_reach_the_disk(self, *folders: Path) -> None:
        for folder in folders:
            self.names[folder.stat().st_ino] = {found.name for found in folder.iterdir()}

    def cut(self) -> None:
        self._cut(self.folder)

    def _cut(self, folder: Path) -> None:
        kept = self.names.get(folder.stat().st_ino, set())
        for found in folder.iterdir():
            if found.name not in kept:
                shutil.rmtree(found) if found.is_dir() else found.unlink()
            elif found.is_dir():
                self._cut(found)
            elif found.stat().st_ino not in self.files:
                found.write_bytes(b"")


def commit(repository: Repository, number: int, tip: Digest | None) -> Digest:
    rng = np.random.default_rng(0)
    model = {f"w{n}": (rng.normal(size=20_000) + 1e-4 * number * n).astype(np.float32) for n in range(4)}
    model |= {f"b{n}": np.full(100, number + n, np.float32) for n in range(4)}
    like = None if tip is None else repository.tree(repository.tree(repository.commit(tip).tree)["model"].id)
    tree = repository.add_tree({"model": repository.add_tensors(model, like)})
    new = repository.add_commit(Commit(tree.id, (tip,) if tip else (), "round", "m", {"round": number}))
    repository.refs.compare_and_set("runs/1", tip, new, "round")
    return new


def test_what_a_ref_names_outlives_a_power_cut(tmp_path, monkeypatch):
    """After each commit everything the ref needs is on the disk, files and folders: the history is whole."""
    repository = Repository.at(tmp_path)
    power = PowerCut(tmp_path / FOLDER, monkeypatch)
    tip = None
    for number in range(10):
        tip = commit(repository, number, tip)
    power.cut()
    later = Repository.at(tmp_path)
    found = [(each.facts["round"], later.model(id_)) for id_, each in later.log(later.resolve("runs/1"))]
    assert [number for number, _ in found] == list(range(9, -1, -1))
    assert all(len(model) == 8 and model["b1"][0] == number + 1 for number, model in found)


def test_what_was_cut_off_before_its_commit_is_mended_by_the_next_try(tmp_path, monkeypatch):
    """Tensors written but never flushed are empty files after the cut; the round done again is whole."""
    first = Repository.at(tmp_path)
    power = PowerCut(tmp_path / FOLDER, monkeypatch)
    tip = commit(first, 0, None)
    arrays = {f"w{n}": np.random.default_rng(n).normal(size=20_000) for n in range(3)}
    first.add_tensors(arrays)
    power.names_reach_the_disk(tmp_path / FOLDER / "objects", *(tmp_path / FOLDER / "objects").iterdir())
    power.cut()
    assert any(path.stat().st_size == 0 for path in (tmp_path / FOLDER / "objects").rglob("*"))
    later = Repository.at(tmp_path)
    tree = later.add_tensors(arrays)
    later.database.flush()
    assert all((later.tensors(tree.id)[name] == array).all() for name, array in arrays.items())
    assert later.resolve("runs/1") == tip


def test_what_another_process_wrote_is_brought_to_the_disk_too(tmp_path, monkeypatch):
    """An object found there may not be on the disk yet: whoever names it sees to that itself."""
    (encoded,) = versions(1)
    store = Store.on_disk(tmp_path / "store")
    power = PowerCut(tmp_path / "store", monkeypatch)
    Database(Store.on_disk(tmp_path / "store")).put(encoded)  # and never flushes
    mine = Database(store)
    put_all(mine, [encoded])
    power.cut()
    assert Database(store).get(encoded.id) == canonical(encoded)


def test_a_full_disk_is_told_and_nothing_is_lost(disk, monkeypatch):
    """A put whose file cannot be written, and a flush whose bundle cannot, say so; done again they keep everything."""
    base, (encoded,) = Database(disk), versions(1)
    base.put(blob("waits"))
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StorageError, match="the disk is full: free some space"):
        base.put(encoded)
    with pytest.raises(StorageError, match="the disk is full: free some space"):
        base.flush()
    assert [path for path in Path(disk._place).rglob("*") if path.is_file()] == []
    monkeypatch.setattr(os, "writev", real)
    put_all(base, [encoded])
    assert Database(disk).get(blob("waits").id) == canonical(blob("waits"))
    assert Database(disk).get(encoded.id) == canonical(encoded)


def test_a_disk_that_fills_up_half_way_through_a_file(disk, monkeypatch):
    """A write that ends in the middle leaves no file, not even a half one beside the name."""
    (encoded,) = versions(1)
    real, calls = os.writev, []

    def half(descriptor, parts):
        if calls:
            raise OSError(28, "No space left on device")
        calls.append(1)
        return real(descriptor, [bytes(parts[0])[:10]])

    monkeypatch.setattr(os, "writev", half)
    with pytest.raises(StorageError):
        Database(disk).put(encoded)
    assert [path for path in Path(disk._place).rglob("*") if path.is_file()] == []


# looking after


def test_held_lists_every_stored_object(store):
    """Each with the bytes it takes, its file and its keyframe; what waits is not listed."""
    base, (first, second) = Database(store), versions(2)
    put_all(base, [first, second, blob("small")])
    base.put(blob("waiting"))
    held = {found.id: found for found in base.held()}
    assert held.keys() == {first.id, second.id, blob("small").id}
    assert (held[second.id].base, held[first.id].base) == (first.id, None)
    assert held[first.id].size == len(store.get(file_of(first)))
    assert held[first.id].place == file_of(first)
    assert held[blob("small").id].place == bundle_paths(store)[0]
    assert held[blob("small").id].modified.tzinfo is not None


def test_discard_removes_and_says_how_much(store):
    """Files go, bundles are written without the objects; the bytes said to be freed are those that are."""
    base, made = Database(store), versions(2, seed=1)
    put_all(base, [*made, *(blob(str(n)) for n in range(20))])
    put_all(base, [blob("alone")])
    before = sum(stat.size for stat in store.listing(""))
    gone = [made[1].id, blob("3").id, blob("alone").id, Digest("00" * 32)]
    freed = base.discard(gone)
    assert freed == before - sum(stat.size for stat in store.listing(""))
    assert freed > 0
    for reader in (base, Database(store)):
        assert not any(reader.has(id_) for id_ in gone)
        assert reader.get(made[0].id) == canonical(made[0])
        assert all(reader.has(blob(str(n)).id) for n in range(20) if n != 3)
    assert base.discard(gone) == 0
    base.put(blob("3"))
    base.flush()
    assert base.has(blob("3").id)


def test_discard_of_a_keyframe_keeps_its_versions(store):
    """Differences to it are stored anew, the first of them as the keyframe of the others; all come back."""
    base, made = Database(store), versions(6)
    put_all(base, made)
    before = sum(stat.size for stat in store.listing(""))
    freed = base.discard([made[0].id, made[3].id])
    assert freed == before - sum(stat.size for stat in store.listing(""))
    kept = [made[1], made[2], made[4], made[5]]
    assert all(Database(store).get(encoded.id) == canonical(encoded) for encoded in kept)
    assert [form_of(store, encoded).base for encoded in kept] == [None, *[made[1].id] * 3]
    assert [form_of(store, encoded).distance for encoded in kept] == [0, 1, 3, 4]
    assert not base.has(made[0].id)


def test_a_keyframe_that_was_cut_off_is_written_as_a_keyframe(disk):
    """Though it could be a difference itself: what is stored as a difference to it can be read again."""
    base, (early, keyframe, late) = Database(disk), versions(3)
    put_all(base, [early])
    base.put(keyframe)
    base.put(late, keyframe.id)
    base.flush()
    assert form_of(disk, late).base == keyframe.id
    disk.replace(file_of(keyframe), [disk.get(file_of(keyframe))[:5000]])
    again = Database(disk)
    again.put(keyframe, early.id)
    again.flush()
    for encoded in (early, keyframe, late):
        assert again.get(encoded.id) == canonical(encoded)


@pytest.mark.parametrize("whole", [True, False])
def test_a_file_that_another_process_wrote_at_the_same_moment(disk, monkeypatch, whole):
    """It may not be on the disk, so our flush brings it there; where it is cut off, it is mended."""
    (encoded,) = versions(1)
    Database(disk).put(encoded)
    if not whole:
        disk.replace(file_of(encoded), [disk.get(file_of(encoded))[:5000]])
    mine = Store.on_disk(Path(disk._place))
    base, looked = Database(mine), []
    form = base._form
    monkeypatch.setattr(base, "_form", lambda id_: form(id_) if looked else looked.append(id_))  # a moment too early
    base.put(encoded)
    synced = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda number: synced.append(Path(f"/proc/self/fd/{number}").readlink()))
    base.flush()
    monkeypatch.setattr(os, "fdatasync", real)
    assert base.get(encoded.id) == canonical(encoded)
    assert [place.name for place in synced] == ([encoded.id] if whole else [])  # what is replaced is durable


def test_a_bundle_that_is_there_already_is_left(store):
    """Whoever writes the same objects again, in another process, writes the same file."""
    first, second = (small.SmallObjects(store) for _ in range(2))
    items = {blob("a").id: b"a"}
    assert first.write(items) == second.write(items)
    assert len(bundle_paths(store)) == 1


def test_discard_in_order_frees_what_it_says(store):
    """Small and large objects, among those that stay, in whatever bundles."""
    rng = np.random.default_rng(0)
    base, large = Database(store), objects.encode_blob(rng.bytes(100_000))
    put_all(base, [large, *(blob(str(n)) for n in range(20))])
    put_all(base, [blob("alone")])
    put_all(base, [blob("5"), blob("other")])
    before = sum(stat.size for stat in store.listing(""))
    gone = [blob("alone").id, large.id, *(blob(str(n)).id for n in range(10))]
    freed = base.discard_in_order(gone)
    assert freed == before - sum(stat.size for stat in store.listing("")) > 0
    for reader in (base, Database(store)):
        assert sorted(reader.ids()) == sorted([blob("other").id, *(blob(str(n)).id for n in range(10, 20))])
        assert not any(reader.has(id_) for id_ in gone)
    assert base.discard_in_order([]) == 0


def test_discard_of_what_waits(store):
    """What was put a moment ago goes as well."""
    base = Database(store)
    base.put(blob("a"))
    base.put(blob("b"))
    base.discard([blob("a").id])
    assert not base.has(blob("a").id)
    assert Database(store).has(blob("b").id)


def test_a_reader_of_a_bundle_that_was_rewritten_finds_the_new_one(store):
    """Another process discards an object; those that knew the old bundle read the others from the new one."""
    reader, other = Database(store), Database(store)
    put_all(other, [blob("a"), blob("b")])
    assert reader.has(blob("a").id)
    other.discard([blob("a").id])
    assert reader.get(blob("b").id) == canonical(blob("b"))
    assert not reader.has(blob("a").id)


def test_what_another_process_discarded_is_stored_again(store):
    """A writer that saw an object once does not believe for ever that it is there."""
    writer, other = Database(store), Database(store)
    (large,) = versions(1)
    put_all(writer, [blob("a"), blob("b"), large])
    other.discard([blob("a").id, large.id])
    put_all(writer, [blob("a"), large])
    assert Database(store).get(blob("a").id) == canonical(blob("a"))
    assert Database(store).get(large.id) == canonical(large)


def test_an_object_put_again_counts_as_used_now(disk):
    """What was written long ago and is put again is young for whoever clears out the old; so is its keyframe."""
    base, (first, second) = Database(disk), versions(2)
    put_all(base, [first, second, blob("small")])
    for path in Path(disk._place).rglob("*"):
        os.utime(path, (1e9, 1e9))
    assert max(found.modified.year for found in base.held()) == 2001
    put_all(base, [second, blob("small")])
    assert min(found.modified.year for found in base.held()) > 2001


def test_reading_touches_nothing(disk):
    """Asking and reading work in a folder that may not be written, however old it is."""
    put_all(Database(disk), [*versions(2), blob("small")])
    before = list(Path(disk._place).rglob("*"))
    for path in before:
        os.utime(path, (1e9, 1e9))
    base = Database(disk)
    for id_ in list(base.ids()):
        assert base.has(id_)
        base.get(id_)
        assert base.check(id_) is None
    assert all(path.stat().st_mtime == 1e9 for path in before)
