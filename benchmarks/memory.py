"""Peak memory of one process that runs hub and 100 sites with a 50 MB model, in multiples of the model.

The learner does nothing but return new tensors, so what is measured is the framework: task bytes, the update at a
site, its reply, the float64 sums, the commit. Run alone it prints one JSON line; `bench.py` runs it in a process of
its own, because a peak belongs to a process.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from pathlib import Path

from project import write_project

LEARNER = """
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Big:
    megabytes: int = 50

    task = "binary"
    supports_proximal = False

    def initial_parameters(self, features, outputs, rng):
        return {f"layer{i}": np.zeros(self.megabytes * 25_000, np.float32) for i in range(10)}

    def fit(self, parameters, examples, training, rng):
        step = np.float32(rng.normal())
        return {name: array + step for name, array in parameters.items()}

    def predict(self, parameters, features):
        return np.full(len(features), 0.5)

    def loss(self, parameters, examples):
        return 0.7
"""


def main() -> None:
    """Run rounds over many sites and print the peak."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "learner.py").write_text(LEARNER)
        learner = {"use": "learner.py:Big", "megabytes": asked.megabytes}
        rows = [([float(i), float(i % 3)], i % 2) for i in range(20)]
        sites = {f"s{i:03}": rows for i in range(asked.clients)}
        write_project(folder, sites, learner, rounds=asked.rounds, classes=2)
        from fedloom.local.federation import plan_local, run_local

        plan = plan_local(folder)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        run_local(plan, lambda _: None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = {
        "model_mb": plan.model_bytes / 1e6,
        "clients": asked.clients,
        "idle_mb": round(before / 1e6, 1),
        "peak_mb": round(peak / 1e6, 1),
        "peak_models": round(peak / plan.model_bytes, 2),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
