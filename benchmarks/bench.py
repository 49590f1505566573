"""All figures of the main job: first result, start-up, rounds against Flower's Ray simulation, peak memory.

Everything is measured in this run, on this machine; Flower does the same training on the same rows. The last line
is JSON: first_result_s, ray_ratio_10, ray_ratio_100 (Flower's round time / ours) and peak_models.

    python benchmarks/bench.py            # a few minutes, most of them Ray
    python benchmarks/bench.py --small    # seconds, without Ray: only shows that nothing is broken
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from project import write_project
from ray_baseline import TRAINING, shard, start, train

from fedloom.local.federation import plan_local, run_local
from fedloom.pipeline.events import RoundFinished

HERE = Path(__file__).parent
HEART = HERE.parent / "examples" / "heart"
FEDLOOM = Path(sys.executable).with_name("fedloom")


def seconds(command: list[str], folder: Path) -> float:
    """Time one command as a user runs it."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def first_result() -> float:
    """Time the demo from installed to its last line: prepare, run, report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "heart"
        shutil.copytree(HEART, folder, ignore=shutil.ignore_patterns("data", "models", ".fedloom", "report.html"))
        prepare = seconds([sys.executable, "prepare.py"], folder)
        return prepare + seconds([str(FEDLOOM), "run"], folder) + seconds([str(FEDLOOM), "report"], folder)


def our_rounds(clients: int, rounds: int) -> list[float]:
    """Run the digits federation on the in-process engine, commits included; seconds of each round but the first."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sites = {}
        for client in range(clients):
            rows = shard(client, clients)
            sites[f"c{client:03}"] = list(zip(rows.features.tolist(), rows.labels.tolist(), strict=True))
        settings = {
            "epochs": TRAINING.epochs,
            "batch_size": TRAINING.batch_size,
            "learning_rate": TRAINING.learning_rate,
        }
        learner = {"use": "linear", "kind": "softmax"}
        write_project(folder, sites, learner, rounds=rounds, classes=10, train=settings)
        took: list[float] = []
        run_local(plan_local(folder), lambda e: took.append(e.seconds) if isinstance(e, RoundFinished) else None)
    return took[1:]


def training_seconds(clients: int) -> float:
    """Time the training alone, which both sides do: one pass over all clients, one after the other."""
    parameters = start()
    rows = [shard(client, clients) for client in range(clients)]
    began = time.perf_counter()
    for client, examples in enumerate(rows):
        train(parameters, examples, 1, client)
    return time.perf_counter() - began


def ray_rounds(clients: int, rounds: int) -> list[float]:
    """Run plain Flower's Ray simulation in a process of its own."""
    command = [sys.executable, str(HERE / "ray_baseline.py"), "--clients", str(clients), "--rounds", str(rounds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])["round_s"]
    return found


def against_ray(clients: int, rounds: int) -> float:
    """Print our round beside Flower's; give the ratio of the medians."""
    ours, training = statistics.median(our_rounds(clients, 4 * rounds)), training_seconds(clients)
    theirs = ray_rounds(clients, rounds)
    ray = statistics.median(theirs)
    per_client = [1e6 * max(0.0, whole - training) / clients for whole in (ours, ray)]
    print(
        f"{clients:4} clients   ours {ours * 1e3:7.1f} ms a round   Flower on Ray {ray * 1e3:7.1f} ms "
        f"({min(theirs) * 1e3:.0f} to {max(theirs) * 1e3:.0f})   ratio {ray / ours:5.1f}"
    )
    print(
        f"               training alone {training * 1e3:.1f} ms on one core; overhead per client and round "
        f"{per_client[0]:.0f} against {per_client[1]:.0f} microseconds"
    )
    return ray / ours


def peak_models(clients: int, megabytes: int) -> float:
    """Measure the peak of a process with a large model."""
    sizes = ["--clients", str(clients), "--megabytes", str(megabytes), "--rounds", "1"]
    done = subprocess.run([sys.executable, str(HERE / "memory.py"), *sizes], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    print(
        f"peak memory    {found['peak_mb']} MB with a {found['model_mb']:.0f} MB model and {clients} clients "
        f"(idle {found['idle_mb']} MB): {found['peak_models']} models"
    )
    return float(found["peak_models"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes, without Ray")
    small = parser.parse_args().small
    startup = min(seconds([str(FEDLOOM), "--help"], HERE) for _ in range(3))
    demo = first_result()
    print(f"fedloom --help {startup:.2f} s")
    print(f"first result   {demo:.2f} s from installed: prepare, 50 rounds at four hospitals, baselines, report")
    if small:
        found = {"our_round_10_s": statistics.median(our_rounds(10, 4)), "peak_models": peak_models(5, 10)}
    else:
        ratios = {f"ray_ratio_{n}": round(against_ray(n, 12), 1) for n in (10, 100)}
        found = {**ratios, "peak_models": peak_models(100, 50)}
    print(json.dumps({"first_result_s": round(demo, 2), **found}))


if __name__ == "__main__":
    main()
