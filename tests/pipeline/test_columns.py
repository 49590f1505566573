"""Text becomes numbers by the contract; what does not fit is counted, column by column."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.pipeline.columns import Counts
from tests.pipeline.tables import CODE, LABEL, NUMBER, WHOLE, read


@pytest.mark.parametrize(
    ("column", "cells", "values", "counts"),
    [
        (NUMBER, ["1", " 2.5", "1e1", None], [1, 2.5, 10, None], Counts(missing=1)),
        (NUMBER, ["-1", "120", "121"], [None, 120, None], Counts(out_of_range=2)),
        (NUMBER, ["x", "inf", "nan", "1_0", "", "0x10"], [None] * 6, Counts(unreadable=6)),
        (NUMBER, ["1_0", "7"], [None, 7], Counts(unreadable=1)),
        (NUMBER, ["x", "3", None, "500"], [None, 3, None, None], Counts(1, 1, 1)),
        (WHOLE, ["1", "2.0", "2.5", "1e2", "inf"], [1, 2, None, 100, None], Counts(unreadable=2)),
        (CODE, ["p", "r", "s", None, "P"], [0, 2, None, None, None], Counts(missing=1, unreadable=2)),
        (NUMBER, [], [], Counts()),
    ],
)
def test_cells_are_read_by_type_range_and_code(column, cells, values, counts):
    """A cell that fits becomes its number or the index of its code; any other becomes NaN and one count."""
    found = read({column.name: cells}, column, LABEL)
    expected = np.array([math.nan if v is None else v for v in values], float)
    np.testing.assert_array_equal(found.values[column.name], expected)
    assert found.counts[column.name] == counts
    assert found.rows == len(cells)
    assert found.absent == ("y",)


@given(st.lists(st.one_of(st.none(), st.floats(width=32).map(str), st.text(max_size=4)), max_size=20))
def test_every_cell_is_a_number_or_is_counted_once(cells):
    """Whatever stands in a column, good values and the three counts add up to its rows."""
    found = read({"age": cells}, NUMBER, LABEL)
    counts, values = found.counts["age"], found.values["age"]
    assert counts.missing + counts.unreadable + counts.out_of_range == np.isnan(values).sum()
    assert np.isfinite(values[~np.isnan(values)]).all()
    assert len(values) == len(cells)
