"""Work that is cut off: processes that are killed while they write, and a disk whose power or space ends.

`Children` keeps one process that has imported everything and forks a child for each piece of work, so that killing
fifty of them takes seconds.
"""

import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from fedloom.errors import ConflictError, NotFoundError
from fedloom.values import Digest
from fedloom.versions.disk import Disk
from fedloom.versions.remotes import addresses, sync
from fedloom.versions.repository import Repository
from fedloom.versions.store import Store
from fedloom.versions.upkeep.erase import choose_path, erase
from fedloom.versions.upkeep.gc import gc
from tests.versions.upkeep.repositories import commit, folded, model, on_disk

ROOT = Path(__file__).parents[2]
MAIN = "heads/main"
NOW = timedelta()

Ack = Callable[[Digest], None]


def committing(content: Repository, ack: Ack) -> None:
    """Commit a model with a large and a small tensor."""
    _acknowledged(content, ack, commit(content, _seed(content), *_tip(content)))


def folding(content: Repository, ack: Ack) -> None:
    """Commit a round that is a recipe."""
    tip = _tip(content)
    if not tip:
        committing(content, ack)
        return
    seed = _seed(content)
    _acknowledged(content, ack, folded(content, *tip, {"north": model(seed), "south": model(seed + 1)}))


def collecting(content: Repository, ack: Ack) -> None:
    """Leave garbage, commit, and collect; what the commit is a difference to may be garbage itself."""
    committing(content, ack)
    commit(content, _seed(content) + 1000, *_tip(content))
    tip = _tip(content)[0]
    alone = commit(content, _seed(content) + 2000, tip)
    content.refs.compare_and_set("heads/side", content.refs.get("heads/side"), alone, "made")
    gc(content, grace=NOW, reflog=NOW)


def consolidating(content: Repository, ack: Ack) -> None:
    """Commit, and merge the bundles."""
    committing(content, ack)
    content.database.consolidate(1)


def erasing(content: Repository, ack: Ack) -> None:
    """Commit a note and a recipe, and erase the note, an update, and the model that the round began with."""
    seed = _seed(content)
    note = content.add_blob(f"note {seed} ".encode() * 50)
    _acknowledged(content, ack, commit(content, seed, *_tip(content), note=note))
    folding(content, ack)
    for path, at in (("note", "HEAD~1"), ("receipts/north", "HEAD"), ("model/body", "HEAD~1")):
        erase(content, choose_path(content, path, at), who="ada", why="asked to")


def pushing(content: Repository, ack: Ack) -> None:
    """Commit twice and push."""
    for _ in range(2):
        committing(content, ack)
    if "copy" not in content.settings.read().remotes:
        addresses.add(content, "copy", f"{content.store._place}-copy")
    sync.push(content, "copy")


def racing(content: Repository, ack: Ack) -> None:
    """Commit what other processes commit at the same time, with and without a ref; then rest a little."""
    moment = 10_000 + int(time.time() * 4)
    commit(content, moment)  # garbage, until somebody commits the same
    note = content.add_json([os.getpid(), time.time()])
    tip = _tip(content)
    id_ = commit(content, moment, *tip, note=note)
    with suppress(ConflictError):
        content.refs.compare_and_set(MAIN, tip[0] if tip else None, id_, "made")
        ack(id_)
    content.lease.release()
    time.sleep(random.uniform(0.02, 0.1))  # noqa: S311


WORK = {deed.__name__: deed for deed in (committing, folding, collecting, consolidating, erasing, pushing)}


RACE = {racing.__name__: racing}


def _acknowledged(content: Repository, ack: Ack, id_: Digest) -> None:
    content.refs.compare_and_set(MAIN, content.refs.get(MAIN), id_, "made")
    ack(id_)


def _tip(content: Repository) -> list[Digest]:
    return [tip for tip in [content.refs.get(MAIN)] if tip]


def _seed(content: Repository) -> int:
    """Choose what to commit next: every commit differs from all before."""
    try:
        return len(content.refs.log(MAIN))
    except NotFoundError:
        return 0


class Children:
    """Starts a piece of work in a process of its own, over and over until that process is killed."""

    def __init__(self) -> None:
        code = "from tests.versions.crashing import serve; serve()"
        self._parent = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, work: str, folder: Path) -> int:
        """Start; gives the number of the process once it works."""
        self._say(f"{work} {folder}")
        return int(self._hear())

    def kill(self, pid: int) -> None:
        """Kill a process, and wait until it is gone."""
        self._say(f"kill {pid}")
        assert self._hear() == "9", "it ended by itself: see its error above"

    def close(self) -> None:
        self._parent.communicate()

    def _say(self, line: str) -> None:
        self._parent.stdin.write(line + "\n")
        self._parent.stdin.flush()

    def _hear(self) -> str:
        return self._parent.stdout.readline().strip()


def serve() -> None:
    """Fork a child for each line of standard input, or kill one."""
    for line in sys.stdin:
        word, argument = line.split()
        if word == "kill":
            os.kill(int(argument), 9)
            print(os.waitpid(int(argument), 0)[1], flush=True)  # noqa: T201  its answer
        elif child := os.fork():
            print(child, flush=True)  # noqa: T201  its answer
        else:
            _forever(word, Path(argument))


def _forever(work: str, folder: Path) -> None:
    """Work until killed, or until the server that forked this is gone: nobody must be left behind."""
    acknowledged = os.open(acks(folder), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    server = os.getppid()
    while os.getppid() == server:
        content = on_disk(folder)
        (WORK | RACE)[work](content, lambda id_: os.write(acknowledged, f"{id_}\n".encode()) and None)
        content.lease.release()
    os._exit(0)


def acks(folder: Path) -> Path:
    """Name the file that holds what was acknowledged."""
    return folder.with_name(f"{folder.name}.acks")


class Cut(Disk):
    """A disk that ends at its n-th write: by a power cut, or because it is full.

    how: `lost`: that write and all that was not flushed have no effect; `cut`: they leave half a file; `late`: they
    are whole; `full`: nothing is lost, but from then on nothing can be written.
    """

    def __init__(self, folder: Path, at: int, how: str) -> None:
        super().__init__(folder)
        self._last, self._how, self._root = at, how, folder
        self._unflushed: set[Path] = set()
        self.writes = 0

    def create(self, path, parts, *, durable):
        with self._counted(path):
            if not super().create(path, parts, durable=durable):
                return False
        if not durable:
            self._unflushed.add(self._root / path)
        return True

    def replace(self, path, parts):
        with self._counted(path):
            super().replace(path, parts)

    def delete(self, path):
        with self._counted(path):
            return super().delete(path)

    def sync(self):
        with self._counted(None):
            super().sync()
            self._unflushed.clear()

    def get(self, path):
        self._require_power()
        return super().get(path)

    def switch_off(self) -> None:
        """Cut the power now."""
        with suppress(OSError):
            self._end(None)

    @property
    def is_over(self) -> bool:
        return self.writes >= self._last

    def _require_power(self) -> None:
        if self.is_over and self._how != "full":
            raise OSError(errno.EIO, "the power is gone")

    @contextmanager
    def _counted(self, path: str | None) -> Iterator[None]:
        self._require_power()
        self.writes += 1
        if self._how == "full" and self.is_over:
            raise OSError(errno.ENOSPC, "no space left on device")
        is_last = self.writes == self._last
        if is_last and self._how == "lost":
            self._end(None)
        yield
        if is_last:
            self._end(path)

    def _end(self, path: str | None) -> None:
        """Do to what was not flushed what a power cut does."""
        at_risk = set(self._unflushed)
        if path is not None and path.startswith(("objects/", "bundles/")):
            at_risk.add(self._root / path)
        for file in at_risk if self._how != "late" else ():
            if file.exists() and self._how == "cut":
                os.truncate(file, file.stat().st_size // 2)
            elif self._how == "lost":
                file.unlink(missing_ok=True)
        raise OSError(errno.EIO, "the power is gone")


def cut(folder: Path, at: int, how: str) -> tuple[Repository, Cut]:
    """Open a repository on a disk that ends."""
    disk = Cut(folder, at, how)
    return Repository(Store(disk, str(folder))), disk


def reboot(folder: Path) -> Repository:
    """Open a repository anew: whatever held a lease is gone with its process."""
    for path in (*folder.glob("leases/*"), *folder.glob("clearing/*")):
        path.unlink(missing_ok=True)
    return on_disk(folder)
