"""Stores: the shared suite on disk and in memory, a disk that is full or locked, and a process killed while writing."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep

import pytest

from fedloom.errors import NotFoundError, StorageError
from fedloom.versions.store import Store
from tests.suites.store import StoreSuite


class TestDisk(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path):
        return Store.on_disk(tmp_path / "store")


class TestDiskInAnOddFolder(StoreSuite):
    """Spaces, accents and signs with a meaning in URLs are letters like others in a folder's name."""

    @pytest.fixture
    def store(self, tmp_path):
        return Store.on_disk(tmp_path / "Klinik Süd %20 #1?")


class TestMemory(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path):
        return Store.in_memory()


class TestUrl(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path):
        return Store.at(tmp_path.as_uri())


def python(code: str, *args: object, prefix: tuple[str, ...] = ()) -> dict:
    """Run a program and read the JSON it prints."""
    command = [*prefix, sys.executable, "-c", code, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


PREAMBLE = """
import json, os, sys
from pathlib import Path
from fedloom.errors import StorageError
from fedloom.versions.store import Store
folder = Path(sys.argv[1])
def told(deed, *given):
    try:
        return deed(*given)
    except StorageError as error:
        return str(error)
"""

SMALL_FILES_ONLY = f"""{PREAMBLE}
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store.on_disk(folder)
store.create("f/before", [b"kept"])
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
print(json.dumps({{
    "told": told(store.create, "f/big", [b"x" * 50_000]), "names": store.names("f"), "there": store.exists("f/big")
}}))
"""

FULL_DISK = f"""{PREAMBLE}
store = Store.on_disk(folder)
store.create("f/before", [b"kept"])
found = {{"told": told(store.create, "f/big", [b"x" * 5_000_000]), "names": store.names("f")}}
print(json.dumps({{**found, "on_disk": os.listdir(folder / "f"), "after": store.create("f/after", [b"small"])}}))
"""

NOBODY = f"""{PREAMBLE}
import fedloom.versions.store
store = Store.on_disk(folder / "open")
store.create("f/before", [b"kept"])
store.create("locked/secret", [b"?"])
(folder / "open/locked").chmod(0o700 if os.getuid() == 0 else 0)
(folder / "open/f").chmod(0o555)
if os.getuid() == 0:
    os.setuid(65534)
print(json.dumps({{
    "create": told(store.create, "f/after", [b"x"]), "get": told(store.get, "locked/secret"),
    "exists": told(store.exists, "locked/secret"), "names": told(store.names, "locked"),
    "paths": told(store.paths, "locked"), "open": str(told(Store.on_disk, folder / "open/f/new")),
    "before": store.get("f/before").decode(),
}}))
"""


def test_a_value_that_does_not_fit_leaves_nothing(tmp_path):
    """Past the file-size limit a create ends with a sentence, and no half of the value is to be seen."""
    found = python(SMALL_FILES_ONLY, tmp_path)
    assert "raise the file-size limit" in found["told"]
    assert "What was committed before is safe" in found["told"]
    assert (found["names"], found["there"]) == (["before"], False)
    store = Store.on_disk(tmp_path)
    assert store.get("f/before") == b"kept"
    assert store.create("f/big", [b"x" * 50_000])


def test_a_full_disk_says_so_and_gives_its_space_back(tmp_path):
    """On a full disk a create says what to do, and what it had written is gone; a value that fits still goes in."""
    mount = f'mount -t tmpfs -o size=1m none "{tmp_path}"'
    inside = ("unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh")
    try:
        subprocess.run([*inside, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a file system of one megabyte cannot be mounted here")
    found = python(FULL_DISK, tmp_path, prefix=inside)
    assert "the disk is full: free some space" in found["told"]
    assert (found["names"], found["on_disk"], found["after"]) == (["before"], ["before"], True)


def test_no_permission_says_so_whatever_is_asked():
    """Each way to use a folder that this user may not use ends with the same sentence."""
    with TemporaryDirectory() as name:  # not pytest's, which root keeps for itself: the program turns into nobody
        folder = Path(name)
        folder.chmod(0o755)
        found = python(NOBODY, folder)
        (folder / "open/locked").chmod(0o700)
        (folder / "open/f").chmod(0o755)
    assert found.pop("before") == "kept"
    for deed, told in found.items():
        assert "permission denied: make the folder writable for this user" in str(told), deed


@pytest.mark.parametrize("inside", ["", "deeper"])
def test_a_file_where_the_folder_should_be_is_refused(tmp_path, inside):
    """A store cannot be opened at or below a plain file."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=r"cannot use the version store at .*file"):
        Store.on_disk(tmp_path / "file" / inside)


@pytest.mark.parametrize("url", ["nonsense", "gopher://hole/x", "file:///absent/place"])
def test_an_unusable_url_is_refused_in_one_line(url):
    """Where there can be no store, one line says so."""
    with pytest.raises(StorageError) as caught:
        Store.at(url)
    assert str(caught.value).startswith(f"cannot use the version store at {url}: ")
    assert "\n" not in str(caught.value)


def test_a_file_in_the_way_is_one_line(tmp_path):
    """Where a value stands, no folder can: every verb says so without the backend's debugging notes."""
    store = Store.on_disk(tmp_path)
    store.create("a", [b"x"])
    for deed in (lambda: store.create("a/b", [b"y"]), lambda: store.get("a/b"), lambda: store.exists("a/b")):
        with pytest.raises(StorageError) as caught:
            deed()
        assert "\n" not in str(caught.value)


def test_what_a_killed_process_left_is_invisible(tmp_path):
    """The backend's half-written file is no value, is not listed, and does not keep the value from being written."""
    store = Store.on_disk(tmp_path)
    store.create("f/a", [b"x"])
    (tmp_path / "f/b#1").write_bytes(b"half")
    assert store.names("f") == ["a"]
    assert store.paths("") == ["f/a"]
    with pytest.raises(NotFoundError):
        store.get("f/b")
    assert store.create("f/b", [b"whole"])
    assert store.get("f/b") == b"whole"


@pytest.mark.parametrize("path", ["../out", "f/../../out", "/etc/out", "f//a", ".", "f/\0"])
def test_no_name_leads_out_of_the_folder(tmp_path, path):
    """A name with empty parts or dots is refused, whatever is done with it."""
    store = Store.on_disk(tmp_path / "store")
    deeds = (
        lambda: store.create(path, [b"x"]),
        lambda: store.replace(path, [b"x"]),
        lambda: store.get(path),
        lambda: store.delete(path),
        lambda: store.exists(path),
    )
    for deed in deeds:
        with pytest.raises(StorageError, match="is no name of a value"):
            deed()
    assert [found.name for found in tmp_path.iterdir()] == ["store"]


def test_a_disk_with_a_fault_is_told_and_asked_again(tmp_path, monkeypatch):
    """Where the disk does not take what was written the flush fails with a sentence; the next one tries again."""
    store = Store.on_disk(tmp_path)
    store.create("f/a", [b"x"], durable=False)
    real = os.fdatasync

    def fault(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fault)
    with pytest.raises(StorageError, match="the disk has a fault"):
        store.flush()
    synced = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: synced.append(real(descriptor)))
    store.flush()
    store.flush()
    assert len(synced) == 1


def test_folders_are_asked_again_after_a_fault(tmp_path, monkeypatch):
    """Where a flush fails before it comes to the folders, the next one brings them to the disk."""
    store = Store.on_disk(tmp_path)
    store.create("f/a", [b"x"], durable=False)

    def fault(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fault)
        with pytest.raises(StorageError, match="the disk has a fault"):
            store.flush()
    assert synced_folders(store, tmp_path, monkeypatch) == ["", "f"]


def test_what_was_deleted_is_gone_for_good_after_a_flush(tmp_path, monkeypatch):
    """The list of names of its folder is brought to the disk."""
    store = Store.on_disk(tmp_path)
    store.create("f/a", [b"x"])
    store.flush()
    assert synced_folders(store, tmp_path, monkeypatch) == []
    store.delete("f/a")
    store.delete("f/absent")
    assert synced_folders(store, tmp_path, monkeypatch) == ["f"]


def synced_folders(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flush, and list the folders that this brings to the disk."""
    found: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda number: found.append(str(Path(f"/proc/self/fd/{number}").readlink())))
        store.flush()
    return sorted(os.path.relpath(place, folder).removeprefix(".") for place in found)


def test_a_durable_value_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """First its bytes, then its name, then every folder above that is new."""
    store = Store.on_disk(tmp_path / "store")
    done: list[tuple[str, str]] = []

    def watched(name: str) -> None:
        real = getattr(os, name)

        def call(*given: object) -> None:
            place = str(given[-1]) if name == "link" else str(Path(f"/proc/self/fd/{given[0]}").readlink())
            done.append((name, Path(place).relative_to(tmp_path).as_posix().partition("#")[0]))
            real(*given)

        monkeypatch.setattr(os, name, call)

    watched("fsync")
    watched("link")
    store.create("a/b/c", [b"x"])
    assert done[:2] == [("fsync", "store/a/b/c"), ("link", "store/a/b/c")]
    assert sorted(done[2:]) == [("fsync", "store"), ("fsync", "store/a"), ("fsync", "store/a/b")]
    done.clear()
    store.create("a/b/d", [b"x"])
    assert done == [("fsync", "store/a/b/d"), ("link", "store/a/b/d"), ("fsync", "store/a/b")]


WRITER = """
import hashlib, sys
from itertools import count
from pathlib import Path
from fedloom.versions.store import Store
store = Store.on_disk(Path(sys.argv[1]))
for number in count():
    data = hashlib.sha256(str(number).encode()).digest() * 40_000
    store.create(f"f/{hashlib.sha256(data).hexdigest()}", [data[:1000], data[1000:]])
    print(number, flush=True)
"""


@pytest.mark.parametrize("after", [0.003, 0.011, 0.02, 0.05, 0.09])
def test_a_killed_process_leaves_whole_values_only(tmp_path, after):
    """After kill -9 among many creates, whatever is there is whole, and all that was reported is there."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        sleep(after)
    finally:
        writer.send_signal(signal.SIGKILL)
        reported = 1 + len(writer.communicate()[0].splitlines())
    store = Store.on_disk(tmp_path)
    names = store.names("f")
    assert len(names) in (reported, reported + 1)
    for name in names:
        assert hashlib.sha256(store.get(f"f/{name}")).hexdigest() == name
    left = [path for path in Path(tmp_path, "f").iterdir() if path.name not in names]
    assert all("#" in path.name for path in left)
