"""Small real projects for tests, and ways to run them: in this process, through `main`, or as a process of its own."""

import json
import os
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fedloom.local.federation import plan_local, run_local
from fedloom.local.scaffold import write_project
from fedloom.pipeline.events import Event, RunFinished
from fedloom.values import Digest
from fedloom.versions.repository import Repository
from fedloom.versions.store import Store

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # typer imports what click 9 will drop
    from fedloom.cli.main import main

FEDLOOM = (sys.executable, "-c", "from fedloom.cli.main import main; main()")


def project(folder: Path, *, rounds: int | None = None, gate: bool = True) -> Path:
    """Write the scaffold's project into `folder`/project: three sites, binary label, a learner file."""
    home = folder / "project"
    write_project(home)
    if rounds is not None:
        edit(home / "pipeline.yaml", "rounds: 20", f"rounds: {rounds}")
    if not gate:
        edit(home / "pipeline.yaml", "  gate: {require: [auc >= 0.7, participation == complete]}\n", "")
    return home


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text that stands in a file exactly once."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def allow(home: Path, policy: str) -> None:
    """Give a scaffold project a participation policy."""
    edit(
        home / "pipeline.yaml",
        "# participation: {min_sites: 2, require: [north], deadline: 30s}",
        f"participation: {policy}",
    )


def made_project(
    folder: Path, task: str, *, sites: int = 3, rows: int = 40, pipeline: Mapping[str, Any] | None = None
) -> Path:
    """Write a project of made-up rows: two numbers and a code of three, and a label for `task`."""
    home = folder / task
    (home / "sites").mkdir(parents=True)
    kinds = {"binary": "logistic", "multiclass": "softmax", "regression": "ridge"}
    codes = {"binary": ["a", "b"], "multiclass": ["a", "b", "c"], "regression": []}[task]
    label: dict[str, Any] = {"name": "y", "logicalType": "string" if codes else "number"}
    label["customProperties"] = [{"property": "role", "value": "label"}]
    if codes:
        label["customProperties"].append({"property": "codes", "value": codes})
    kind = {
        "name": "kind",
        "logicalType": "string",
        "customProperties": [{"property": "codes", "value": ["p", "q", "r"]}],
    }
    numbers = [{"name": name, "logicalType": "number"} for name in ("x", "z")]
    contract = {"apiVersion": "v3.1.0", "kind": "DataContract", "id": "made", "version": "1.0.0", "status": "draft"}
    contract["schema"] = [{"name": "rows", "properties": [*numbers, kind, label]}]  # type: ignore[assignment]
    names = [f"site{number}" for number in range(sites)]
    spec = {
        "name": "made",
        "purpose": "test",
        "contract": "contract.yaml",
        "sites": {name: f"sites/{name}.yaml" for name in names},
        "learner": {"use": "linear", "kind": kinds[task]},
        "rounds": 12,
        "stages": {
            "contract": {},
            "fit": {},
            "train": {},
            "evaluate": {"baselines": ["pooled", "local"]},
            "register": {},
        },
        **(pipeline or {}),
    }
    (home / "contract.yaml").write_text(yaml.safe_dump(contract), encoding="utf-8")
    (home / "pipeline.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    for number, name in enumerate(names):
        (home / "sites" / f"{name}.yaml").write_text(f"source: {name}.csv\n", encoding="utf-8")
        _write_rows(home / "sites" / f"{name}.csv", codes, rows + 7 * number, number)
    return home


def _write_rows(path: Path, codes: Sequence[str], rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = ["x,z,kind,y"]
    for x, z in rng.normal([seed, 1000.0], [1.0, 3.0], (rows, 2)):
        kind, score = "pqr"[rng.integers(3)], x - seed + rng.normal(0, 0.5)
        label = codes[int(np.searchsorted([-0.5, 0.5][: len(codes) - 1], score))] if codes else f"{score:.4f}"
        lines.append(f"{x:.4f},{z:.3f},{kind},{label}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run(home: Path, emit: Callable[[Event], None] | None = None, **how: Any) -> RunFinished:
    """Plan and run a project in this process."""
    asked = {name: how.pop(name) for name in ("rounds", "seed", "sites") if name in how}
    return run_local(plan_local(home, **asked), emit or (lambda _: None), **how)


def history(home: Path, name: str = "runs/1") -> list[Digest]:
    """List the commit ids of a run, oldest first; the first is the root."""
    repository = Repository.at(home)
    return [id_ for id_, _ in repository.log(repository.resolve(name))][::-1]


def journals(home: Path) -> dict[str, list[dict[str, Any]]]:
    """Read what every site's outbox noted."""
    files = sorted((home / ".fedloom" / "sites").glob("*/outbox.jsonl"))
    return {file.parent.name: [json.loads(line) for line in file.read_text().splitlines()] for file in files}


def left(home: Path) -> dict[str, Counter[tuple[str, int]]]:
    """Count per site what left it: (verb, bytes) → how often."""
    return {site: Counter((line["verb"], line["bytes"]) for line in lines) for site, lines in journals(home).items()}


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    def refused(self, code: int, *words: str) -> None:
        """Hold a refusal to the house's form: its exit code, one sentence (or a list) on stderr, no traceback."""
        assert self.code == code, self
        assert "Traceback" not in self.err + self.out, self.err
        lines = self.err.splitlines()
        if lines[0].startswith("error: "):
            assert len(lines) == 1, self.err
        else:
            assert lines[0].endswith(" errors:"), self.err
            assert lines[0] == f"{len(lines) - 1} errors:"
        for word in words:
            assert word in self.err, (word, self.err)


@dataclass
class Cli:
    """The command line in this process."""

    monkeypatch: Any
    capfd: Any
    said: list[Said] = field(default_factory=list)

    def __call__(self, *words: object) -> Said:
        """Run `fedloom WORDS`."""
        self.capfd.readouterr()
        self.monkeypatch.setattr(sys, "argv", ["fedloom", *map(str, words)])
        terminate = signal.getsignal(signal.SIGTERM)
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            signal.signal(signal.SIGTERM, terminate)
        out, err = self.capfd.readouterr()
        self.said.append(Said(code, out, err))
        return self.said[-1]


def process(home: Path, *words: object, before: Sequence[str] = (), **how: Any) -> Said:
    """Run `fedloom WORDS` as a process of its own, in a project's folder; `before` is put before the command."""
    command = [*before, *FEDLOOM, *map(str, words)]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=60, check=False, **how)
    return Said(done.returncode, done.stdout, done.stderr)


def in_fit(home: Path, *lines: str) -> None:
    """Put lines of code at the start of `fit` of a scaffold project's learner."""
    start = '        weights, bias = parameters["weights"]'
    edit(home / "learner.py", start, "".join(f"        {line}\n" for line in lines) + start)


def slow(home: Path, seconds: float) -> None:
    """Make every fit of a scaffold project's learner take a while, without changing its numbers."""
    in_fit(home, f'__import__("time").sleep({seconds})')


def everything_kept(home: Path) -> bytes:
    """Join all that a run left in `.fedloom` and `models`: every file, and every object as it was before packing."""
    files = [p for name in (".fedloom", "models") for p in sorted((home / name).rglob("*")) if p.is_file()]
    stores = [home / ".fedloom", *sorted((home / ".fedloom" / "sites").glob("*"))]
    databases = [Repository(Store.on_disk(folder)).database for folder in stores if folder.is_dir()]
    unpacked = [bytes(database.get(id_)) for database in databases for id_ in database.ids()]
    return b"\n".join([*(p.read_bytes() for p in files), *unpacked])


def as_root() -> bool:
    """Whether file permissions do not bind this process."""
    return os.geteuid() == 0
