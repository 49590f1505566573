"""One-hot codes, held-out rows, and standardisation that is the same as if all rows lay in one place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from fedloom.learners.learner import Examples
from fedloom.pipeline.features import feature_names, identity, moments, outputs, scaling, split_rows, standardize
from fedloom.pipeline.spec import Split
from tests.pipeline.tables import CODE, LABEL, NUMBER, SPLIT, Column, contract, read

HALF = Split(test=0.5)


def parts(table, *columns, split=HALF, drop=True, seed=1, site="a"):
    made = contract(*columns)
    return split_rows(made, read(table, *columns), split, drop_missing=drop, seed=seed, site=site)


def numbered(rows, share=0.25):
    """A table whose `age` tells the row, and whose label is `yes` for a share of the rows."""
    return {"age": [str(n) for n in range(rows)], "y": ["yes" if n < rows * share else "no" for n in range(rows)]}


def test_the_first_code_is_the_reference():
    """K codes give k-1 columns, named by column and code; the width is known from the contract alone."""
    made = contract(NUMBER, CODE, Column("a=b", codes=("x", "c=d")), LABEL)
    assert feature_names(made) == ("age", "kind=q", "kind=r", "a=b=c=d")
    table = {"age": ["1", "2", "3"], "kind": ["p", "q", "r"], "a=b": ["c=d", "x", "x"], "y": ["no", "no", "yes"]}
    found = parts(table, *made.columns, split=Split(test=0.01)).train
    np.testing.assert_array_equal(found.features, [[1, 0, 0, 1], [2, 1, 0, 0], [3, 0, 1, 0]])
    np.testing.assert_array_equal(found.labels, [0, 0, 1])


@pytest.mark.parametrize(("codes", "wide"), [((), 1), (("a", "b"), 1), (("a", "b", "c"), 3)])
def test_how_many_outputs(codes, wide):
    """One for a number or two classes, else one a class."""
    assert outputs(contract(NUMBER, Column("y", role="label", codes=codes))) == wide


def test_missing_values_drop_the_row_or_are_filled_with_the_mean():
    """`drop` leaves such rows out; `mean` keeps them, and standardised they are 0: the mean."""
    table = {"age": ["1", None, "3", "5"], "y": ["no", "no", "yes", None]}
    columns = (NUMBER, LABEL)
    none_held_out = Split(test=0.01)
    assert len(parts(table, *columns, split=none_held_out).train) == 2
    kept = parts(table, *columns, split=none_held_out, drop=False).train
    assert len(kept) == 3
    by = scaling(moments(kept.features))
    assert by["mean"] == 2
    assert standardize(kept, by).features[1, 0] == 0


@given(rows=st.integers(0, 60), share=st.floats(0.05, 0.95), yes=st.floats(0, 1), seed=st.integers(0, 9))
def test_the_split_is_stratified_disjoint_and_whole(rows, share, yes, seed):
    """Every row is in exactly one part, and each class has the same share held out, to the nearest row."""
    found = parts(numbered(rows, yes), Column("age"), LABEL, split=Split(test=share), seed=seed)
    train, test = found.train.features[:, 0], found.test.features[:, 0]
    assert sorted([*train, *test]) == list(range(rows))
    for label in (0, 1):
        held, kept = (int(np.sum(part.labels == label)) for part in (found.test, found.train))
        assert held == round((held + kept) * share)


def test_the_split_belongs_to_seed_and_site():
    """Same seed and site, same rows; another seed or another site, other rows."""

    def held(seed, site):
        return parts(numbered(40), NUMBER, LABEL, seed=seed, site=site).test.features[:, 0].tolist()

    assert held(1, "a") == held(1, "a")
    assert held(1, "a") != held(2, "a")
    assert held(1, "a") != held(1, "b")


def test_a_column_can_say_what_is_held_out():
    """Rows go where their word says; a row without one is in neither part, for it may have been meant for the test."""
    table = {**numbered(4), "part": ["test", "train", None, "train"]}
    found = parts(table, NUMBER, LABEL, SPLIT, split=Split(column="part"))
    assert found.train.features[:, 0].tolist() == [1, 3]
    assert found.test.features[:, 0].tolist() == [0]


def test_a_number_as_label_is_not_stratified():
    """Regression: labels stay numbers, and the share is of all rows."""
    found = parts({"age": list("12345678"), "y": list("87654321")}, NUMBER, Column("y", role="label"))
    assert (len(found.train), len(found.test)) == (4, 4)
    assert found.train.labels.dtype == np.float64


def blocks(seed, sizes, offset=0.0):
    rng = np.random.default_rng(seed)
    return [rng.normal(offset, [1.0, 50.0, 1e-12], (n, 3)) for n in sizes]


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), sizes=st.lists(st.integers(1, 80), min_size=1, max_size=5))
def test_federated_scaling_is_sklearns_on_the_pooled_rows(seed, sizes):
    """Sums of sites give StandardScaler's mean and scale of all rows to 1e-9, however rows lie at sites."""
    sites = blocks(seed, sizes)
    sums = {"moments": np.sum([moments(rows)["moments"] for rows in sites], axis=0)}
    pooled = np.concatenate(sites)
    by, reference = scaling(sums), StandardScaler().fit(pooled)
    if len(pooled) == 1:
        assert by["scale"].tolist() == [1, 1, 1]
        return
    far = np.abs(pooled).max(axis=0)
    np.testing.assert_array_less(np.abs(by["mean"] - reference.mean_), 1e-9 * far)
    np.testing.assert_allclose(by["scale"], np.sqrt(reference.var_), rtol=1e-9)
    assert moments(pooled)["moments"].shape == (3, 3)


def test_the_mean_leaves_missing_values_out():
    """A NaN counts in neither count nor sums."""
    found = moments(np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, np.nan]]))["moments"]
    np.testing.assert_array_equal(found, [[2, 1], [4, 5], [10, 25]])
    assert scaling(moments(np.full((3, 1), np.nan)))["scale"] == 1


@given(value=st.floats(-1e12, 1e12), rows=st.integers(1, 3000), sites=st.integers(1, 4))
def test_a_constant_column_is_left_alone(value, rows, sites):
    """A column that does not vary has scale 1, not its rounding noise: a test row off it is not blown up."""
    sums = {"moments": np.sum([moments(np.full((rows, 1), value))["moments"]] * sites, axis=0)}
    by = scaling(sums)
    assert by["scale"] == 1
    np.testing.assert_allclose(by["mean"], value, rtol=1e-12)


def test_a_column_of_tiny_units_is_scaled():
    """Concentrations around 1e-10 vary as much as ages do."""
    rows = np.array([[1e-10], [3e-10]])
    np.testing.assert_allclose(scaling(moments(rows))["scale"], 1e-10)


def test_identity_changes_nothing():
    """Scaling by mean 0 and scale 1."""
    rows = Examples(np.array([[1.0, -2.0]]), np.array([1]))
    np.testing.assert_array_equal(standardize(rows, identity(2)).features, rows.features)
