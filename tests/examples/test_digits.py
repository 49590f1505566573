"""Forty clients with label skew."""

import pytest

pytest.importorskip("sklearn", reason="the images come with scikit-learn (extra: sklearn)")


def test_figures_and_the_deal(example):
    """The deal is the same everywhere, and 30 rounds land near what was measured (five seeds: 0.932 to 0.963)."""
    digits = example("digits")
    assert "40 clients of 14 to 102 rows, 1,797 in all" in digits.prepare().stdout
    done = digits.run()
    federated, pooled = done.summary["federated"], done.summary["pooled"]["pooled"]
    assert done.status == "complete"
    assert federated["pooled"]["rows"] == 547
    assert federated["pooled"]["accuracy"] == pytest.approx(0.945, abs=0.025)
    assert federated["pooled"]["auc"] == pytest.approx(0.997, abs=0.004)
    assert pooled["accuracy"] == pytest.approx(0.969, abs=0.020)
    alone = done.summary["local"]["unweighted"]["accuracy"]
    assert alone + 0.04 < federated["unweighted"]["accuracy"]
    assert "local_everywhere" not in done.summary
