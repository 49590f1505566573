"""Rounding from float64 to any element type, once."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.values import DTYPES
from fedloom.versions.merging.coordinates import combined, narrowed
from tests.suites.merge_strategy import representable

NARROW = ["BF16", "F8_E4M3", "F8_E5M2", "F16"]


def nearest(value, numbers):
    """The nearest of all numbers of a type, exactly; of two, the one whose last bit is 0 (every second one)."""
    exact = Fraction(value)
    at = int(np.searchsorted(numbers, value))
    close = [n for n in (at - 1, at, at + 1) if 0 <= n < len(numbers)]
    zero = int(np.searchsorted(numbers, 0.0))
    return numbers[min(close, key=lambda n: (abs(Fraction(numbers[n]) - exact), (n - zero) % 2))]


@pytest.mark.parametrize("tag", NARROW)
@given(data=st.data())
def test_narrow_types_are_rounded_once(tag, data):
    """The result is the nearest number of the type, ties to even; beside a tie too, where a detour rounds twice."""
    numbers = representable(tag)
    low, high = data.draw(st.integers(0, len(numbers) - 2).map(lambda n: (numbers[n], numbers[n + 1])))
    middle = (low + high) / 2
    step = data.draw(st.sampled_from([0, 1, -1, 2**10, -(2**10), 2**24, -(2**24)]))
    value = middle + step * float(np.spacing(middle))
    got = narrowed(np.array([value, middle, low]), np.zeros(0, DTYPES[tag])).astype(np.float64)
    assert got.tolist() == [nearest(value, numbers), nearest(middle, numbers), low]


@pytest.mark.parametrize("tag", [*NARROW, "F32", "F64"])
def test_zeros_infinities_and_nan_pass(tag):
    """What is no number stays none, a zero keeps its sign, and what is too large is infinite (or NaN, without one)."""
    values = np.array([0.0, -0.0, np.nan, np.inf, -np.inf])
    with np.errstate(over="ignore"):
        got = narrowed(values.copy(), np.zeros(0, DTYPES[tag])).astype(np.float64)
        far = float(narrowed(np.array([1.7e308]), np.zeros(0, DTYPES[tag])).astype(np.float64)[0])
    assert np.signbit(got[:2]).tolist() == [False, True]
    assert np.isnan(got[2])
    if tag == "F8_E4M3":
        assert np.isnan(got[3:]).all()
        assert np.isnan(far)
    else:
        assert got[3:].tolist() == [np.inf, -np.inf]
        assert far == (1.7e308 if tag == "F64" else np.inf)


@pytest.mark.parametrize("tag", ["BOOL", "U8", "I8", "U32", "I64", "U64"])
def test_whole_numbers_round_half_to_even_and_stay_in_range(tag):
    """Beyond the ends of the type is the end, as near as float64 comes to it."""
    like = np.zeros(0, DTYPES[tag])
    got = narrowed(np.array([0.5, 1.5, 0.4, -1e30, 1e30]), like)
    if tag == "BOOL":
        assert got.tolist() == [False, True, False, False, True]
        return
    limits = np.iinfo(like.dtype)
    assert got[:4].tolist() == [0, 2, 0, limits.min]
    assert limits.max * (1 - 2**-52) <= int(got[4]) <= limits.max


def test_a_number_alone_is_rounded_too():
    """A tensor of no dimensions, such as a temperature."""
    assert narrowed(np.array(1.0 + 2.0**-8 + 2.0**-40), np.zeros((), DTYPES["BF16"])).astype(float) == 1.0078125


def test_combined_sums_in_order():
    """Sums go from the first to the last, so the same heads give the same last bit."""
    rows = np.array([[1e16], [1.0], [1.0]])
    assert combined(rows, [1.0, 1.0, 1.0])[0] == 1e16
    assert combined(rows[::-1], [1.0, 1.0, 1.0])[0] == 1e16 + 2
