"""One pipeline, two engines: the same commits."""

import importlib.util

import pytest

from tests.projects import history, process, project


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="needs the extra: pip install 'fedloom[flower]'")
def test_flower_gives_the_same_commits(tmp_path):
    """Contract, fit, three rounds, baselines, gate and register on Flower's simulation end with the same commit id."""
    home = project(tmp_path, rounds=3)
    here = process(home, "run")
    there = process(home, "run", "--engine", "flower-sim")
    assert (here.code, there.code) == (0, 0), there.err
    assert "runs/2 ended complete" in there.out
    assert history(home, "runs/2") == history(home, "runs/1")
