"""Figures about a conflict: right where they can be, None where not, and always JSON."""

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.versions.merging.coordinates import STACKED
from fedloom.versions.merging.disagreement import disagreement
from fedloom.versions.objects import Conflict, decode_conflict, encode_conflict


def test_figures_of_two_heads():
    """Changes (1, 0, 2) and (0, 3, -1) of a base of norm 3."""
    base = np.array([2.0, 2.0, 1.0], np.float32)
    got = disagreement(base, [base + np.float32([1, 0, 2]), base + np.float32([0, 3, -1])])
    assert got["cosine"] == pytest.approx(-2 / math.sqrt(5 * 10), abs=1e-6)
    assert got["opposite_signs"] == 1.0  # of the one number that both changed
    assert got["relative_norms"] == pytest.approx([math.sqrt(5) / 3, math.sqrt(10) / 3], abs=1e-6)


def test_of_several_heads_the_worst_pair_counts():
    """The least cosine and the greatest share of opposite signs; a norm for each."""
    got = disagreement(np.zeros(2), [np.array([1.0, 1.0]), np.array([1.0, 1.0]), np.array([-1.0, 1.0])])
    assert (got["cosine"], got["opposite_signs"]) == (0.0, 0.5)
    assert got["relative_norms"] == [None, None, None]  # the base has no length


def test_without_a_base_values_are_compared():
    """Added by both: how alike they are; there is nothing to relate norms to. So too where the base was smaller."""
    heads = [np.array([1.0, 0.0]), np.array([1.0, 1.0])]
    for base in (None, np.zeros(1)):
        assert disagreement(base, heads) == {
            "cosine": pytest.approx(math.sqrt(0.5), abs=1e-6),
            "opposite_signs": 0.0,
            "relative_norms": [None, None],
        }


@pytest.mark.parametrize(
    "head", [np.array([1.0, 2.0]), np.array([np.nan, 1.0]), np.array([np.inf, 1.0]), np.array([1e200, 1e200])]
)
def test_what_is_no_number_is_none(head):
    """No change at all, NaN, infinity, or beyond float64: None, and the conflict can be stored."""
    got = disagreement(np.array([1.0, 2.0]), [head, np.array([1.0, 3.0])])
    assert got["cosine"] is None
    stored = encode_conflict(Conflict("model/w", "contested", None, (), got))
    assert decode_conflict(stored.header + bytes(stored.payload)).stats == got


def test_a_ratio_beyond_all_numbers_is_none():
    """A tiny base and a huge change: each norm is a number, their ratio is not."""
    got = disagreement(np.array([1e-161]), [np.array([1e153]), np.array([2e-161])])
    assert got["relative_norms"] == [None, 1.0]


@given(
    arrays=st.lists(hnp.arrays(np.float32, (4,), elements=st.floats(width=32)), min_size=3, max_size=4),
    narrow=st.booleans(),
)
def test_always_finite_and_in_range(arrays, narrow):
    """Whatever the bits: cosines within -1 and 1, shares within 0 and 1, in any order of the heads."""
    with np.errstate(all="ignore"):
        base, *heads = [array.astype(ml_dtypes.bfloat16) if narrow else array for array in arrays]
    got, turned = disagreement(base, heads), disagreement(base, heads[::-1])
    encode_conflict(Conflict("model/w", "contested", None, (), got))
    assert got["cosine"] is None or abs(got["cosine"]) <= 1.0
    assert got["opposite_signs"] is None or 0.0 <= got["opposite_signs"] <= 1.0
    assert (got["cosine"], got["opposite_signs"]) == (turned["cosine"], turned["opposite_signs"])
    assert got["relative_norms"] == turned["relative_norms"][::-1]


def test_parts_join_without_a_seam():
    """A large tensor is compared in parts, to the same figures."""
    size = STACKED // 3 + 5
    ones = np.ones(size)
    got = disagreement(ones, [ones * 2, ones * np.where(np.arange(size) % 2, 0, 3)])
    assert got["opposite_signs"] == pytest.approx(0.5, abs=1e-5)
    assert got["relative_norms"] == pytest.approx([1.0, math.sqrt(2.5)], abs=1e-4)


def test_empty_tensors():
    """Nothing to compare is None."""
    empty = np.zeros((0, 3))
    assert disagreement(empty, [empty, empty]) == {"cosine": None, "opposite_signs": None, "relative_norms": [None] * 2}
