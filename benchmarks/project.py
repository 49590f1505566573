"""Writes a throw-away project of many sites, for benchmarks."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[tuple[Sequence[float], int]]


def write_project(
    folder: Path,
    sites: Mapping[str, Rows],
    learner: Mapping[str, Any],
    *,
    rounds: int,
    classes: int,
    train: Mapping[str, Any] | None = None,
) -> None:
    """Write pipeline, contract, adapters and rows; JSON is YAML, so no YAML writer is needed."""
    width = len(next(iter(sites.values()))[0][0])
    names = [f"x{i}" for i in range(width)]
    (folder / "data").mkdir()
    for site, rows in sites.items():
        with (folder / "data" / f"{site}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*names, "label"])
            writer.writerows([*values, label] for values, label in rows)
        (folder / f"{site}.yaml").write_text(json.dumps({"source": f"data/{site}.csv"}))
    label = {
        "name": "label",
        "logicalType": "integer",
        "customProperties": [
            {"property": "role", "value": "label"},
            {"property": "codes", "value": list(range(classes))},
        ],
    }
    properties = [*({"name": name, "logicalType": "number"} for name in names), label]
    head = {"apiVersion": "v3.1.0", "kind": "DataContract", "id": "bench", "version": "1.0.0", "status": "draft"}
    (folder / "contract.yaml").write_text(json.dumps({**head, "schema": [{"name": "rows", "properties": properties}]}))
    pipeline = {
        "name": "bench",
        "purpose": "Measure the framework.",
        "contract": "contract.yaml",
        "sites": {site: f"{site}.yaml" for site in sites},
        "learner": dict(learner),
        "rounds": rounds,
        "split": {"test": 0.01},
        "stages": {"contract": {"min_rows": 1, "single_class": "allow"}, "train": dict(train or {})},
    }
    (folder / "pipeline.yaml").write_text(json.dumps(pipeline))
