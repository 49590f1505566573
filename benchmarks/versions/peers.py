"""The peers, each as its own users run it.

Rules: a command line tool is timed as a whole process; a library inside a process that has just started. Nothing here
uses the network but `pip`, which fills the peers' environment once. No peer flushes to the disk; fedloom does, and so
does `copy_flushed`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from filecmp import cmp
from pathlib import Path

import zstandard
from measuring import folder_bytes, timed
from tool import HERE, Read, Tool, Worker, json_of

PACKAGES = ("dvc>=3.67,<4", "icechunk>=1.1,<2", "zarr>=3.1,<4", "safetensors>=0.4")
"""Icechunk 2 needs Python 3.12."""
FILE = "model.safetensors"
WRITERS, COMMITS = 4, 15


@dataclass(frozen=True)
class Absent:
    """The tool is not installed here; the bench says so and goes on."""

    why: str


@dataclass
class FileTool:
    """A tool that keeps whole files."""

    folder: Path
    commits: list[str] = field(default_factory=list)

    def commit(self, checkpoints: Sequence[Path], seconds: float) -> list[float]:
        """Put each file in its place (not timed), then commit it."""
        took: list[float] = []
        until = time.monotonic() + seconds
        for path in checkpoints:
            self._place(path)
            ms, id_ = timed(self._commit)
            took.append(ms)
            self.commits.append(id_)
            if time.monotonic() > until:
                break
        return took

    def checkout(self, number: int, expected: Path) -> Read:
        """Bring back the file of a commit."""
        ms, _ = timed(lambda: self._checkout(self.commits[number]))
        assert cmp(self.folder / FILE, expected, shallow=False), "the file did not come back bit by bit"
        return Read(ms)

    def tensor(self, number: int, expected: Path, name: str) -> float | None:  # noqa: ARG002
        """A file is read whole."""
        return None

    def push(self) -> int | None:
        """Without a remote, nothing."""
        return None

    def stored(self) -> int:
        """Weigh everything but the file in its place."""
        return folder_bytes(self.folder) - (self.folder / FILE).stat().st_size

    def _place(self, path: Path) -> None:
        shutil.copyfile(path, self.folder / FILE)

    def _commit(self) -> str:
        raise NotImplementedError

    def _checkout(self, id_: str) -> None:
        raise NotImplementedError


class Copy(FileTool):
    """A copy of the file for each version: what the disk itself takes."""

    flushed = False

    def _commit(self) -> str:
        name = f"version-{len(self.commits)}"
        shutil.copyfile(self.folder / FILE, self.folder / name)
        if self.flushed:
            with (self.folder / name).open("rb") as file:
                os.fsync(file.fileno())
        return name

    def _checkout(self, id_: str) -> None:
        shutil.copyfile(self.folder / id_, self.folder / FILE)


class CopyFlushed(Copy):
    """The same, safe from a power cut."""

    flushed = True


class Zstd(FileTool):
    """The file compressed by zstd level 3, in this process."""

    def _commit(self) -> str:
        name = f"version-{len(self.commits)}"
        data = (self.folder / FILE).read_bytes()
        (self.folder / name).write_bytes(zstandard.ZstdCompressor(level=3).compress(data))
        return name

    def _checkout(self, id_: str) -> None:
        data = (self.folder / id_).read_bytes()
        (self.folder / FILE).write_bytes(zstandard.ZstdDecompressor().decompress(data))


class Git(FileTool):
    """What the tools beside git share. They see an empty home, so nobody's settings count."""

    def __init__(self, folder: Path, binaries: Path | None = None) -> None:
        super().__init__(folder)
        self.home = folder.with_name(f"{folder.name}-home")
        self.remote = folder.with_name(f"{folder.name}-remote")
        for made in (self.home, self.remote):
            made.mkdir(parents=True)
        path = os.environ["PATH"] if binaries is None else f"{binaries}{os.pathsep}{os.environ['PATH']}"
        who = {f"GIT_{role}_{part}": "bench" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
        tools = {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(self.home), "DVC_GLOBAL_CONFIG_DIR": str(self.home)}
        self.env = {"PATH": path, "HOME": str(self.home), "GIT_CONFIG_NOSYSTEM": "1", "LANG": "C", **who, **tools}
        self.run("git", "init", "--quiet", "--template=", "--initial-branch=main")
        self.set_up()
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message=set up")
        self.empty = folder_bytes(folder)

    def set_up(self) -> None:
        """Make the folder the tool's."""

    def stored(self) -> int:
        """Weigh what the commits added."""
        return super().stored() - self.empty

    def run(self, *command: str) -> str:
        """Run a command in the folder; gives what it printed."""
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
        return done.stdout.strip()

    def _tip(self) -> str:
        return (self.folder / ".git" / "refs" / "heads" / "main").read_text().strip()


class Lfs(Git):
    """Git with git-lfs."""

    def set_up(self) -> None:
        """Track the model's file; the remote is a bare repository beside it."""
        self.run("git", "init", "--quiet", "--bare", "--template=", str(self.remote))
        self.run("git", "lfs", "install", "--local")
        self.run("git", "lfs", "track", FILE)
        self.run("git", "remote", "add", "origin", self.remote.as_uri())

    def push(self) -> int | None:
        """Send the branch and what it names."""
        before = folder_bytes(self.remote)
        self.run("git", "push", "--quiet", "origin", "main")
        return folder_bytes(self.remote) - before

    def _commit(self) -> str:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message=round")
        return self._tip()

    def _checkout(self, id_: str) -> None:
        self.run("git", "checkout", "--quiet", id_, "--", FILE)


class Dvc(Git):
    """Git with DVC, which keeps copies of whole files in its cache."""

    def set_up(self) -> None:
        """Make the folder DVC's, without looking for news; the remote is a folder beside it."""
        self.run("dvc", "init", "--quiet")
        self.run("dvc", "config", "core.analytics", "false")
        self.run("dvc", "config", "core.check_update", "false")
        self.run("dvc", "remote", "add", "--quiet", "--default", "there", str(self.remote))

    def push(self) -> int | None:
        """Send what the cache has and the remote lacks."""
        before = folder_bytes(self.remote)
        self.run("dvc", "push", "--quiet")
        return folder_bytes(self.remote) - before

    def _commit(self) -> str:
        self.run("dvc", "add", "--quiet", FILE)
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message=round")
        return self._tip()

    def _checkout(self, id_: str) -> None:
        self.run("git", "checkout", "--quiet", id_, "--", f"{FILE}.dvc")
        self.run("dvc", "checkout", "--quiet", "--force", f"{FILE}.dvc")


def icechunk_race(tool: Tool) -> tuple[int, int]:
    """Let processes commit to one branch; give how many commits were acknowledged and how many of them are gone."""
    assert isinstance(tool, Worker)
    done = json_of([*tool.command, "race", str(tool.folder), str(WRITERS), str(COMMITS)])
    return done["acknowledged"], done["lost"]


Maker = Callable[[Path], Tool]


def peers(venv: Path | None, why: str) -> dict[str, Maker | Absent]:
    """List every peer: how to make one in a new folder, or why it is not here. `venv` has DVC and icechunk, if any."""
    has_lfs = subprocess.run(["git", "lfs", "version"], capture_output=True, check=False).returncode == 0
    found: dict[str, Maker | Absent] = {"copy": Copy, "copy_flushed": CopyFlushed, "zstd": Zstd}
    found["git_lfs"] = Lfs if has_lfs else Absent("`git lfs version` fails: install git-lfs")
    if venv is None:
        return found | {name: Absent(why) for name in ("dvc", "icechunk", "icechunk_tuned")}
    command = [str(venv / "bin" / "python"), str(HERE / "icechunk_worker.py")]
    return found | {
        "dvc": lambda folder: Dvc(folder, venv / "bin"),
        "icechunk": lambda folder: Worker(command, folder, ["plain"]),
        "icechunk_tuned": lambda folder: Worker(command, folder, ["tuned"]),
    }


def environment(folder: Path) -> tuple[Path | None, str]:
    """Fill an environment with the Python peers, once; gives None, and why, where that fails."""
    python = folder / "bin" / "python"
    if _imports(python):
        return folder, ""
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True, timeout=120)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES], check=True, capture_output=True, text=True, timeout=900)
    except (OSError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", None) or str(error)
        return None, f"pip could not install it: {str(told).strip().splitlines()[-1]}"
    return folder, ""


def versions(venv: Path | None) -> dict[str, str]:
    """Name the versions of the peers that are here."""
    found = {}
    lfs = subprocess.run(["git", "lfs", "version"], capture_output=True, text=True, check=False)
    if lfs.returncode == 0:
        found["git-lfs"] = lfs.stdout.split()[0].partition("/")[2]
    if venv is not None:
        found |= json_of([str(venv / "bin" / "python"), "-c", _VERSIONS])
    return found


_VERSIONS = """
import importlib.metadata, json
print(json.dumps({name: importlib.metadata.version(name) for name in ("dvc", "icechunk", "zarr")}))
"""


def _imports(python: Path) -> bool:
    if not python.exists():
        return False
    code = "import dvc, icechunk, safetensors, zarr"
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0
