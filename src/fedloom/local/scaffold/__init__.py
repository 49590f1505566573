"""The project that `fedloom init` writes: files beside this one, and made-up rows for three sites.

The rows are synthetic and say so: they only make the project run before real data is mapped in.
"""

from __future__ import annotations

import csv
from importlib.resources import files
from pathlib import Path

from fedloom.errors import SpecError, StorageError
from fedloom.values import generator

_TEXTS = ("pipeline.yaml", "contract.yaml", "learner.py", "README.md")
_SITES = {"north": 180, "south": 120, "harbour": 60}


def write_project(folder: Path) -> list[Path]:
    """Write the project into a new or empty folder; gives the paths written, relative to it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpecError(f"{folder} is there already and not empty: name a new folder")
    texts = {Path(name): (files(__package__) / f"{name}.txt").read_text(encoding="utf-8") for name in _TEXTS}
    adapter = (files(__package__) / "adapter.yaml.txt").read_text(encoding="utf-8")
    texts |= {Path("sites") / f"{site}.yaml": adapter.replace("SITE", site) for site in _SITES}
    try:
        for path, text in texts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        (folder / "data").mkdir()
        for site in _SITES:
            _write_rows(folder / "data" / f"{site}.csv", site)
    except OSError as error:
        raise StorageError(f"cannot write {folder}: {error.strerror}") from None
    return [*texts, *(Path("data") / f"{site}.csv" for site in _SITES)]


def _write_rows(path: Path, site: str) -> None:
    """Make up machines that fail more often when hot, old and of type B; each site has its own climate."""
    rng = generator("scaffold", site)
    rows = _SITES[site]
    temperature = rng.normal(60 + 5 * len(site) / 5, 8, rows)
    age = rng.integers(0, 15, rows)
    type_b = rng.random(rows) < 0.4
    odds = 0.15 * (temperature - 66) + 0.25 * (age - 7) + 1.2 * type_b - 0.5
    failed = rng.random(rows) < 1 / (1 + 2.718281828 ** (-odds))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["temperature", "age", "type", "failed"])
        for heat, years, b, broke in zip(temperature, age, type_b, failed, strict=True):
            writer.writerow([f"{heat:.1f}", int(years), "B" if b else "A", "yes" if broke else "no"])
