"""Storage of versions beside DVC, git-lfs and icechunk: same checkpoints, same machine, same run.

Peers that are not installed are left out and named. Read the ratios: they hold on another machine; the milliseconds
want two quiet cores (the load is printed). The last line is JSON: stored_* is the share of the raw bytes, *_ms are of
the scenario `full`, merge_bytes is what a round's merge adds to base and updates, push_ratio what a push after a round
of `half` adds, as a share of one raw model; the same for each peer where it applies, null where it does not.

    python benchmarks/versions/bench.py            # about fifteen minutes
    python benchmarks/versions/bench.py --small    # seconds, no peers to install: only shows that nothing is broken
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pushing
from concurrency import race
from measuring import forget_pages, median
from peers import Absent, environment, icechunk_race, peers, versions
from rich.console import Console
from rich.table import Table
from tool import Read, Tool, fedloom, json_of
from workload import REPORTED, SCENARIOS, SMALL, Workload, describe, workload

PEER_SECONDS = 300.0
NAMES = (
    "stored_full",
    "stored_small",
    "stored_half",
    "commit_ms",
    "unchanged_ms",
    "checkout_ms",
    "tensor_ms",
    "merge_bytes",
    "push_ratio",
    "lost_updates",
)
TENSOR = "block03.up.weight"


@dataclass
class Chain:
    """One tool over the rounds of one scenario."""

    stored: float
    commits: list[float]
    unchanged: list[float] = field(default_factory=list)
    checkouts: list[Read] = field(default_factory=list)
    tensors: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Asked:
    """What the command line says."""

    work: Path
    repeat: int
    small: bool

    @property
    def reads(self) -> int:
        """How many revisions of a peer are read back."""
        return 1 if self.small else 5


def chain(tool: Tool, made: Workload, asked: Asked, until: float, *, every: bool = False) -> Chain:
    """Commit the rounds, weigh them, read some (or every one) back; what no time is left for is left out."""
    commits = tool.commit(made.rounds, max(1.0, 0.6 * (until - time.monotonic())))
    found = Chain(tool.stored() / (len(commits) * made.raw_bytes), commits)
    last = made.rounds[len(commits) - 1]
    found.unchanged = tool.commit([last] * (1 + max(3, asked.repeat)), 30.0)[
        1:
    ]  # the first has nothing to compare with
    numbers = range(len(commits)) if every else _spread(len(commits), asked.reads)
    for number in numbers:
        if time.monotonic() > until:
            break
        found.checkouts.append(tool.checkout(number, made.rounds[number]))
        tensor = tool.tensor(number, made.rounds[number], TENSOR)
        found.tensors += [] if tensor is None else [tensor]
    return found


def merge_bytes(tool: Tool, made: Workload) -> int:
    """Measure what the merged model adds where base and updates of a round are stored."""
    tool.commit([made.base, *made.sites], 60.0)
    before = tool.stored()
    tool.commit([made.merged], 60.0)
    return tool.stored() - before


def push_ratio(tool: Tool, made: Workload) -> float | None:
    """Measure what a push after one round adds at the remote, as a share of a raw model."""
    tool.commit(made.rounds[:1], 60.0)
    if tool.push() is None:
        return None
    tool.commit(made.rounds[1:2], 60.0)
    return round((tool.push() or 0) / made.raw_bytes, 3)


def measure_peer(name: str, make: Callable[[Path], Tool], made: Mapping[str, Workload], asked: Asked) -> dict[str, Any]:
    """Measure one peer within its time; what it was not given time for is null, and said."""
    until = time.monotonic() + PEER_SECONDS
    folder = partial(_folder, asked.work, name)
    found: dict[str, Any] = dict.fromkeys(NAMES)
    for scenario, work in made.items():
        done = chain(make(folder(scenario)), work, asked, until)
        found[f"stored_{scenario}"] = round(done.stored, 3)
        if len(done.commits) < len(work.rounds):
            print(f"{name}: {len(done.commits)} of {len(work.rounds)} checkpoints of {scenario} in its time")
        if scenario == "full":
            found |= _timings(done)
    found["merge_bytes"] = merge_bytes(make(folder("merge")), made["full"])
    found["push_ratio"] = push_ratio(make(folder("push")), made["half"])
    if name == "icechunk":  # the others refuse a second writer, or have no branch to move
        acknowledged, found["lost_updates"] = icechunk_race(make(folder("race")))
        print(f"{name}: 4 processes had {acknowledged} commits acknowledged, {found['lost_updates']} of them lost")
    return found


def measure_ours(made: Mapping[str, Workload], asked: Asked) -> dict[str, Any]:
    """Measure our side: every round read back and compared bit by bit, in every scenario (some of them if small)."""
    folder = partial(_folder, asked.work, "fedloom")
    found: dict[str, Any] = dict.fromkeys(NAMES)
    chains: dict[str, list[Chain]] = {scenario: [] for scenario in made}
    for turn in range(asked.repeat):
        for scenario, work in made.items():
            at = folder(f"{scenario}-{turn}")
            chains[scenario].append(chain(fedloom(at), work, asked, time.monotonic() + 1e4, every=not asked.small))
    for scenario, done in chains.items():
        found[f"stored_{scenario}"] = round(done[0].stored, 3)
        print(f"fedloom {scenario:6} {_line(_joined(done))}")
    found |= _timings(_joined(chains["full"]))
    found["checkout_worst_ms"] = round(max(read.ms for done in chains["full"] for read in done.checkouts), 1)
    found |= _cold(made["full"], folder, asked)
    found |= _round(made["full"], folder("merge"))
    found |= _pushes(made["half"], asked)
    raced = race(4, 25 if asked.small else 250)
    print(
        f"fedloom: 4 processes had {raced.acknowledged} commits to one branch acknowledged in {raced.seconds:.1f} s, "
        f"{raced.retries} tries came too late, {raced.lost} commits lost"
    )
    return found | {"lost_updates": raced.lost}


def _timings(done: Chain) -> dict[str, Any]:
    reads = [read.ms for read in done.checkouts]
    return {
        "commit_ms": median(done.commits),
        "unchanged_ms": median(done.unchanged),
        "checkout_ms": median(reads) if reads else None,
        "tensor_ms": median(done.tensors) if done.tensors else None,
    }


def _line(done: Chain) -> str:
    reads, processes = [read.ms for read in done.checkouts], [read.process_ms or 0.0 for read in done.checkouts]
    return (
        f"stored {done.stored:.3f} of raw; commit {median(done.commits)} ms, unchanged {median(done.unchanged)} ms; "
        f"checkout median {median(reads)}, worst {max(reads):.1f} ms, whole process {median(processes)} ms; one tensor "
        f"median {median(done.tensors)}, worst {max(done.tensors):.1f} ms (fresh process each, files in the system's "
        f"cache); {len(done.checkouts)} checkouts equal bit by bit"
    )


def _joined(chains: Sequence[Chain]) -> Chain:
    """Put repetitions together: the median is over all of them."""
    joined = Chain(chains[0].stored, [])
    for one in chains:
        joined.commits += one.commits
        joined.unchanged += one.unchanged
        joined.checkouts += one.checkouts
        joined.tensors += one.tensors
    return joined


def _cold(made: Workload, folder: Callable[[str], Path], asked: Asked) -> dict[str, Any]:
    """Commit in a process each, and read with the files dropped from the system's cache."""
    tool = fedloom(folder("cold"))
    commits = [ms for path in made.rounds[: 2 * asked.reads] for ms in tool.commit([path], 60.0)]
    reads = []
    for number in _spread(len(commits), asked.reads):
        forget_pages(tool.folder)
        reads.append(tool.checkout(number, made.rounds[number]).ms)
    print(f"fedloom full   in fresh processes: commit {median(commits)} ms; checkout from the disk {median(reads)} ms")
    return {"commit_fresh_process_ms": median(commits), "checkout_from_disk_ms": median(reads)}


def _round(made: Workload, folder: Path) -> dict[str, Any]:
    """Commit a round with its updates; the merge is a recipe."""
    command = [*fedloom(folder).command, "merge", str(folder), str(made.base), str(made.merged)]
    done = json_of([*command, *map(str, made.sites)])
    print(
        f"fedloom: a round of {len(made.sites)} sites adds {done['updates'] / 1e6:.1f} MB of updates to a base of "
        f"{done['base'] / 1e6:.1f} MB, and {done['merge']} bytes for their merge, a recipe "
        f"({done['merge_ms']:.0f} ms); the model computed by it is read in {done['computed_checkout_ms']:.0f} ms, "
        f"equal bit by bit"
    )
    return {"merge_bytes": done["merge"]}


def _pushes(made: Workload, asked: Asked) -> dict[str, Any]:
    """Push after every round, to a folder and to a hub: the larger median counts."""
    ratios = []
    for name, way in (("a folder", pushing.to_folder), ("a hub over HTTP", pushing.to_hub)):
        done = way(_folder(asked.work, "push", name.replace(" ", "-")), made.rounds)
        shares = [sent / made.raw_bytes for sent in done.bytes]
        ratios.append(statistics.median(shares))
        print(
            f"fedloom: a push to {name} after a round of half adds {ratios[-1]:.3f} of a raw model (at most "
            f"{max(shares):.3f}) in {median(done.ms)} ms; pushing again sends {done.repeated} objects"
        )
        assert done.repeated == 0, "a second push sent objects"
    return {"push_ratio": round(max(ratios), 3)}


def table(ours: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> Table:
    """Lay out the figures: each peer's with its ratio to ours, above 1 where fedloom is smaller or faster."""
    laid = Table("", "fedloom", *others, title="value (peer ÷ fedloom)")
    for name in NAMES:
        cells = [_cell(found[name], ours[name]) for found in others.values()]
        laid.add_row(name, _number(ours[name]), *cells)
    return laid


def _cell(value: Any, ours: Any) -> str:
    if value is None or not ours:
        return _number(value)
    ratio = value / ours
    return f"{_number(value)} ({ratio:,.0f}×)" if ratio >= 10 else f"{_number(value)} ({ratio:.2g}×)"


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:,}"


def _folder(work: Path, *parts: str) -> Path:
    folder = work.joinpath(*parts)
    folder.mkdir(parents=True)
    return folder


def _spread(count: int, wanted: int) -> list[int]:
    """Choose some of the revisions, evenly, the last among them."""
    wanted = min(count, wanted)
    return [(number + 1) * count // wanted - 1 for number in range(wanted)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a model of 0.2 M parameters, 4 rounds, no DVC, icechunk")
    parser.add_argument("--repeat", type=int, default=1, help="how often our side is measured; medians are over all")
    parser.add_argument("--only", nargs="*", metavar="PEER", help="measure these peers only; none without a name")
    cache = Path(tempfile.gettempdir()) / "fedloom-bench-versions"
    parser.add_argument(
        "--cache", type=Path, default=cache, help="where checkpoints and the peers' environment are kept"
    )
    parser.add_argument("--peers-venv", type=Path, help="an environment with dvc, icechunk, zarr and safetensors")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"load average {load:.2f}" + ("" if load < 0.5 else ": read the milliseconds as an upper bound"))
    made = {}
    for scenario in SCENARIOS:
        made[scenario.name] = workload(given.cache, SMALL if given.small else REPORTED, scenario)
        print(describe(made[scenario.name]))
    venv, why = given.peers_venv, "left out of --small"
    if venv is None and not given.small:
        venv, why = environment(given.cache / "peers")
    found_peers = {name: make for name, make in peers(venv, why).items() if given.only is None or name in given.only}
    print(
        "peers: " + (", ".join(f"{name} {number}" for name, number in versions(venv).items()) or "none with a version")
    )
    with tempfile.TemporaryDirectory(prefix="fedloom-bench-", dir=given.cache) as work:
        asked = Asked(Path(work), given.repeat, given.small)
        ours = measure_ours(made, asked)
        others = {}
        for name, make in found_peers.items():
            if isinstance(make, Absent):
                print(f"{name}: not measured, {make.why}")
                continue
            print(f"{name}: load average {os.getloadavg()[0]:.2f}")
            try:
                others[name] = measure_peer(name, make, made, asked)
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                print(f"{name}: not measured, it failed: {error}")
            shutil.rmtree(asked.work / name)  # gigabytes, each
    Console(width=200).print(table(ours, others))
    absent = dict.fromkeys(name for name in found_peers if name not in others)
    print(f"load average at the end {os.getloadavg()[0]:.2f}")
    print(json.dumps({**ours, "peers": {**others, **absent}}))


if __name__ == "__main__":
    main()
