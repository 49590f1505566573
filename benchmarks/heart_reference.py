"""Heart disease beside its references: the example (PyPI data) and FLamby's protocol (UCI's files).

(a) The heart example over 20 seeds, beside a federated average and scikit-learn made without fedloom.
(b) FLamby's rows, split and 13 features (du Terrail et al. 2022), 100 rounds, seeds 42 to 46, once standardised by
    sums over all hospitals and once by each hospital alone, beside the accuracies FLamby publishes.

    python benchmarks/heart_reference.py [--small]
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

from fedloom.local.federation import Workers, plan_local, run_local

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "heart"
UCI = ROOT.parent / "shared" / "data" / "heart-disease"

HOSPITALS = {"cleveland": (199, 104), "hungarian": (172, 89), "switzerland": (30, 16), "va": (85, 45)}
"""FLamby's hospitals, with the rows it trains and tests on in each."""
COLUMNS = ("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak")
CODES = {"cp": [1, 2, 3, 4], "restecg": [0, 1, 2], "disease": [0, 1], "fold": ["train", "test"]}
ROLES = {"disease": "label", "fold": "split"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare heart-disease figures with their references.")
    parser.add_argument("--small", action="store_true", help="two seeds and few rounds: does it work at all?")
    small = parser.parse_args().small
    with TemporaryDirectory(prefix="heart-") as scratch:
        figures = example_figures(Path(scratch) / "pypi", small=small)
        if UCI.is_dir():
            figures |= flamby_figures(Path(scratch) / "flamby", small=small)
        else:
            print("\n(b) is skipped: the UCI files are not at ../shared/data/heart-disease beside the checkout")
    print(json.dumps({"benchmark": "heart_reference", "small": small, **figures}))


def example_figures(folder: Path, *, small: bool) -> dict[str, float]:
    """Run (a) and print its table; gives the means."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("data", "models", ".fedloom"))
    subprocess.run([sys.executable, "prepare.py"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    remove_gate(folder)
    seeds, rounds = (range(1, 3), 5) if small else (range(1, 21), 50)
    found = [run(folder, rounds, seed) for seed in seeds]
    series = {
        "pypi_pooled_acc": [s["pooled"]["pooled"]["accuracy"] for s in found],
        "pypi_pooled_auc": [s["pooled"]["pooled"]["auc"] for s in found],
        "pypi_fedavg_acc": [s["federated"]["pooled"]["accuracy"] for s in found],
        "pypi_fedavg_auc": [s["federated"]["pooled"]["auc"] for s in found],
        "pypi_local_acc": [s["local_everywhere"]["mean"]["accuracy"] for s in found],
    }
    print(f"(a) the heart example: {len(seeds)} seeds, {rounds} rounds; reference: 20 seeds, 50 rounds")
    references = ("0.799", "0.877", "0.791", "0.874", "0.687")
    return print_table(series, dict(zip(series, references, strict=True)))


def flamby_figures(folder: Path, *, small: bool) -> dict[str, float]:
    """Run (b) and print its table; gives the means."""
    seeds, rounds = (range(42, 44), 5) if small else (range(42, 47), 100)
    series = {}
    for scope in ("global", "site"):
        write_project(folder / scope, scope)
        found = [run(folder / scope, rounds, seed) for seed in seeds]
        series[f"flamby_{scope}_acc"] = [s["federated"]["pooled"]["accuracy"] for s in found]
    print(f"\n(b) FLamby's protocol: {len(seeds)} seeds, {rounds} rounds; published: 5 seeds, 100 updates a round")
    published = "FedAvg 0.748, best federated 0.779, pooled 0.795"
    return print_table(series, dict.fromkeys(series, published))


def run(folder: Path, rounds: int, seed: int) -> dict[str, Any]:
    """Run a project; gives its evaluation."""
    plan = plan_local(folder, rounds=rounds, seed=seed)
    assert not plan.refusals, plan.refusals
    return dict(run_local(plan, lambda _: None, workers=Workers(1)).summary)


def remove_gate(folder: Path) -> None:
    """Let every model through: the figures are what is asked for."""
    path = folder / "pipeline.yaml"
    pipeline = yaml.safe_load(path.read_text(encoding="utf-8"))
    del pipeline["stages"]["gate"]
    path.write_text(yaml.safe_dump(pipeline), encoding="utf-8")


def print_table(series: dict[str, list[float]], references: dict[str, str]) -> dict[str, float]:
    """Print mean and standard deviation of each series beside its reference; gives the means."""
    for name, values in series.items():
        print(f"  {name:18} {mean(values):.3f} ({stdev(values):.3f})   reference {references[name]}")
    return {name: round(mean(values), 4) for name, values in series.items()}


def write_project(folder: Path, scope: str) -> None:
    """Write a project of FLamby's four hospitals; `scope` says who standardises: global or site."""
    folder.mkdir(parents=True)
    for name, sizes in HOSPITALS.items():
        write_hospital(folder, name, sizes)
    (folder / "contract.yaml").write_text(yaml.safe_dump(contract()), encoding="utf-8")
    pipeline = {
        "name": "flamby",
        "purpose": "Compare with FLamby's published figures.",
        "contract": "contract.yaml",
        "sites": {name: f"{name}.yaml" for name in HOSPITALS},
        "learner": {"use": "linear", "kind": "logistic"},
        "split": {"column": "fold"},
        "stages": {
            "contract": {"min_rows": 40},
            "fit": {"standardize": scope},
            "train": {"epochs": 1, "batch_size": 8, "learning_rate": 0.05},
            "evaluate": {},
        },
    }
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline), encoding="utf-8")


def write_hospital(folder: Path, name: str, sizes: tuple[int, int]) -> None:
    """Write a hospital's complete rows with their fold; raises when the split is not FLamby's."""
    with (UCI / f"processed.{name}.data").open(encoding="utf-8", newline="") as file:
        rows = [[*row[:10], row[13]] for row in csv.reader(file) if "?" not in (*row[:10], row[13])]
    table = np.array(rows, float)
    disease = (table[:, -1] > 0).astype(int)
    fold = folds(disease)
    assert tuple(np.bincount(fold)) == sizes, f"{name}: the split is not FLamby's"
    header = ",".join([*COLUMNS, "disease", "fold"])
    words = [",".join(f"{cell:g}" for cell in row[:-1]) for row in table]
    lines = [f"{row},{sick},{CODES['fold'][test]}" for row, sick, test in zip(words, disease, fold, strict=True)]
    (folder / f"{name}.csv").write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"source": f"{name}.csv"}), encoding="utf-8")


def folds(disease: np.ndarray) -> np.ndarray:
    """Split as FLamby does, stratified where each of two classes has more than two rows: 0 train, 1 test."""
    from sklearn.model_selection import train_test_split

    sizes = np.unique(disease, return_counts=True)[1]
    stratify = disease if len(sizes) > 1 and sizes.min() > 2 else None
    _, test = train_test_split(
        np.arange(len(disease)), test_size=1 - 0.66, train_size=0.66, random_state=43, shuffle=True, stratify=stratify
    )
    return np.isin(np.arange(len(disease)), test).astype(int)


def contract() -> dict[str, Any]:
    """Make the data contract: FLamby's 13 features are 8 numbers and the codes of cp and restecg but the first."""
    properties = [{"name": name, **described(name)} for name in (*COLUMNS, "disease", "fold")]
    return {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": "flamby-heart",
        "version": "1.0.0",
        "status": "active",
        "schema": [{"name": "patients", "logicalType": "object", "properties": properties}],
    }


def described(name: str) -> dict[str, Any]:
    """Describe a column for the contract."""
    custom = {"role": ROLES.get(name), "codes": CODES.get(name)}
    listed = [{"property": key, "value": value} for key, value in custom.items() if value]
    return {"logicalType": "string" if name == "fold" else "number", "required": True, "customProperties": listed}


if __name__ == "__main__":
    main()
