"""Pooled statistics are those of all rows in one place, to the last digits, or a conflict."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.errors import VersionsError
from fedloom.pipeline import features
from fedloom.values import generator
from fedloom.versions.merging.pooling import (
    Group,
    Moments,
    NoCounts,
    groups,
    pool,
    pooled_moments,
    pooled_sums,
    standardization,
)

SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=4)
BN = Group("batch_norm", {"mean": "m/bn.running_mean", "var": "m/bn.running_var", "count": "m/bn.num_batches_tracked"})
SCALER = Group("scaler", {"mean": "p/mean", "var": "p/var", "scale": "p/scale", "count": "p/count"})
FIT = Group(
    "moments",
    {
        "sums": "preprocessing/moments/moments",
        "mean": "preprocessing/scaling/mean",
        "scale": "preprocessing/scaling/scale",
    },
)


def rows_of(word, count, offset=0.0):
    return generator("pooling", word).normal(offset, 1.0, (count, 3)) * [1.0, 10.0, 0.01]


def moments_of(rows):
    return Moments(np.array(float(len(rows))), rows.mean(axis=0), rows.var(axis=0))


def sums_of(rows):
    return np.stack([np.full(3, float(len(rows))), rows.sum(axis=0), (rows**2).sum(axis=0)])


def scaler_of(rows, dtype=np.float64):
    made = {"mean": rows.mean(axis=0), "var": rows.var(axis=0), "scale": rows.std(axis=0)}
    return {
        **{f"p/{name}": value.astype(dtype) for name, value in made.items()},
        "p/count": np.array(len(rows), np.int64),
    }


def batch_norm_of(rows, count, dtype=np.float64):
    return {
        "m/bn.running_mean": rows.mean(axis=0).astype(dtype),
        "m/bn.running_var": rows.var(axis=0).astype(dtype),
        "m/bn.num_batches_tracked": np.array(count, np.int64),
    }


def fit_of(rows):
    sums = sums_of(rows)
    return {"preprocessing/moments/moments": sums} | {
        f"preprocessing/scaling/{name}": value for name, value in features.scaling({"moments": sums}).items()
    }


@given(old=st.integers(0, 60), new=SIZES, offset=st.sampled_from([0.0, 5.0, -100.0]))
@settings(max_examples=60)
def test_moments_are_those_of_all_rows(old, new, offset):
    """Base and heads that each saw the base's rows and some of their own: numpy's mean and variance of all of them."""
    before = rows_of("base", old)
    own = [rows_of(n, count, offset * n) for n, count in enumerate(new)]
    base = moments_of(before) if old else None
    got = pooled_moments(base, [moments_of(np.concatenate([before, more])) for more in own])
    together = np.concatenate([before, *own])
    assert float(got.count) == len(together)
    np.testing.assert_allclose(got.mean, together.mean(axis=0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(got.variance, together.var(axis=0), rtol=1e-12, atol=1e-18)


def test_a_large_mean_costs_no_digits_of_the_variance():
    """Far from zero, sums of squares around zero would have lost the variance altogether."""
    own = [rows_of(n, 50) + 1e6 for n in range(3)]
    got = pooled_moments(None, [moments_of(rows) for rows in own])
    exact = (np.concatenate(own) - 1e6).var(axis=0)
    np.testing.assert_allclose(got.variance[:2], exact[:2], rtol=1e-9)


@given(old=st.integers(0, 40), new=SIZES)
@settings(max_examples=40)
def test_sums_are_those_of_all_rows(old, new):
    """Count, sum and sum of squares: the base's, and what each head added; the heads' order does not matter."""
    before, own = rows_of("base", old), [rows_of(n, count) for n, count in enumerate(new)]
    heads = [sums_of(np.concatenate([before, more])) for more in own]
    got = pooled_sums(sums_of(before) if old else None, heads)
    expected = sums_of(np.concatenate([before, *own]))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13 * scale)
    np.testing.assert_allclose(got, pooled_sums(sums_of(before) if old else None, heads[::-1]), atol=1e-13 * scale)


def test_counts_are_added_exactly():
    """Whole numbers beyond float64's reach add up; what no longer fits is said, not wrapped around."""
    big = 2**62 + 1
    heads = [np.array([big + 1]), np.array([big + 2])]
    assert pooled_sums(np.array([big]), heads).tolist() == [big + 3]
    with pytest.raises(VersionsError, match="do not fit int64"):
        pooled_sums(None, [np.array([2**62]), np.array([2**62])])


@given(old=st.integers(1, 40), new=SIZES, dtype=st.sampled_from([np.float64, np.float32, ml_dtypes.bfloat16]))
@settings(max_examples=40)
def test_a_scaler_is_that_of_all_rows(old, new, dtype):
    """Mean, variance and scale come out as if fitted anew, in the dtype they were in."""
    before, own = rows_of("base", old), [rows_of(n, count, 2.0) for n, count in enumerate(new)]
    heads = [scaler_of(np.concatenate([before, more]), dtype) for more in own]
    got = pool(SCALER, scaler_of(before, dtype), heads)
    expected = scaler_of(np.concatenate([before, *own]))
    if dtype == np.float64:
        for name in expected:
            np.testing.assert_allclose(got[name], expected[name], rtol=1e-9, atol=1e-12, err_msg=name)
    assert int(got["p/count"]) == old + sum(new)
    assert {name: array.dtype for name, array in got.items()} == {name: array.dtype for name, array in heads[0].items()}


def test_a_scaler_with_a_scale_only_is_pooled_by_it():
    """Variance is the scale squared; a constant feature keeps the scale 1 of a scaler that has a variance."""
    group = Group("scaler", {"mean": "p/mean", "scale": "p/scale", "count": "p/count"})
    own = [rows_of(n, 40, n) for n in range(2)]
    heads = [{name: value for name, value in scaler_of(rows).items() if name != "p/var"} for rows in own]
    got = pool(group, None, heads)
    np.testing.assert_allclose(got["p/scale"], np.concatenate(own).std(axis=0), rtol=1e-12)
    constant = scaler_of(np.full((5, 3), 7.0)) | {"p/scale": np.ones(3)}
    other = constant | {"p/count": np.array(9)}
    assert pool(SCALER, None, [constant, other])["p/scale"].tolist() == [1.0, 1.0, 1.0]


@given(counts=st.lists(st.integers(1, 50), min_size=1, max_size=4), before=st.integers(0, 100))
@settings(max_examples=40)
def test_batch_norm_has_the_total_variance_of_what_was_seen_since(counts, before):
    """Running mean and variance are those of all batches since the base; the base's own rows have no part in them."""
    own = [rows_of(n, count, 3.0 * n) for n, count in enumerate(counts)]
    base = batch_norm_of(rows_of("base", 20), before)
    heads = [batch_norm_of(rows, before + len(rows)) for rows in own]
    got, together = pool(BN, base, heads), np.concatenate(own)
    np.testing.assert_allclose(got["m/bn.running_mean"], together.mean(axis=0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(got["m/bn.running_var"], together.var(axis=0), rtol=1e-12, atol=1e-18)
    assert int(got["m/bn.num_batches_tracked"]) == before + sum(counts)


def test_batch_norm_is_not_averaged_as_weights_are():
    """Two sites of different means: the variance between them counts."""
    heads = [batch_norm_of(np.full((4, 3), level), 4) for level in (0.0, 2.0)]
    assert pool(BN, None, heads)["m/bn.running_var"].tolist() == [1.0, 1.0, 1.0]


@given(old=st.integers(1, 40), new=SIZES)
@settings(max_examples=30)
def test_the_fit_stage_is_repeated_on_all_rows(old, new):
    """Mean and scale are what the stage makes of the pooled sums, to the last bit."""
    before, own = rows_of("base", old), [rows_of(n, count) for n, count in enumerate(new)]
    got = pool(FIT, fit_of(before), [fit_of(np.concatenate([before, more])) for more in own])
    sums = got["preprocessing/moments/moments"]
    expected = np.concatenate([before, *own])
    np.testing.assert_allclose(sums, sums_of(expected), rtol=1e-11, atol=1e-11)
    for name, value in features.scaling({"moments": sums}).items():
        assert got[f"preprocessing/scaling/{name}"].tobytes() == value.tobytes()
    np.testing.assert_allclose(got["preprocessing/scaling/mean"], expected.mean(axis=0), rtol=1e-10, atol=1e-12)


def test_standardization_is_the_fit_stages_own():
    """Constant, unseen and ordinary features: the same bytes as the pipeline makes."""
    rounded = [sums_of(np.full((count, 3), 0.1 * count)) for count in range(1, 60)]  # constant, but for rounding
    sums = np.concatenate([np.array([[4.0, 0.0, 4.0], [28.0, 0.0, 2.0], [196.0, 0.0, 9.0]]), *rounded], axis=1)
    assert (standardization(sums)["scale"][3:] == 1.0).all()
    for name, value in features.scaling({"moments": sums}).items():
        assert standardization(sums)[name].tobytes() == value.tobytes()


@pytest.mark.parametrize("group", [BN, SCALER, FIT], ids=lambda group: group.kind)
def test_a_head_like_the_base_changes_nothing(group):
    """It has seen nothing since: with it or without it, the result is the same; alone, it is the base."""
    make = {"batch_norm": lambda rows: batch_norm_of(rows, len(rows)), "scaler": scaler_of, "moments": fit_of}[
        group.kind
    ]
    before = rows_of("base", 20)
    base, head = make(before), make(np.concatenate([before, rows_of("more", 9)]))
    with_it, without = pool(group, base, [base, head]), pool(group, base, [head])
    assert {name: array.tobytes() for name, array in with_it.items()} == {
        name: array.tobytes() for name, array in without.items()
    }
    assert {name: array.tobytes() for name, array in pool(group, base, [base]).items()} == {
        name: array.tobytes() for name, array in base.items()
    }


def without(tensors, name):
    return {key: value for key, value in tensors.items() if key != name}


ROWS = np.concatenate([rows_of("x", 30)])
NEW = np.concatenate([ROWS, rows_of("y", 10)])


@pytest.mark.parametrize(
    ("group", "base", "heads", "reason"),
    [
        (SCALER, None, [without(scaler_of(ROWS), "p/count"), scaler_of(NEW)], "head 1 has no 'p/count'"),
        (SCALER, without(scaler_of(ROWS), "p/count"), [scaler_of(NEW)], "the base has no 'p/count'"),
        (SCALER, scaler_of(NEW), [scaler_of(ROWS)], "a head counts less than the base"),
        (SCALER, None, [scaler_of(ROWS) | {"p/count": np.array(-1)}], "negative or no number"),
        (SCALER, None, [scaler_of(ROWS) | {"p/count": np.array(np.nan)}], "negative or no number"),
        (SCALER, None, [scaler_of(ROWS), scaler_of(ROWS) | {"p/mean": np.zeros(4)}], "'p/mean' of head 2 has shape"),
        (Group("scaler", {"mean": "p/mean", "var": "p/var"}), None, [scaler_of(ROWS)], "there is no count beside"),
        (BN, batch_norm_of(ROWS, 5), [batch_norm_of(NEW, 5)], "counts no batch since the base"),
        (BN, batch_norm_of(ROWS, 5), [batch_norm_of(NEW, 4)], "a head counts less than the base"),
        (FIT, fit_of(NEW), [fit_of(ROWS)], "a head counts less than the base"),
        (FIT, None, [without(fit_of(ROWS), "preprocessing/moments/moments")], "head 1 has no 'preprocessing/moments"),
    ],
)
def test_without_counts_that_make_sense_it_is_a_conflict(group, base, heads, reason):
    """Nothing is guessed: the answer says what is missing."""
    got = pool(group, base, heads)
    assert isinstance(got, NoCounts)
    assert reason in got.reason


def test_groups_are_found_by_name():
    """Layers of batch normalisation in the model, scalers in the preprocessing; a parameter named `mean` is neither."""
    names = [
        *("model/a.running_mean", "model/a.running_var", "model/a.num_batches_tracked", "model/a.weight"),
        *("model/b.running_mean", "model/b.running_var", "model/c.running_mean", "model/mean", "model/scale"),
        *(f"preprocessing/{name}" for name in ("moments/moments", "scaling/mean", "scaling/scale", "features")),
        *("preprocessing/age/mean", "preprocessing/age/var", "preprocessing/age/count", "preprocessing/lone/mean"),
    ]
    found = groups(names)
    assert [(group.kind, group.members) for group in found] == [
        ("moments", FIT.members),
        (
            "batch_norm",
            {"mean": "model/a.running_mean", "var": "model/a.running_var", "count": "model/a.num_batches_tracked"},
        ),
        ("batch_norm", {"mean": "model/b.running_mean", "var": "model/b.running_var"}),
        (
            "scaler",
            {"mean": "preprocessing/age/mean", "var": "preprocessing/age/var", "count": "preprocessing/age/count"},
        ),
    ]
    assert groups(reversed(names)) == found


def test_a_scaling_without_its_sums_is_a_scaler_without_a_count():
    """What the `fit` stage left before it kept its sums is found, and is a conflict."""
    (group,) = groups(["preprocessing/scaling/mean", "preprocessing/scaling/scale"])
    heads = [without(fit_of(rows), "preprocessing/moments/moments") for rows in (ROWS, NEW)]
    assert isinstance(pool(group, None, heads), NoCounts)
