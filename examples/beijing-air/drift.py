"""Measure the registered model in every year at every station: does a model of the past still hold?

Reads models/beijing-air.safetensors and data/, both of this folder. A year is twelve months from 1 March. Years before
the cut of prepare.py were trained on; for a model of the first year alone, see the README.
"""

import csv
import gzip
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
MODEL = HERE / "models" / "beijing-air.safetensors"
YEARS = (2013, 2014, 2015, 2016)


def main() -> None:
    """Print accuracy by station and year, then accuracy, AUC and the share of polluted hours of all stations."""
    paths = sorted((HERE / "data").glob("*.csv.gz"))
    if not paths or not MODEL.exists():
        print("drift: run prepare.py and `fedloom run` in this folder first", file=sys.stderr)
        raise SystemExit(2)
    model = load_model()
    stations = {path.name.removesuffix(".csv.gz"): score_hours(path, *model) for path in paths}
    print("station        " + "".join(f"{f'{year}/{year - 1999}':>9}" for year in YEARS))
    for name, hours in stations.items():
        print_line(name, [accuracy(hours[hours[:, 0] == year]) for year in YEARS])
    every = np.concatenate(list(stations.values()))
    by_year = [every[every[:, 0] == year] for year in YEARS]
    print_line("all: accuracy", [accuracy(hours) for hours in by_year])
    print_line("all: AUC", [area(hours) for hours in by_year])
    print_line("all: polluted", [float(hours[:, 2].mean()) for hours in by_year])


def load_model() -> tuple[list[str], np.ndarray, np.ndarray]:
    """Give names of the features, and weights and bias for raw features: (w/s) x + (b - sum(w m/s))."""
    from safetensors import safe_open

    with safe_open(MODEL, "np") as file:
        names = json.loads(file.metadata()["features"])
        weights = file.get_tensor("model.weights") / file.get_tensor("preprocessing.scale")
        bias = file.get_tensor("model.bias") - weights @ file.get_tensor("preprocessing.mean")
    return names, weights, bias


def score_hours(path: Path, names: list[str], weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Give year, score (log-odds) and label of each hour without a gap, shape (hours, 3)."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        header, *rows = (row for row in csv.reader(file) if "NA" not in row)
    cells = dict(zip(header, np.array(rows).T, strict=True))
    features = np.column_stack([column(cells, *name.split("=")) for name in names])
    years = column(cells, "year") - (column(cells, "month") < 3)
    return np.column_stack([years, features @ weights + bias, column(cells, "polluted")])


def column(cells: dict[str, np.ndarray], name: str, code: str = "") -> np.ndarray:
    """Read a number, or whether the cell is `code`, as features such as `month=12` are named."""
    return (cells[name] == code if code else cells[name]).astype(float)


def accuracy(hours: np.ndarray) -> float:
    """Share of hours on the right side of one half."""
    return float(((hours[:, 1] > 0) == hours[:, 2]).mean())


def area(hours: np.ndarray) -> float:
    """Area under the ROC curve (Mann-Whitney): how often a polluted hour scores above a clean one."""
    clean, polluted = np.sort(hours[hours[:, 2] == 0, 1]), hours[hours[:, 2] == 1, 1]
    below = np.searchsorted(clean, polluted, "left") + np.searchsorted(clean, polluted, "right")
    return float(below.mean() / 2 / len(clean))


def print_line(name: str, figures: list[float]) -> None:
    """Print one line of the table."""
    print(f"{name:15}" + "".join(f"{figure:9.3f}" for figure in figures))


if __name__ == "__main__":
    main()
