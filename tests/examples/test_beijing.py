"""Twelve stations, split by time; three rounds, because the whole example takes twenty seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).parents[3] / "shared" / "data" / "beijing-air"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the UCI data set 501 is not at ../shared/data/beijing-air")


def test_without_data_one_sentence_says_where_to_get_it(example, tmp_path):
    """A newcomer without the data set gets its name and number, and exit code 2."""
    told = example("beijing-air").prepare(str(tmp_path))
    assert told.returncode == 2
    assert told.stderr.count("\n") == 1
    assert "UCI data set 501" in told.stderr


@needs_data
@pytest.mark.slow
def test_figures_after_three_rounds(example):
    """Three rounds are near the reference of twenty (0.870, AUC 0.943), and drift.py agrees on the test year."""
    air = example("beijing-air")
    assert "12 stations, 412,029 rows" in air.prepare(str(DATA)).stdout
    done = air.run(rounds=3)
    federated, elsewhere = done.summary["federated"]["pooled"], done.summary["local_everywhere"]["mean"]
    assert federated["rows"] == 98_928
    assert federated["accuracy"] == pytest.approx(0.870, abs=0.015)
    assert federated["auc"] == pytest.approx(0.943, abs=0.008)
    assert elsewhere["accuracy"] < federated["accuracy"]
    table = subprocess.run(
        [sys.executable, "drift.py"], cwd=air.folder, capture_output=True, text=True, timeout=60, check=True
    ).stdout.splitlines()
    last_year = {line[:15].strip(): float(line.split()[-1]) for line in table[1:]}
    assert last_year["all: accuracy"] == pytest.approx(federated["accuracy"], abs=0.0005)
    assert last_year["all: AUC"] == pytest.approx(federated["auc"], abs=federated["auc_error"] + 0.0005)
