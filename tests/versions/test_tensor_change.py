"""The distance between two tensors: a bit is a change, figures are those of the definition, NaN spoils nothing."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedloom.values import DTYPES, FLOATS
from fedloom.versions import tensor_change
from fedloom.versions.tensor_change import Shape, measure

VALUES = st.floats(-1e6, 1e6, width=32)


@pytest.fixture(autouse=True)
def in_pieces(monkeypatch):
    """Cut tensors into pieces of three elements, so that every test crosses their edges."""
    monkeypatch.setattr(tensor_change, "_STEP", 3)


@given(st.integers(0, 12).flatmap(lambda n: st.tuples(*[arrays.arrays(np.float32, n, elements=VALUES)] * 2)))
def test_figures_are_those_of_the_definition(pair):
    """Norm, relative norm, largest change and cosine, against NumPy in float64."""
    old, new = pair
    a, b = old.astype(np.float64), new.astype(np.float64)
    found = measure(old, new)
    length, other = np.linalg.norm(a), np.linalg.norm(b)
    assert found.norm == pytest.approx(np.linalg.norm(b - a), rel=1e-12, abs=1e-300)
    assert found.max_abs == np.abs(b - a).max(initial=0.0)
    assert found.relative == (pytest.approx(np.linalg.norm(b - a) / length, rel=1e-12) if length else None)
    cosine = pytest.approx(np.dot(a, b) / length / other, abs=1e-12) if length and other else None
    assert found.cosine == cosine
    assert found.changed == np.count_nonzero(old.view(np.uint32) != new.view(np.uint32))
    assert found.share == (found.changed / old.size if old.size else 0.0)
    assert (found.elements, found.not_finite) == (old.size, 0)


@pytest.mark.parametrize("tag", sorted(FLOATS))
def test_one_unit_in_the_last_place_is_a_change(tag):
    """In every floating type: one element, one representable number further, however small beside the rest."""
    dtype = DTYPES[tag]
    old = np.array([1.0, -2.0, 0.0, 1.5, 2.0], dtype=dtype)
    new = old.copy()
    bits = new.view(f"u{dtype.itemsize}")
    bits[3] += 1
    found = measure(old, new)
    assert (found.changed, found.share, found.ulps) == (1, 0.2, 1)
    assert found.max_abs == float(new[3]) - float(old[3]) > 0
    assert measure(old, old.copy()).changed == 0
    assert measure(old, old.copy()).ulps == 0


def test_units_are_counted_over_zero():
    """From the smallest negative number to the smallest positive one are three steps, by way of both zeros."""
    tiny = np.array([-5e-324, 5e-324])
    assert measure(tiny[:1], tiny[1:]).ulps == 3
    assert measure(np.array([-1.0]), np.array([np.nextafter(-1.0, 0)])).ulps == 1
    assert measure(np.array([0.0]), np.array([-1e308])).ulps > 2**62


def test_the_sign_of_zero_and_the_payload_of_nan_are_changes():
    """Bits differ where numbers compare equal or not at all."""
    zero = measure(np.array([0.0, 1.0], np.float32), np.array([-0.0, 1.0], np.float32))
    assert (zero.changed, zero.norm, zero.ulps) == (1, 0.0, 1)
    quiet, other = np.array([0x7FC00000, 0x7FC00001], np.uint32).view(np.float32)[:, None]
    found = measure(quiet, other)
    assert (found.changed, found.not_finite, found.norm, found.cosine) == (1, 1, 0.0, None)
    assert measure(quiet, quiet).changed == 0


def test_what_is_not_finite_is_counted_and_left_out():
    """One NaN or infinity on either side does not spoil the figures of the rest."""
    old = np.array([1.0, np.nan, np.inf, 3.0, 2.0])
    new = np.array([1.0, 1.0, -np.inf, np.nan, 4.0])
    found = measure(old, new)
    assert (found.not_finite, found.changed) == (3, 4)
    assert (found.norm, found.max_abs) == (2.0, 2.0)
    assert found.relative == pytest.approx(2 / np.sqrt(5))


def test_figures_neither_overflow_nor_vanish():
    """Squares of the largest and of the smallest numbers would."""
    large = measure(np.full(4, 1e200), np.full(4, 3e200))
    assert large.norm == pytest.approx(4e200)
    assert large.cosine == pytest.approx(1)
    small = measure(np.full(4, 1e-200), np.full(4, -1e-200))
    assert small.norm == pytest.approx(4e-200)
    assert small.cosine == pytest.approx(-1)
    too_far = measure(np.array([-1.7e308]), np.array([1.7e308]))
    assert (too_far.norm, too_far.max_abs, too_far.changed) == (None, None, 1)


def test_another_shape_or_type_is_told_and_not_measured():
    """There are no figures between tensors that do not fit."""
    found = measure(np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float64))
    assert (found.old, found.new) == (Shape("F32", (2, 3)), Shape("F64", (3, 2)))
    assert (found.elements, found.norm, found.changed, found.ulps) == (None, None, None, None)


@pytest.mark.parametrize("dtype", ["?", "u1", "i4", "u8", "i8"])
def test_whole_numbers_and_booleans_are_measured_without_units(dtype):
    """No wrap around, and no units in the last place."""
    found = measure(np.array([0, 1, 0, 1], dtype), np.array([1, 0, 0, 1], dtype))
    assert (found.changed, found.ulps, found.max_abs) == (2, None, 1.0)
    assert found.norm == pytest.approx(np.sqrt(2))


def test_tensors_that_are_empty_scalar_or_not_in_order():
    """No elements, one, and a transposed view."""
    empty = measure(np.zeros((0, 4)), np.zeros((0, 4)))
    assert (empty.elements, empty.changed, empty.share, empty.norm, empty.cosine) == (0, 0, 0.0, 0.0, None)
    assert measure(np.array(2.0), np.array(3.0)).norm == 1.0
    grid = np.arange(6.0).reshape(2, 3)
    turned = np.asfortranarray(grid)
    turned[0, 1] += 1
    assert measure(grid, turned).changed == 1
    assert measure(np.array([1], ml_dtypes.bfloat16), np.array([2], ml_dtypes.bfloat16)).norm == 1.0
