"""Median, trimmed mean, Krum and Multi-Krum, beyond what every strategy must do."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.values import Contribution
from fedloom.versions.merging.coordinates import STACKED
from fedloom.versions.merging.robust import CoordinateMedian, Krum, MultiKrum, TrimmedMean
from tests.suites.merge_strategy import BASE, MergeStrategySuite, contributions, digest


class TestCoordinateMedian(MergeStrategySuite):
    def make(self):
        return CoordinateMedian()


class TestTrimmedMean(MergeStrategySuite):
    def make(self):
        return TrimmedMean()


class TestKrum(MergeStrategySuite):
    def make(self):
        return Krum(num_malicious=2)


class TestKrumOfThree(MergeStrategySuite):
    """The least case: two that are each other's nearest always score the same."""

    def make(self):
        return Krum()


class TestMultiKrum(MergeStrategySuite):
    def make(self):
        return MultiKrum(num_malicious=2, num_selected=4)


ROBUST = [CoordinateMedian(), TrimmedMean(beta=0.25), Krum(num_malicious=2), MultiKrum(2, 4)]


def merged(strategy, *values):
    """Merge one-tensor models of equal weight."""
    came = [Contribution(f"site-{n}", {"x": np.array(v, dtype="f4")}, 1.0) for n, v in enumerate(values)]
    base = {"x": np.zeros(np.shape(values[0]), dtype="f4")}
    return strategy.merge(base, iter(came), {}).tensors["x"].tolist()


def test_median_of_odd_and_even():
    """The middle one, or the mean of the middle two."""
    assert merged(CoordinateMedian(), [1.0], [9.0], [2.0]) == [2.0]
    assert merged(CoordinateMedian(), [1.0], [9.0], [2.0], [4.0]) == [3.0]


def test_trimmed_mean_cuts_a_whole_number_at_either_end():
    """A fifth of nine is one: the least and the greatest go; a tenth is none, and it is the mean."""
    values = [[float(v)] for v in (100, 1, 2, 3, 4, 5, 6, 7, -80)]
    assert merged(TrimmedMean(beta=0.2), *values) == [4.0]
    assert merged(TrimmedMean(beta=0.1), *values) == pytest.approx([48 / 9])


def test_krum_chooses_the_most_central():
    """The score is the sum of squared distances to the n - f - 2 nearest others."""
    values = [[0.0], [1.0], [3.0], [7.0], [100.0]]  # with f = 1, two nearest: 10, 5, 13, 52, ...
    assert merged(Krum(num_malicious=1), *values) == [1.0]
    assert merged(MultiKrum(num_malicious=1, num_selected=2), *values) == [0.5]


def test_krum_breaks_ties_by_site():
    """Each other's nearest score the same: the first by name is chosen, whoever came first."""
    came = [Contribution(site, {"x": np.array(v)}, 1.0) for site, v in (("c", 9.0), ("b", 1.0), ("a", 2.0))]
    assert Krum().merge({"x": np.array(0.0)}, iter(came), {}).tensors["x"] == 2.0


def test_krum_keeps_its_precision_far_from_the_origin():
    """Models that differ little, compared with their size, are still told apart."""
    came = [Contribution(str(n), {"x": np.array([1e9 + d])}, 1.0) for n, d in enumerate((0.0, 1.0, 3.0, 7.0, 9.0))]
    assert Krum(1).merge({"x": np.array([1e9])}, iter(came), {}).tensors["x"] == 1e9 + 1.0


def test_parts_join_without_a_seam():
    """A tensor compared in several parts is merged as one."""
    size = STACKED // 3 + 5
    ramp = np.arange(size, dtype=np.float32)
    came = [Contribution(str(n), {"x": ramp * factor}, 1.0) for n, factor in enumerate((1.0, 2.0, 4.0))]
    assert np.array_equal(CoordinateMedian().merge({"x": ramp}, iter(came), {}).tensors["x"], ramp * 2)


@pytest.mark.parametrize("strategy", ROBUST, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("poison", [1e30, -1e30, np.nan, np.inf])
def test_two_of_nine_cannot_steer(strategy, poison):
    """Two sites that send garbage, even NaN, do not move any coordinate out of the honest sites' range."""
    came = contributions()
    for bad in (1, 6):
        garbage = {n: np.full(a.shape, poison, a.dtype) if a.dtype == "f4" else a for n, a in came[bad].tensors.items()}
        came[bad] = replace(came[bad], tensors=garbage, weight=1e12)
    honest = np.stack([one.tensors["weight"] for n, one in enumerate(came) if n not in (1, 6)])
    got = strategy.merge(BASE, iter(came), {}).tensors["weight"]
    assert (got >= honest.min(axis=0) - 1e-6).all()
    assert (got <= honest.max(axis=0) + 1e-6).all()


@pytest.mark.parametrize("strategy", [CoordinateMedian(), TrimmedMean(), Krum(2)], ids=lambda s: type(s).__name__)
def test_weights_do_not_matter(strategy):
    """A site that overstates its number of examples gains nothing."""
    boasting = [replace(one, weight=1e9 if n == 2 else 1.0) for n, one in enumerate(contributions())]
    results = [strategy.merge(BASE, iter(came), {}).tensors for came in (boasting, contributions())]
    np.testing.assert_allclose(results[0]["bias"], results[1]["bias"], rtol=1e-15)


@given(stack=hnp.arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 5)), elements=st.floats(-1e6, 1e6)))
def test_median_is_numpys(stack):
    """Coordinate by coordinate it is numpy's median."""
    came = [Contribution(str(n), {"x": row}, 1.0) for n, row in enumerate(stack)]
    got = CoordinateMedian().merge({"x": stack[0]}, iter(came), {}).tensors["x"]
    np.testing.assert_allclose(got, np.median(stack, axis=0), rtol=1e-15)


def test_multi_krum_of_one_is_krum():
    """Selecting one is Krum itself."""
    one, krum = (s.merge(BASE, iter(contributions()), {}) for s in (MultiKrum(2, 1), Krum(2)))
    assert digest(one.tensors) == digest(krum.tensors)


def test_minimum_follows_the_paper():
    """Krum needs 2f + 3 contributions, Multi-Krum at least as many as it averages."""
    assert (Krum().minimum, Krum(2).minimum, MultiKrum(1, 4).minimum, MultiKrum(1, 9).minimum) == (3, 7, 5, 9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrimmedMean(beta=0.5), "beta must be at least 0 and below 0.5"),
        (lambda: TrimmedMean(beta=-0.1), "beta must be at least 0 and below 0.5"),
        (lambda: Krum(num_malicious=-1), "num_malicious must be at least 0"),
        (lambda: MultiKrum(num_malicious=-1), "num_malicious must be at least 0"),
        (lambda: MultiKrum(num_selected=0), "num_selected must be at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, message):
    """Options are checked when the strategy is made, by name."""
    with pytest.raises(ValueError, match=message):
        make()
